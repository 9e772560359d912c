"""The key server with the host's real store."""

from __future__ import annotations

import asyncio
import base64
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from raychat import limits
from raychat.crypto.curve import PublicKey
from raychat.crypto.kem import KemPublicKey
from raychat.crypto.prekeys import PreKeyBundle
from raychat.errors import (
    BadSignature,
    BadToken,
    Malformed,
    NoKeys,
    NotFound,
    RateLimited,
    TooLarge,
)
from raychat.ids import PRIMARY, AccountId, DeviceId
from raychat.keys.server import SIGNATURES_IN_LOOP, KeyServer
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import PutDevice

if TYPE_CHECKING:
    from conftest import Device

SECOND = DeviceId(2)
NOW = 1_700_000_000_000
ATTACKER = AccountId(b"!" * 16)


@pytest.fixture
def server(store: SqliteStore) -> KeyServer:
    return KeyServer(store)


REQUESTERS = (AccountId(number.to_bytes(16, "big")) for number in count(1))


async def fetch(
    server: KeyServer,
    account: AccountId,
    *,
    requester: AccountId | None = None,
    devices: list[DeviceId] | None = None,
    now: int = NOW,
) -> list[dict[str, Any]]:
    """The bundles as somebody gets them who has never asked before."""
    return await server.bundles(account, requester or next(REQUESTERS), devices, now)


def raw(text: str) -> bytes:
    return base64.b64decode(text)


def opened(bundle: dict[str, Any]) -> PreKeyBundle:
    """A bundle as a device reads it, its signatures checked."""
    pre_key = bundle["pre_key"]
    read = PreKeyBundle(
        bundle["registration_id"],
        PublicKey(raw(bundle["identity"])),
        bundle["signed_pre_key"]["id"],
        PublicKey(raw(bundle["signed_pre_key"]["key"])),
        raw(bundle["signed_pre_key"]["signature"]),
        bundle["kyber_pre_key"]["id"],
        KemPublicKey(raw(bundle["kyber_pre_key"]["key"])),
        raw(bundle["kyber_pre_key"]["signature"]),
        pre_key["id"] if pre_key else None,
        PublicKey(raw(pre_key["key"])) if pre_key else None,
    )
    read.verify()
    return read


