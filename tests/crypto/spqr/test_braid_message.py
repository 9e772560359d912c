from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.spqr.erasure import Chunk
from raychat.crypto.spqr.message import LAST_EPOCH, BraidMessage, Kind, Payload
from raychat.errors import CryptoError, InvalidMessage, LegacyVersion, UnknownVersion

CHUNK = bytes(range(32))
BARE = (Kind.NONE, Kind.ACK)

PAYLOADS = st.sampled_from(BARE).map(Payload) | st.builds(
    Payload,
    st.sampled_from([kind for kind in Kind if kind not in BARE]),
    st.builds(Chunk, st.integers(0, 0xFFFF), st.binary(min_size=32, max_size=32)),
)
MESSAGES = st.builds(
    BraidMessage, st.integers(1, LAST_EPOCH), st.integers(0, 0xFFFF_FFFF), PAYLOADS
)


def test_a_message_is_version_epoch_counter_kind_and_chunk() -> None:
    message = BraidMessage(3, 300, Payload(Kind.VECTOR_ACK, Chunk(200, CHUNK)))
    assert message.to_bytes() == b"\x01\x03\xac\x02\x03\xc8\x01" + CHUNK
    assert BraidMessage(1, 1, Payload(Kind.NONE)).to_bytes() == b"\x01\x01\x01\x00"
    assert BraidMessage(1, 1, Payload(Kind.ACK)).to_bytes() == b"\x01\x01\x01\x04"


def test_the_kinds_are_signals() -> None:
    names = ["NONE", "HEADER", "VECTOR", "VECTOR_ACK", "ACK", "FIRST", "SECOND"]
    assert [kind.name for kind in Kind] == names
    assert [*Kind] == list(range(7))


@given(MESSAGES, st.binary(max_size=5))
def test_a_message_reads_back_whatever_follows_it(message: BraidMessage, more: bytes) -> None:
    assert BraidMessage.parse(message.to_bytes() + more) == message


def test_a_missing_field_is_an_older_version_and_an_unknown_one_a_newer() -> None:
    with pytest.raises(LegacyVersion):
        BraidMessage.parse(b"")
    with pytest.raises(LegacyVersion):
        BraidMessage.parse(b"\x00\x01\x01\x00")
    with pytest.raises(UnknownVersion):
        BraidMessage.parse(b"\x02\x01\x01\x00")


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x01\x00\x01\x00",  # epoch 0
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00",  # an epoch beyond reason
        b"\x01\x01",
        b"\x01\x01\x80\x80\x80\x80\x10\x00",  # a counter of 33 bits
        b"\x01\x01\x01",
        b"\x01\x01\x01\x07",
        b"\x01\x01\x01\x01",
        b"\x01\x01\x01\x01\x00" + CHUNK[:31],
        b"\x01\x01\x01\x01\x80\x80\x04" + CHUNK,  # chunk 65,536
    ],
)
def test_what_cannot_be_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        BraidMessage.parse(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(CryptoError):
        BraidMessage.parse(b"\x01" + data)
