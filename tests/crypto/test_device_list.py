from __future__ import annotations

import hashlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.device_list import (
    DeviceList,
    ListedDevice,
    SignedDeviceList,
    check_device_signature,
    device_signature,
)
from raychat.errors import BadSignature, InvalidKey, Malformed, RaychatError, TooLarge
from raychat.ids import AccountId, DeviceId, new_account_id

NOW = 1_700_000_000_000
ACCOUNT = new_account_id()
PRIMARY, SECOND, THIRD = (KeyPair.generate() for _ in range(3))


def entry(device: int, pair: KeyPair, added: int = NOW) -> ListedDevice:
    return ListedDevice(DeviceId(device), pair.public, added)


FIRST = DeviceList(ACCOUNT, 1, NOW, (entry(1, PRIMARY),))
BOTH = FIRST.with_device(entry(3, SECOND), NOW + 1)
SIGNED = SignedDeviceList.sign(BOTH, PRIMARY)


def signed_as(payload: object) -> bytes:
    packed = msgpack.packb(payload)
    signature = PRIMARY.private.sign(b"raychat device list\0" + packed)
    return msgpack.packb((packed, signature))


def payload(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "form": 1,
        "account": bytes(ACCOUNT),
        "version": 2,
        "at": NOW,
        "devices": [[1, PRIMARY.public.data, NOW], [3, SECOND.public.data, NOW]],
    }
    return list((fields | changes).values())


def test_a_signed_list_comes_back_and_verifies_with_the_account_key() -> None:
    parsed = SignedDeviceList.parse(SIGNED.to_bytes())
    assert parsed.verify(PRIMARY.public) == BOTH
    assert parsed.account_key == BOTH.account_key == PRIMARY.public
    assert parsed == SIGNED
    assert parsed.digest() == hashlib.sha256(SIGNED.to_bytes()).digest()


def test_each_change_is_the_next_version() -> None:
    assert (FIRST.version, BOTH.version) == (1, 2)
    assert BOTH.numbers() == (1, 3)
    between = BOTH.with_device(entry(2, THIRD), NOW + 2)
    assert between.numbers() == (1, 2, 3)
    alone = between.without(DeviceId(3), NOW + 3)
    assert alone.numbers() == (1, 2)
    assert alone.version == 4
    assert alone.identity(DeviceId(2)) == THIRD.public
    assert alone.identity(DeviceId(3)) is None


def test_a_device_in_another_s_place_replaces_it() -> None:
    replaced = BOTH.with_device(entry(3, THIRD), NOW)
    assert replaced.identity(DeviceId(3)) == THIRD.public
    assert replaced.numbers() == (1, 3)


def test_only_the_primary_signs() -> None:
    with pytest.raises(BadSignature):
        SignedDeviceList.sign(BOTH, SECOND)


def test_another_account_key_does_not_verify_it() -> None:
    with pytest.raises(BadSignature):
        SIGNED.verify(SECOND.public)


def test_a_list_that_was_changed_does_not_verify() -> None:
    for field, value in (("version", 3), ("at", NOW + 5), ("account", bytes(16))):
        packed = msgpack.packb(payload(**{field: value}))
        forged = SignedDeviceList.parse(msgpack.packb((packed, SIGNED.signature)))
        with pytest.raises(BadSignature):
            forged.verify(PRIMARY.public)


def test_a_signature_for_something_else_does_not_verify() -> None:
    packed = msgpack.packb(payload())
    bare = SignedDeviceList.parse(msgpack.packb((packed, PRIMARY.private.sign(packed))))
    with pytest.raises(BadSignature):
        bare.verify(PRIMARY.public)


def test_the_primary_cannot_be_removed_or_missing() -> None:
    with pytest.raises(Malformed):
        BOTH.without(DeviceId(1), NOW)
    with pytest.raises(Malformed):
        DeviceList(ACCOUNT, 1, NOW, (entry(2, SECOND),))


def test_a_list_holds_no_more_devices_than_the_limit() -> None:
    devices = tuple(entry(n + 1, KeyPair.generate()) for n in range(limits.DEVICES + 1))
    with pytest.raises(Malformed):
        DeviceList(ACCOUNT, 1, NOW, devices)
    full = SignedDeviceList.sign(
        DeviceList(ACCOUNT, 1, NOW, (entry(1, PRIMARY), *devices[1:-1])), PRIMARY
    )
    assert len(full.to_bytes()) <= limits.DEVICE_LIST_BYTES
    assert SignedDeviceList.parse(full.to_bytes()) == full


