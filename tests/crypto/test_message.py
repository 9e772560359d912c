from __future__ import annotations

import contextlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.message import PreKeySignalMessage, SignalMessage, address_pair
from raychat.crypto.protobuf import bytes_field, number_field
from raychat.errors import (
    BadMac,
    CryptoError,
    InvalidMessage,
    LegacyVersion,
    UnknownVersion,
)
from raychat.ids import AccountId, Address, DeviceId
from raychat.limits import CIPHERTEXT_BYTES
from tests.crypto.fields import signal_corruptions

SENDER, RECEIVER, RATCHET = (KeyPair.generate().public for _ in range(3))
MAC_KEY = bytes(range(32))
ALICE = Address(AccountId(b"a" * 16), DeviceId(1))
BOB = Address(AccountId(b"b" * 16), DeviceId(127))


def sealed(
    *, counter: int = 5, previous: int = 4, addresses: bytes = b"", pq: bytes = b""
) -> SignalMessage:
    return SignalMessage.seal(
        ratchet_key=RATCHET,
        counter=counter,
        previous_counter=previous,
        ciphertext=b"c" * 16,
        pq_ratchet=pq,
        addresses=addresses,
        mac_key=MAC_KEY,
        sender=SENDER,
        receiver=RECEIVER,
    )


def pre_key_message(*, one_time: int | None = 3) -> PreKeySignalMessage:
    return PreKeySignalMessage(
        registration_id=77,
        pre_key_id=one_time,
        signed_pre_key_id=0,
        kyber_pre_key_id=2**32 - 1,
        kyber_ciphertext=b"\x08" + bytes(1568),
        base_key=RATCHET,
        identity_key=SENDER,
        message=sealed(),
    )


def test_a_message_is_version_then_fields_then_mac() -> None:
    content = b"".join(
        (
            b"\x44\x0a\x21" + RATCHET.data,
            b"\x10\x05",
            b"\x18\x04",
            b"\x22\x10" + b"c" * 16,
            b"\x2a\x02pq",
            b"\x32\x24" + address_pair(ALICE, BOB),
        )
    )
    mac = hmac.digest(MAC_KEY, SENDER.data + RECEIVER.data + content, "sha256")[:8]
    message = sealed(addresses=address_pair(ALICE, BOB), pq=b"pq")
    assert message.body == content + mac


def test_counters_are_written_even_when_zero() -> None:
    assert b"\x10\x00\x18\x00" in sealed(counter=0, previous=0).body


@pytest.mark.parametrize("addresses", [b"", address_pair(ALICE, BOB)])
@pytest.mark.parametrize("pq", [b"", b"field"])
def test_a_message_reads_back(addresses: bytes, pq: bytes) -> None:
    message = sealed(addresses=addresses, pq=pq)
    assert SignalMessage.parse(message.body) == message


@pytest.mark.parametrize("one_time", [None, 0, 3])
def test_a_pre_key_message_reads_back(one_time: int | None) -> None:
    message = pre_key_message(one_time=one_time)
    assert PreKeySignalMessage.parse(message.to_bytes()) == message


def test_the_mac_binds_content_key_and_both_identities() -> None:
    message = sealed()
    message.verify(MAC_KEY, SENDER, RECEIVER)
    for key, sender, receiver in (
        (bytes(32), SENDER, RECEIVER),
        (MAC_KEY, RECEIVER, SENDER),
        (MAC_KEY, SENDER, SENDER),
    ):
        with pytest.raises(BadMac):
            message.verify(key, sender, receiver)


def test_the_mac_covers_every_field() -> None:
    for name, body in signal_corruptions(sealed(addresses=b"x" * 36, pq=b"\x01\x01\x01\x00").body):
        with pytest.raises(BadMac):
            SignalMessage.parse(body).verify(MAC_KEY, SENDER, RECEIVER)
            pytest.fail(f"accepted with a damaged {name}")


