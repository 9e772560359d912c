from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair
from raychat.crypto.group_message import (
    SenderKeyDistribution,
    SenderKeyMessage,
    new_distribution_id,
)
from raychat.crypto.protobuf import bytes_field, number_field
from raychat.errors import (
    BadSignature,
    CryptoError,
    InvalidMessage,
    LegacyVersion,
    UnknownVersion,
)
from raychat.limits import CIPHERTEXT_BYTES
from tests.crypto.group import GROUP, group_corruptions

PAIR = KeyPair.generate()
BOTH = pytest.mark.parametrize("parse", [SenderKeyMessage.parse, SenderKeyDistribution.parse])


def sealed(ciphertext: bytes = bytes(16)) -> SenderKeyMessage:
    return SenderKeyMessage.seal(
        distribution=GROUP,
        chain_id=0x7FFF_FFFF,
        iteration=0,
        ciphertext=ciphertext,
        signing_key=PAIR.private,
    )


def distribution() -> SenderKeyDistribution:
    return SenderKeyDistribution(GROUP, 0, 0, b"k" * 32, PAIR.public)


def test_a_message_is_read_as_it_was_written() -> None:
    message = sealed()
    assert SenderKeyMessage.parse(message.body) == message
    message.verify(PAIR.public)


def test_a_distribution_is_read_as_it_was_written() -> None:
    assert SenderKeyDistribution.parse(distribution().to_bytes()) == distribution()


def test_zero_is_written_out() -> None:
    assert sealed().body[:1] == b"\x33"
    assert number_field(3, 0) in sealed().body
    assert number_field(2, 0) + number_field(3, 0) in distribution().to_bytes()


def test_the_signature_covers_every_field_and_is_of_one_key() -> None:
    for name, body in group_corruptions(sealed().body):
        with pytest.raises(CryptoError):
            SenderKeyMessage.parse(body).verify(PAIR.public)
            pytest.fail(f"accepted with a damaged {name}")
    with pytest.raises(BadSignature):
        sealed().verify(KeyPair.generate().public)


def test_the_signature_covers_the_version_byte() -> None:
    body = b"\x34" + sealed().body[1:]
    with pytest.raises(BadSignature):
        SenderKeyMessage.parse(body).verify(PAIR.public)


def test_a_distribution_does_not_show_its_key() -> None:
    shown = repr(distribution())
    assert "kkkk" not in shown
    assert (b"k" * 4).hex() not in shown


def test_distribution_ids_are_random() -> None:
    assert len({new_distribution_id() for _ in range(10)}) == 10
    assert len(new_distribution_id()) == 16


@BOTH
def test_other_versions_are_refused_by_name(parse: type) -> None:
    with pytest.raises(LegacyVersion):
        parse(b"\x24" + bytes(80))
    with pytest.raises(UnknownVersion):
        parse(b"\x44" + bytes(80))


@BOTH
def test_too_short_and_too_long_messages_are_refused(parse: type) -> None:
    long = sealed(bytes(CIPHERTEXT_BYTES)).body
    filled = distribution().to_bytes() + bytes_field(9, bytes(CIPHERTEXT_BYTES))
    for body in (b"", b"\x33", b"\x33" + bytes(63), long, filled):
        with pytest.raises(InvalidMessage):
            parse(body)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_a_message_without_a_field_is_refused(missing: int) -> None:
    parts = {
        1: bytes_field(1, GROUP),
        2: number_field(2, 1),
        3: number_field(3, 1),
        4: bytes_field(4, bytes(16)),
    }
    SenderKeyMessage.parse(b"\x33" + b"".join(parts.values()) + bytes(64))
    content = b"".join(part for number, part in parts.items() if number != missing)
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        SenderKeyMessage.parse(b"\x33" + content + bytes(64))


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5])
def test_a_distribution_without_a_field_is_refused(missing: int) -> None:
    parts = {
        1: bytes_field(1, GROUP),
        2: number_field(2, 1),
        3: number_field(3, 1),
        4: bytes_field(4, bytes(32)),
        5: bytes_field(5, PAIR.public.data),
    }
    SenderKeyDistribution.parse(b"\x33" + b"".join(parts.values()))
    content = b"".join(part for number, part in parts.items() if number != missing)
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        SenderKeyDistribution.parse(b"\x33" + content)


@pytest.mark.parametrize(
    "bad",
    [
        distribution()._replace(chain_key=bytes(31)),
        distribution()._replace(distribution=type(GROUP)(bytes(17))),
    ],
    ids=["chain key", "distribution id"],
)
def test_a_field_of_another_size_is_refused(bad: SenderKeyDistribution) -> None:
    with pytest.raises(InvalidMessage, match="bytes"):
        SenderKeyDistribution.parse(bad.to_bytes())


def test_an_unusable_signing_key_is_an_invalid_message() -> None:
    body = distribution().to_bytes().replace(PAIR.public.data, b"\x06" + bytes(32))
    with pytest.raises(InvalidMessage, match="unusable"):
        SenderKeyDistribution.parse(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for parse in (SenderKeyMessage.parse, SenderKeyDistribution.parse):
        for body in (data, b"\x33" + data):
            with contextlib.suppress(CryptoError):
                parse(body)


@given(st.data())
def test_any_change_to_a_message_is_read_or_refused(data: st.DataObject) -> None:
    for whole, parse in (
        (sealed().body, SenderKeyMessage.parse),
        (distribution().to_bytes(), SenderKeyDistribution.parse),
    ):
        body = bytearray(whole)
        for at, byte in data.draw(
            st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=8)
        ):
            body[at] = byte
        with contextlib.suppress(CryptoError):
            assert len(parse(bytes(body)).distribution) == 16
