"""Every kind of content: what is written comes back, and what is wrong is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import Malformed, TooLarge
from raychat.ids import PhoneNumber
from raychat.wire import content
from raychat.wire.content import (
    Contact,
    Edit,
    Kind,
    Known,
    Location,
    Mention,
    Poll,
    Preview,
    Reaction,
    Reply,
    Resend,
    Sent,
    Setting,
    Settings,
    Text,
    Timer,
    Unknown,
    Vote,
)
from tests.wire.contents import BOB, NAME, NOW, SAMPLES, known


def raw_of(sample: Known) -> list[Any]:
    raw = msgpack.unpackb(content.encode(sample))
    assert isinstance(raw, list)
    return raw


def test_there_is_a_sample_of_each_kind_and_it_comes_back() -> None:
    assert [content.kind_of(sample) for sample in SAMPLES] == sorted(Kind)
    for sample in SAMPLES:
        assert content.decode(content.encode(sample)) == sample


def test_the_page_names_each_kind_and_field() -> None:
    page = (Path(content.__file__).parent / "CONTENT.md").read_text()
    for sample in SAMPLES:
        assert f"\n| {content.kind_of(sample)} |" in page
        for field in sample.fields():
            assert f"`{field}`" in page, field


@given(known)
def test_what_is_written_comes_back(said: Known) -> None:
    assert content.decode(content.encode(said)) == said


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_no_repr_shows_what_was_written(sample: Known) -> None:
    shown = repr(sample)
    assert "secret" not in shown
    assert "0001111" not in shown


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_fields_of_a_later_version_are_ignored(sample: Known) -> None:
    version, kind, at, fields = raw_of(sample)
    later = msgpack.packb([version, kind, at, {**fields, "later": [1, {"x": None}]}, "later"])
    assert content.decode(later) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_each_field_of_a_wrong_kind_is_refused(sample: Known) -> None:
    version, kind, at, fields = raw_of(sample)
    for name in fields:
        wrong = [
            value for value in (-1, 1.5, [[]], {}, b"") if type(value) is not type(fields[name])
        ]
        for value in wrong:
            if name == "number":  # a claim that is none is as good as none
                continue
            if name in ("preview", "reply") and not value:
                pass
            with pytest.raises(Malformed):
                content.decode(msgpack.packb([version, kind, at, {**fields, name: value}]))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_content_with_a_field_of_anything_does_no_harm(
    sample: Known, data: st.DataObject
) -> None:
    version, kind, at, fields = raw_of(sample)
    name = data.draw(st.sampled_from(sorted(fields)))
    with suppress(Malformed, TooLarge):
        read = content.decode(
            msgpack.packb([version, kind, at, {**fields, name: data.draw(anything)}])
        )
        assert content.kind_of(read) == kind
        assert content.decode(content.encode(read)) == read


@given(st.sampled_from(SAMPLES), st.data())
def test_a_content_with_a_byte_changed_does_no_harm(sample: Known, data: st.DataObject) -> None:
    whole = bytearray(content.encode(sample))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    with suppress(Malformed, TooLarge):
        content.decode(bytes(whole))


@pytest.mark.parametrize(
    "said",
    [
        Text(NOW, "hi", forwarded=limits.FORWARDED + 1),
        Text(NOW, "hi", expires=limits.TIMER_SECONDS + 1),
        Text(NOW, "hi", reply=Reply(NAME, "x" * (limits.SNIPPET_CHARS + 1))),
        Text(NOW, "hi", reply=Reply(NAME._replace(account=BOB[:15]), "x")),  # type: ignore[arg-type]
        Text(NOW, "hi", mentions=(Mention(1, 2, BOB),)),
        Text(NOW, "hi", mentions=(Mention(0, 0, BOB),)),
        Text(NOW, "hi", mentions=(Mention(0, 2, BOB), Mention(1, 1, BOB))),
        Text(NOW, "hi" * 99, mentions=tuple(Mention(i, 1, BOB) for i in range(65))),
        Text(NOW, "hi", preview=Preview("")),
        Text(NOW, "hi", preview=Preview("x", "y" * (limits.PREVIEW_CHARS + 1))),
        Text(-1, "hi"),
        Text(2**53, "hi"),
        Edit(NOW, NAME, ""),
        Edit(NOW, NAME._replace(id=0), "hi"),  # type: ignore[arg-type]
        Reaction(NOW, NAME, "x" * (limits.REACTION_BYTES + 1)),
        Contact(NOW, ""),
        Contact(NOW, "x" * (limits.NAME_CHARS + 1)),
        Contact(NOW, "x", (PhoneNumber("+1"),) * (limits.CARD_NUMBERS + 1)),
        Contact(NOW, "x", (PhoneNumber("1555"),)),
        Location(NOW, 90.1, 0.0),
        Location(NOW, 0.0, -180.1),
        Location(NOW, float("nan"), 0.0),
        Location(NOW, 0.0, 0.0, float("inf")),
        Poll(NOW, "?", ("one",)),
        Poll(NOW, "?", ("same", "same")),
        Poll(NOW, "?", tuple(map(str, range(limits.POLL_OPTIONS + 1)))),
        Vote(NOW, NAME, (limits.POLL_OPTIONS,)),
        Vote(NOW, NAME, (1, 0)),
        Vote(NOW, NAME, (1, 1)),
        Timer(NOW, limits.TIMER_SECONDS + 1),
        Timer(NOW, -1),
        Settings(NOW, ()),
        Settings(NOW, (Setting(BOB, "x" * 33, True),)),
        Settings(NOW, (Setting(BOB, "name", "x" * (limits.SETTING_BYTES + 1)),)),
        Settings(NOW, (Setting(BOB, "muted", -1),)),
        Resend(NOW, NAME[1:], b""),  # type: ignore[arg-type]
    ],
)
def test_what_its_reader_would_refuse_is_not_sent(said: Known) -> None:
    with pytest.raises(Malformed):
        content.encode(said)


def test_a_content_in_another_may_be_as_large_as_one_alone() -> None:
    most = Text(NOW, "x" * (content.MAX_BYTES - 40))
    inner = content.encode(most)
    fill = "x" * (len(most.text) + content.MAX_BYTES - len(inner))
    inner = content.encode(Text(NOW, fill))
    assert len(inner) == content.MAX_BYTES
    for wrapped in (Sent(NOW, BOB, NAME, NOW, inner), Resend(NOW, NAME[1:], inner)):  # type: ignore[arg-type]
        assert content.decode(content.encode(wrapped)) == wrapped
    with pytest.raises(TooLarge):
        content.encode(Text(NOW, fill + "x"))


def test_only_what_a_person_sees_is_shown() -> None:
    shown = [type(sample) for sample in SAMPLES if content.is_shown(sample)]
    assert shown == [Text, Contact, Location, Poll]
    assert content.is_shown(Unknown(NOW, 1, 99, b"?"))


def test_a_mention_counts_characters_not_bytes() -> None:
    said = Text(NOW, "👋🏽 @bob", mentions=(Mention(3, 4, BOB),))
    read = content.decode(content.encode(said))
    assert isinstance(read, Text)
    (mention,) = read.mentions
    assert read.text[mention.start :][: mention.length] == "@bob"
