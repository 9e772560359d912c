"""Contents: what is written comes back, lengths are hidden, any bytes do no harm."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.errors import Malformed, RaychatError, TooLarge
from raychat.ids import DeviceId, PhoneNumber
from raychat.wire import content
from raychat.wire.content import Mark, Read, Text, Unknown
from tests.wire.contents import SAMPLES

NOW = 1_700_000_000_000
times = st.integers(0, 2**53 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)
numbers = st.none() | st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True).map(PhoneNumber)
ids = st.integers(1, 2**40 - 1)
ranges = st.lists(ids, min_size=1, max_size=20).map(lambda ends: [e for x in ends for e in (x, x)])
marks = st.builds(
    Mark, st.integers(1, 127).map(DeviceId), st.integers(1, 9), ranges
)  # fmt: skip


@given(times, words, numbers)
def test_a_text_comes_back(at: int, text: str, number: PhoneNumber | None) -> None:
    written = Text(at, text, number)
    assert content.decode(content.encode(written)) == written


@given(times, st.lists(marks, min_size=1, max_size=8))
def test_a_read_message_comes_back(at: int, marks: list[Mark]) -> None:
    assert content.decode(content.encode(Read(at, marks))) == Read(at, marks)


@given(st.integers(0, 300), st.integers(0, 300), times)
def test_another_version_or_kind_is_kept_whole(version: int, kind: int, at: int) -> None:
    if version == 1 and kind in set(content.Kind):
        kind = 300
    data = msgpack.packb([version, kind, at, {"text": "hi", "marks": [[1, 1, [1, 1]]]}, "more"])
    assert content.decode(data) == Unknown(at, version, kind, data)
    assert content.encode(Unknown(at, version, kind, data)) == data


def test_unknown_fields_are_ignored() -> None:
    data = msgpack.packb([1, 1, NOW, {"text": "hi", "mood": {"deep": [1, None]}}, "later"])
    assert content.decode(data) == Text(NOW, "hi")


@pytest.mark.parametrize("claim", ["5550001", "+", "+12a", "+" + "1" * 30, 5, b"+1", "+١٢٣٤٥٦٧"])
def test_a_claim_that_is_no_number_is_dropped(claim: object) -> None:
    data = msgpack.packb([1, 1, NOW, {"text": "hi", "number": claim}])
    assert content.decode(data) == Text(NOW, "hi")


@given(st.binary(max_size=700))
def test_padding_comes_off_and_hides_the_length(data: bytes) -> None:
    padded = content.pad(data)
    assert len(padded) % content.BLOCK == 0
    assert len(padded) - len(data) <= content.BLOCK
    assert content.unpad(padded) == data


@pytest.mark.parametrize("plaintext", [b"", bytes(160), b"hello", b"\x80\x01" + bytes(158)])
def test_damaged_padding_is_malformed(plaintext: bytes) -> None:
    with pytest.raises(Malformed):
        content.unpad(plaintext)


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {},
        7,
        [1, 1],
        [1, 1, NOW],
        [1, 1, NOW, []],
        [1, 1, NOW, {"text": ""}],
        [1, 1, NOW, {"text": b"hi"}],
        [1, 1, -1, {"text": "hi"}],
        [1, True, NOW, {"text": "hi"}],
        [1, 1, 1.5, {"text": "hi"}],
        [1, 2, NOW, {}],
        [1, 2, NOW, {"marks": []}],
        [1, 2, NOW, {"marks": [[1, 1]]}],
        [1, 2, NOW, {"marks": [[0, 1, [1, 1]]]}],
        [1, 2, NOW, {"marks": [[128, 1, [1, 1]]]}],
        [1, 2, NOW, {"marks": [[1, 1, [1]]]}],
        [1, 2, NOW, {"marks": [[1, 1, [2, 1]]]}],
        [1, 2, NOW, {"marks": [[1, 1, [0, 1]]]}],
        [1, 2, NOW, {"marks": [[1, 1, [1, 2**41]]]}],
        [1, 2, NOW, {"marks": [[1, 1, [1, 1] * 129]]}],
        [1, 2, NOW, {"marks": [[1, 1, [1, 1]]] * 65}],
        [1, 1, NOW, {5: "hi"}],
    ],
)
def test_what_is_no_content_is_malformed(raw: object) -> None:
    with pytest.raises(Malformed):
        content.decode(msgpack.packb(raw))


def test_too_long_is_said_before_it_is_sent() -> None:
    with pytest.raises(TooLarge):
        content.encode(Text(NOW, "x" * content.MAX_BYTES))
    with pytest.raises(TooLarge):
        content.decode(bytes(content.MAX_WRAPPED_BYTES + 1))


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_what_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        content.encode(Text(NOW, text))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_content_or_a_typed_error(data: bytes) -> None:
    for decoder in (content.unpad, content.decode):
        try:
            decoder(data)
        except RaychatError as error:
            assert isinstance(error, Malformed | TooLarge)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


names = sorted({name for sample in SAMPLES for name in sample.fields()})


@given(
    st.lists(anything, max_size=5),
    st.sampled_from(sorted(content.Kind)),
    st.dictionaries(st.sampled_from(names), anything),
)
def test_any_msgpack_is_a_content_or_malformed(
    tail: list[object], kind: int, fields: object
) -> None:
    for raw in (tail, [1, kind, NOW, fields], [1, kind, NOW, *tail]):
        with suppress(Malformed):
            content.decode(msgpack.packb(raw))


def test_nesting_without_end_is_malformed() -> None:
    with pytest.raises(Malformed):
        content.decode(b"\x91" * 30_000)


def test_no_repr_shows_what_was_written() -> None:
    shown = repr([Text(NOW, "a secret", PhoneNumber("+15550001111")), Unknown(1, 9, 9, b"secret")])
    assert "secret" not in shown
    assert "0001" not in shown