def test_addresses_are_kind_account_and_device_of_both() -> None:
    assert address_pair(ALICE, BOB) == b"\x00" + b"a" * 16 + b"\x01\x00" + b"b" * 16 + b"\x7f"


def test_addresses_may_be_absent_and_must_fit_otherwise() -> None:
    sealed().check_addresses(ALICE, BOB)
    message = sealed(addresses=address_pair(ALICE, BOB))
    message.check_addresses(ALICE, BOB)
    for sender, receiver in (
        (BOB, ALICE),
        (ALICE, ALICE),
        (ALICE, BOB._replace(device=DeviceId(2))),
    ):
        with pytest.raises(InvalidMessage):
            message.check_addresses(sender, receiver)


@pytest.mark.parametrize("low", [0, 3, 4, 15])
def test_the_low_nibble_of_the_version_is_ignored(low: int) -> None:
    body = sealed().body
    assert SignalMessage.parse(bytes((0x40 | low,)) + body[1:]).counter == 5


@pytest.mark.parametrize("parse", [SignalMessage.parse, PreKeySignalMessage.parse])
def test_other_versions_are_refused_by_name(parse: type) -> None:
    with pytest.raises(LegacyVersion):
        parse(b"\x34" + bytes(20))
    with pytest.raises(UnknownVersion):
        parse(b"\x54" + bytes(20))


@pytest.mark.parametrize("parse", [SignalMessage.parse, PreKeySignalMessage.parse])
def test_too_short_and_too_long_messages_are_refused(parse: type) -> None:
    for body in (b"", b"\x44", b"\x44" + bytes(7), b"\x44" * (CIPHERTEXT_BYTES + 1)):
        with pytest.raises(InvalidMessage):
            parse(body)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_a_message_without_a_needed_field_is_refused(missing: int) -> None:
    parts = {
        1: bytes_field(1, RATCHET.data),
        2: number_field(2, 0),
        4: bytes_field(4, bytes(16)),
    }
    content = b"".join(part for number, part in parts.items() if number != missing)
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        SignalMessage.parse(b"\x44" + content + bytes(8))


@pytest.mark.parametrize("missing", [2, 3, 4, 6, 7, 8])
def test_a_pre_key_message_without_a_needed_field_is_refused(missing: int) -> None:
    parts = {
        2: bytes_field(2, RATCHET.data),
        3: bytes_field(3, SENDER.data),
        4: bytes_field(4, sealed().body),
        6: number_field(6, 1),
        7: number_field(7, 1),
        8: bytes_field(8, b"\x08" + bytes(1568)),
    }
    PreKeySignalMessage.parse(b"\x44" + b"".join(parts.values()))
    content = b"".join(part for number, part in parts.items() if number != missing)
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        PreKeySignalMessage.parse(b"\x44" + content)


def test_an_unusable_key_in_a_message_is_an_invalid_message() -> None:
    content = bytes_field(1, b"\x06" + bytes(32)) + number_field(2, 0) + bytes_field(4, bytes(16))
    with pytest.raises(InvalidMessage, match="unusable key"):
        SignalMessage.parse(b"\x44" + content + bytes(8))


def test_a_kyber_ciphertext_of_another_size_is_refused() -> None:
    message = pre_key_message()._replace(kyber_ciphertext=b"\x08")
    with pytest.raises(InvalidMessage, match="Kyber"):
        PreKeySignalMessage.parse(message.to_bytes())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for parse in (SignalMessage.parse, PreKeySignalMessage.parse):
        for body in (data, b"\x44" + data):
            with contextlib.suppress(CryptoError):
                parse(body)


@given(st.data())
def test_any_change_to_a_message_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(pre_key_message().to_bytes())
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=8)
    ):
        body[at] = byte
    try:
        message = PreKeySignalMessage.parse(bytes(body))
    except CryptoError:
        return
    assert isinstance(message.base_key, PublicKey)
