"""Device lists are vetted before a host keeps them: signed, for this account, naming the keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair
from raychat.crypto.device_list import (
    DeviceList,
    ListedDevice,
    SignedDeviceList,
    device_signature,
)
from raychat.errors import BadSignature, Denied, InvalidKey, Malformed, RaychatError
from raychat.ids import PRIMARY, AccountId, DeviceId
from raychat.keys.devices import check_identities, vet_linked, vet_list, vet_primary
from raychat.store.protocol import DeviceKeys
from raychat.store.sqlite import SqliteStore

TWO = DeviceId(2)
OTHER = AccountId(b"o" * 16)
PAIRS = {number: KeyPair.generate() for number in (PRIMARY, TWO, DeviceId(3))}


def signed(account: AccountId, *numbers: DeviceId, version: int = 1) -> bytes:
    entries = tuple(ListedDevice(number, PAIRS[number].public, 0) for number in numbers)
    listed = DeviceList(account, version, 0, entries)
    return SignedDeviceList.sign(listed, PAIRS[PRIMARY]).to_bytes()


def identity(number: DeviceId) -> bytes:
    return PAIRS[number].public.data


def test_what_is_vetted_is_what_the_list_says(account: AccountId) -> None:
    data = signed(account, PRIMARY, TWO, version=7)
    vetted = vet_list(account, data)
    assert vetted.record == (7, identity(PRIMARY), (PRIMARY, TWO), data)
    assert vetted.identities == {PRIMARY: identity(PRIMARY), TWO: identity(TWO)}


def test_a_list_of_another_account_or_with_another_signature_is_refused(
    account: AccountId,
) -> None:
    with pytest.raises(Malformed, match="another account"):
        vet_list(account, signed(OTHER, PRIMARY))
    data = bytearray(signed(account, PRIMARY))
    data[-1] ^= 1
    with pytest.raises(BadSignature):
        vet_list(account, bytes(data))


def test_a_primary_registers_with_a_list_of_itself(account: AccountId) -> None:
    assert vet_primary(account, signed(account, PRIMARY), identity(PRIMARY))
    with pytest.raises(Malformed):
        vet_primary(account, signed(account, PRIMARY, TWO), identity(PRIMARY))
    with pytest.raises(InvalidKey):
        vet_primary(account, signed(account, PRIMARY), identity(TWO))


def test_a_linked_device_is_in_the_list_and_has_signed_the_account(account: AccountId) -> None:
    data = signed(account, PRIMARY, TWO)
    word = device_signature(PAIRS[TWO], account, PAIRS[PRIMARY].public, TWO)
    assert vet_linked(account, data, TWO, identity(TWO), word)
    other = device_signature(PAIRS[TWO], OTHER, PAIRS[PRIMARY].public, TWO)
    for wrong in (other, word[:-1], bytes(64)):
        with pytest.raises(BadSignature):
            vet_linked(account, data, TWO, identity(TWO), wrong)
    with pytest.raises(InvalidKey):
        vet_linked(account, data, DeviceId(3), identity(TWO), word)
    with pytest.raises(Malformed):
        vet_linked(account, data, PRIMARY, identity(PRIMARY), word)


async def test_a_list_names_the_keys_its_devices_have_registered_with(
    account: AccountId, store: SqliteStore
) -> None:
    async def registered(device: DeviceId, key: DeviceId) -> None:
        keys = DeviceKeys(1, identity(key), b"signed", b"last", b"last-ec")
        await store.put_keys(account, device, keys, (), ())

    vetted = vet_list(account, signed(account, PRIMARY, TWO))
    await check_identities(store, account, vetted)
    await registered(PRIMARY, PRIMARY)
    await registered(TWO, DeviceId(3))
    with pytest.raises(InvalidKey):
        await check_identities(store, account, vetted)
    await check_identities(store, account, vetted, but=TWO)
    await registered(PRIMARY, DeviceId(3))
    with pytest.raises(Denied):
        await check_identities(store, account, vetted, but=TWO)


@given(st.binary(max_size=300))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(RaychatError):
        vet_list(OTHER, data)