@pytest.mark.parametrize(
    "wrong",
    [
        payload(form=2),
        payload(form=True),
        payload(account=bytes(15)),
        payload(version=0),
        payload(version=2**40),
        payload(version=True),
        payload(at=-1),
        payload(devices=[]),
        payload(devices=[[3, SECOND.public.data, NOW]]),
        payload(devices=[[1, PRIMARY.public.data, NOW], [1, SECOND.public.data, NOW]]),
        payload(devices=[[1, PRIMARY.public.data, NOW], [2, PRIMARY.public.data, NOW]]),
        payload(devices=[[1, PRIMARY.public.data, NOW], [128, SECOND.public.data, NOW]]),
        payload(
            devices=[
                [1, PRIMARY.public.data, NOW],
                [3, SECOND.public.data, NOW],
                [2, THIRD.public.data, NOW],
            ]
        ),
        payload(devices=[[1, PRIMARY.public.data, NOW, "more"]]),
        payload(devices=[[1, PRIMARY.public.data[1:], NOW]]),
        payload(devices={1: 2}),
        [*payload(), 0],
        "list",
        7,
    ],
)
def test_what_is_not_in_order_is_malformed_though_it_is_signed(wrong: object) -> None:
    with pytest.raises(Malformed):
        SignedDeviceList.parse(signed_as(wrong))


def test_keys_that_no_honest_device_has_are_refused() -> None:
    small = b"\x05" + bytes(32)
    with pytest.raises(InvalidKey):
        SignedDeviceList.parse(
            signed_as(payload(devices=[[1, PRIMARY.public.data, NOW], [2, small, NOW]]))
        )
    with pytest.raises(InvalidKey):
        SignedDeviceList.parse(signed_as(payload(devices=[[1, b"\x06" + bytes(32), NOW]])))


def test_a_list_has_one_way_to_be_written() -> None:
    packed = msgpack.packb(payload())
    assert packed[2:4] == b"\xc4\x10"
    longer = packed[:2] + b"\xc5\x00\x10" + packed[4:]
    assert msgpack.unpackb(longer) == msgpack.unpackb(packed)
    signature = PRIMARY.private.sign(b"raychat device list\0" + longer)
    with pytest.raises(Malformed):
        SignedDeviceList.parse(msgpack.packb((longer, signature)))
    for tail in (b"\x00", b"\xc0"):
        with pytest.raises(Malformed):
            SignedDeviceList.parse(SIGNED.to_bytes() + tail)


def test_too_many_bytes_are_not_looked_at() -> None:
    with pytest.raises(TooLarge):
        SignedDeviceList.parse(bytes(limits.DEVICE_LIST_BYTES + 1))


def test_a_linked_device_signs_the_account_and_no_other() -> None:
    signature = device_signature(SECOND, ACCOUNT, PRIMARY.public, DeviceId(3))
    check_device_signature(signature, ACCOUNT, PRIMARY.public, DeviceId(3), SECOND.public)
    for account, key, device, identity in (
        (AccountId(bytes(16)), PRIMARY.public, 3, SECOND.public),
        (ACCOUNT, THIRD.public, 3, SECOND.public),
        (ACCOUNT, PRIMARY.public, 4, SECOND.public),
        (ACCOUNT, PRIMARY.public, 3, THIRD.public),
    ):
        with pytest.raises(BadSignature):
            check_device_signature(signature, account, key, DeviceId(device), identity)


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(RaychatError):
        SignedDeviceList.parse(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**64 - 1) | st.binary(max_size=40) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=10,
)


@settings(max_examples=200)
@given(
    st.lists(anything, min_size=5, max_size=6),
    st.lists(st.tuples(st.integers(0, 130), st.binary(min_size=33, max_size=33), anything)),
)
def test_hostile_structures_raise_only_our_errors(fields: list[object], devices: object) -> None:
    for fifth in (fields[4], devices):
        data = msgpack.packb((msgpack.packb([1, *fields[1:4], fifth]), bytes(64)))
        with pytest.raises(RaychatError):
            SignedDeviceList.parse(data).verify(PublicKey(PRIMARY.public.data))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(SIGNED.to_bytes())
    data[place % len(data)] ^= change
    with pytest.raises(RaychatError):
        SignedDeviceList.parse(bytes(data)).verify(PRIMARY.public)