async def test_a_registered_device_gives_bundles(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    fields = device.registration(1)
    await server.put(account, PRIMARY, fields, registering=True)
    assert await server.count(account, PRIMARY) == (1, 1)
    (bundle,) = await fetch(server, account)
    assert bundle == {
        "device": 1,
        "incarnation": 3,
        "registration_id": 4711,
        "identity": fields["identity"],
        "signed_pre_key": fields["signed_pre_key"],
        "pre_key": fields["pre_keys"][0],
        "kyber_pre_key": fields["kyber_pre_keys"][0],
        "device_signature": None,
    }
    opened(bundle)


async def test_the_last_resort_is_given_when_no_others_are_left(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    fields = device.registration(1)
    await server.put(account, PRIMARY, fields, registering=True)
    await fetch(server, account)
    for _ in range(2):
        (bundle,) = await fetch(server, account)
        assert bundle["pre_key"] == fields["last_resort_pre_key"]
        assert bundle["kyber_pre_key"] == fields["last_resort"]
        opened(bundle)


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return len(value) if isinstance(value, str) else type(value)


async def test_a_bundle_does_not_show_that_one_time_keys_have_run_out(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(1), registering=True)
    (with_them,), (without,) = [await fetch(server, account) for _ in range(2)]
    assert with_them["pre_key"] != without["pre_key"]
    assert shape(with_them) == shape(without)


async def test_200_requesters_get_100_keys_each_once(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(100), registering=True)
    taken = await asyncio.gather(*(fetch(server, account) for _ in range(200)))
    pre_keys = [one["pre_key"]["id"] for (one,) in taken if one["pre_key"]["id"] < 10_000]
    kyber = [one["kyber_pre_key"]["id"] for (one,) in taken if one["kyber_pre_key"]["id"] < 10_000]
    assert sorted(pre_keys) == sorted(kyber) == list(range(1, 101))
    assert await server.count(account, PRIMARY) == (0, 0)
    for (bundle,) in taken[::20]:
        opened(bundle)


async def test_who_asks_for_the_same_keys_too_often_is_refused(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(100), registering=True)
    for _ in range(limits.KEY_FETCHES):
        await fetch(server, account, requester=ATTACKER)
    with pytest.raises(RateLimited, match=r"in 30[01] seconds"):
        await fetch(server, account, requester=ATTACKER)
    left = 100 - limits.KEY_FETCHES
    assert await server.count(account, PRIMARY) == (left, left), "a refusal takes no key"
    await fetch(server, account)
    later = NOW + limits.KEY_FETCH_SECONDS * 1000
    await fetch(server, account, requester=ATTACKER, now=later)
    with pytest.raises(RateLimited):
        await fetch(server, account, requester=ATTACKER, now=later)


async def test_many_attackers_drain_no_more_than_the_budget_and_contacts_still_start_sessions(
    server: KeyServer, device: Device, account: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = device.registration(100)
    await server.put(account, PRIMARY, fields, registering=True)
    await server.put(account, PRIMARY, device.refill(200, 100), registering=False)
    for _ in range(5 * limits.KEY_DRAIN):
        await fetch(server, account)
    left = 200 - limits.KEY_DRAIN
    assert await server.count(account, PRIMARY) == (left, left)
    assert server.held_back == 4 * limits.KEY_DRAIN
    (contact,) = await fetch(server, account)
    assert contact["pre_key"] == fields["last_resort_pre_key"]
    assert contact["kyber_pre_key"] == fields["last_resort"]
    opened(contact)
    # Each quiet minute allows one more.
    now = NOW + 10 * limits.KEY_DRAIN_SECONDS * 1000
    for _ in range(20):
        await fetch(server, account, now=now)
    assert await server.count(account, PRIMARY) == (left - 10, left - 10)


async def test_only_the_devices_asked_for_give_bundles(
    server: KeyServer, device: Device, stranger: Device, account: AccountId, store: SqliteStore
) -> None:
    writes = Writes()
    writes.add(PutDevice(account, SECOND, 1, b"hash"))
    await store.commit(writes)
    await server.put(account, PRIMARY, device.registration(2), registering=True)
    await server.put(account, SECOND, stranger.registration(2), registering=True)
    (bundle,) = await fetch(server, account, devices=[SECOND, DeviceId(7)])
    assert bundle["device"] == SECOND
    assert await server.count(account, PRIMARY) == (2, 2)
    assert [one["device"] for one in await fetch(server, account)] == [PRIMARY, SECOND]
    with pytest.raises(NoKeys):
        await fetch(server, account, devices=[DeviceId(7)])


async def test_a_device_signature_is_kept_and_handed_out(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    fields = device.registration()
    signature = b"s" * 64
    vetted = await server.vet(account, PRIMARY, fields, True, signature)
    await server.keep(account, PRIMARY, vetted)
    await server.put(account, PRIMARY, device.lasting(2), registering=False)
    (bundle,) = await fetch(server, account)
    assert raw(bundle["device_signature"]) == signature


async def test_what_was_given_stays_given_after_a_restart(
    device: Device, account: AccountId, store: SqliteStore, tmp_path: Path
) -> None:
    """The files as they are while the store is open: what a killed process leaves."""
    server = KeyServer(store)
    await server.put(account, PRIMARY, device.registration(3), registering=True)
    (first,) = await fetch(server, account)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("host.db", "host.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    again = SqliteStore(left / "host.db", "host-0")
    server = KeyServer(again)
    assert await server.count(account, PRIMARY) == (2, 2)
    (second,) = await fetch(server, account)
    assert second["pre_key"] != first["pre_key"]
    assert second["kyber_pre_key"] != first["kyber_pre_key"]
    assert second["identity"] == first["identity"]
    await again.close()


async def test_no_keys_for_a_stranger(server: KeyServer, account: AccountId) -> None:
    with pytest.raises(NoKeys):
        await fetch(server, account)
    assert await server.count(account, PRIMARY) == (0, 0)


async def test_a_refill_adds_keys(server: KeyServer, device: Device, account: AccountId) -> None:
    await server.put(account, PRIMARY, device.registration(1), registering=True)
    await server.put(account, PRIMARY, device.refill(2, 3), registering=False)
    assert await server.count(account, PRIMARY) == (4, 4)
    await server.put(account, PRIMARY, {}, registering=False)
    await server.put(account, PRIMARY, device.refill(2, 3), registering=False)
    assert await server.count(account, PRIMARY) == (4, 4), "a repeated call adds nothing"


async def test_a_refill_renews_the_lasting_keys_and_keeps_the_rest(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    fields = device.registration(1)
    await server.put(account, PRIMARY, fields, registering=True)
    lasting = device.lasting(2)
    await server.put(account, PRIMARY, lasting, registering=False)
    (bundle,) = await fetch(server, account)
    assert bundle["signed_pre_key"] == lasting["signed_pre_key"]
    assert bundle["pre_key"] == fields["pre_keys"][0]
    assert (bundle["registration_id"], bundle["identity"]) == (4711, fields["identity"])
    (bundle,) = await fetch(server, account)
    assert bundle["kyber_pre_key"] == lasting["last_resort"]


async def test_a_refill_is_signed_by_the_stored_identity(
    server: KeyServer, device: Device, stranger: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(), registering=True)
    for many in (1, SIGNATURES_IN_LOOP + 1):
        with pytest.raises(BadSignature):
            await server.put(account, PRIMARY, stranger.refill(1, many), registering=False)
    assert await server.count(account, PRIMARY) == (0, 0)


async def test_only_a_registered_device_can_refill(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(), registering=True)
    with pytest.raises(NotFound, match="register"):
        await server.put(account, SECOND, device.refill(1, 1), registering=False)


async def test_a_new_registration_leaves_none_of_the_old_keys(
    server: KeyServer, device: Device, stranger: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(5), registering=True)
    fields = stranger.registration()
    await server.put(account, PRIMARY, fields, registering=True)
    assert await server.count(account, PRIMARY) == (0, 0)
    (bundle,) = await fetch(server, account)
    assert bundle["identity"] == fields["identity"]


async def test_a_bad_registration_leaves_the_old_keys(
    server: KeyServer, device: Device, stranger: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(5), registering=True)
    fields = stranger.registration() | {"last_resort": device.lasting(1)["last_resort"]}
    with pytest.raises(BadSignature):
        await server.put(account, PRIMARY, fields, registering=True)
    assert await server.count(account, PRIMARY) == (5, 5)


async def test_a_refill_that_a_new_registration_overtakes_is_refused(
    server: KeyServer, device: Device, stranger: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, device.registration(), registering=True)
    vetted = await server.vet(account, PRIMARY, device.refill(1, 1), registering=False)
    await server.put(account, PRIMARY, stranger.registration(), registering=True)
    with pytest.raises(BadToken):
        await server.keep(account, PRIMARY, vetted)
    assert await server.count(account, PRIMARY) == (0, 0)


async def test_stored_keys_are_bounded_even_when_calls_race(
    server: KeyServer, device: Device, account: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PRE_KEYS", 10)
    await server.put(account, PRIMARY, device.registration(4), registering=True)
    calls = [
        server.put(account, PRIMARY, {"pre_keys": device.one_time(100 * n, 4)}, registering=False)
        for n in range(1, 4)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if result is not None]
    assert len(refused) == 2
    assert all(isinstance(error, TooLarge) for error in refused)
    assert "8 are left; upload 2 or fewer" in str(refused[0])
    assert await server.count(account, PRIMARY) == (8, 4)


async def test_a_full_device_can_renew_its_lasting_keys(
    server: KeyServer, device: Device, account: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put(account, PRIMARY, device.registration(4), registering=True)
    monkeypatch.setattr(limits, "PRE_KEYS", 3)  # an operator has lowered it since
    await server.put(account, PRIMARY, device.lasting(2), registering=False)
    assert await server.count(account, PRIMARY) == (4, 4)


async def test_an_upload_in_msgpack_is_the_same(
    server: KeyServer, device: Device, account: AccountId
) -> None:
    await server.put(account, PRIMARY, msgpack.packb(device.registration(2)), registering=True)
    assert await server.count(account, PRIMARY) == (2, 2)


@pytest.mark.parametrize(
    "upload", [b"", b"\xc1", b"\x93\x01", msgpack.packb([1]), msgpack.packb({1: 2}), b"\x81" * 999]
)
async def test_hostile_bytes_are_malformed(
    server: KeyServer, account: AccountId, upload: bytes
) -> None:
    for registering in (True, False):
        with pytest.raises(Malformed):
            await server.put(account, PRIMARY, upload, registering=registering)


async def test_many_signatures_do_not_hold_up_the_loop(
    server: KeyServer, device: Device, account: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[Any] = []

    async def to_thread(call: Any, *arguments: Any) -> None:
        threads.append(call)
        call(*arguments)

    monkeypatch.setattr("raychat.keys.server.asyncio.to_thread", to_thread)
    await server.put(account, PRIMARY, device.registration(), registering=True)
    assert threads == []
    await server.put(account, PRIMARY, device.refill(1, SIGNATURES_IN_LOOP + 1), registering=False)
    assert len(threads) == 1


async def test_locks_are_not_kept(server: KeyServer, device: Device, account: AccountId) -> None:
    await server.put(account, PRIMARY, device.registration(), registering=True)
    assert len(server._locks) == 0
