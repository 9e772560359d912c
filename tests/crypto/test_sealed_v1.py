from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.protobuf import bytes_field
from raychat.crypto.sealed_v1 import open_v1, seal_v1
from raychat.errors import BadMac, CryptoError, InvalidKey, InvalidMessage
from tests.crypto.fields import fields, flipped
from tests.crypto.sealed import Authority, Sealer

AUTHORITY = Authority()
ALICE, BOB = Sealer(AUTHORITY), Sealer(AUTHORITY)
CONTENT = ALICE.content()
SEALED = seal_v1(ALICE.identity, BOB.identity.public, CONTENT)


def test_what_is_sealed_opens() -> None:
    assert SEALED[0] == 0x11
    assert open_v1(BOB.identity, SEALED) == CONTENT


def test_two_seals_of_one_content_share_nothing() -> None:
    again = seal_v1(ALICE.identity, BOB.identity.public, CONTENT)
    for (_, start, end), (_, other, stop) in zip(fields(SEALED, 1), fields(again, 1), strict=True):
        assert SEALED[start:end] != again[other:stop]


def test_the_sender_does_not_show() -> None:
    for hidden in (ALICE.identity.public.data[1:], ALICE.address.account, CONTENT.message):
        assert hidden not in SEALED


def test_only_the_reader_can_open_it() -> None:
    for other in (ALICE.identity, KeyPair.generate()):
        with pytest.raises(BadMac):
            open_v1(other, SEALED)


def test_it_is_damaged_by_any_change() -> None:
    for at in range(1, len(SEALED)):
        with pytest.raises(InvalidMessage):
            open_v1(BOB.identity, flipped(SEALED, at))
            pytest.fail(f"accepted with byte {at} damaged")


def test_the_certificate_must_be_of_the_key_that_sealed() -> None:
    mallory = KeyPair.generate()
    with pytest.raises(InvalidMessage, match="another key"):
        open_v1(BOB.identity, seal_v1(mallory, BOB.identity.public, CONTENT))


def test_a_part_of_another_message_does_not_fit() -> None:
    other = seal_v1(ALICE.identity, BOB.identity.public, ALICE.content(b"other"))
    parts, others = ([data[s:e] for _, s, e in fields(data, 1)] for data in (SEALED, other))
    for place in range(3):
        mixed = [*parts[:place], others[place], *parts[place + 1 :]]
        with pytest.raises(BadMac):
            open_v1(
                BOB.identity,
                b"\x11" + b"".join(bytes_field(n + 1, part) for n, part in enumerate(mixed)),
            )


def test_unusable_keys_are_refused() -> None:
    nothing = b"\x05" + bytes(32)
    with pytest.raises(InvalidKey):
        seal_v1(ALICE.identity, PublicKey(nothing), CONTENT)
    rest = bytes_field(2, bytes(43)) + bytes_field(3, bytes(10))
    for key in (nothing, bytes(33), b""):
        with pytest.raises(InvalidMessage, match="unusable"):
            open_v1(BOB.identity, b"\x11" + bytes_field(1, key) + rest)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_message_without_a_field_is_refused(missing: int) -> None:
    body = b"".join(
        bytes_field(number, SEALED[start:end])
        for number, start, end in fields(SEALED, 1)
        if number != missing
    )
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        open_v1(BOB.identity, b"\x11" + body)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    key = bytes_field(1, ALICE.identity.public.data)
    for body in (data, key + bytes_field(2, data) + bytes_field(3, data)):
        with contextlib.suppress(CryptoError):
            open_v1(BOB.identity, b"\x11" + body)
            pytest.fail("a message out of nothing was opened")
