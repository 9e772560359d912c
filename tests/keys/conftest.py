"""A device that makes keys, and a real store in which it is registered."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from raychat.crypto.prekeys import IdentityKeyPair, KyberPreKey, PreKey, SignedPreKey
from raychat.ids import PRIMARY, AccountId, DeviceId
from raychat.store.protocol import TakenKeys, Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import PutDevice

ACCOUNT = AccountId(b"a" * 16)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def signed(record: SignedPreKey | KyberPreKey) -> dict[str, Any]:
    return {
        "id": record.key_id,
        "key": text(record.public.data),
        "signature": text(record.signature),
    }


class Device:
    """What a device uploads, as JSON objects."""

    def __init__(self) -> None:
        self.identity = IdentityKeyPair.generate()

    def one_time(self, first: int, many: int) -> list[dict[str, Any]]:
        keys = (PreKey.generate(number) for number in range(first, first + many))
        return [{"id": key.key_id, "key": text(key.public.data)} for key in keys]

    def kyber(self, first: int, many: int) -> list[dict[str, Any]]:
        return [
            signed(KyberPreKey.generate(self.identity, number, 0))
            for number in range(first, first + many)
        ]

    def lasting(self, number: int) -> dict[str, Any]:
        return {
            "signed_pre_key": signed(SignedPreKey.generate(self.identity, number, 0)),
            "last_resort": self.kyber(10_000 + number, 1)[0],
            "last_resort_pre_key": self.one_time(10_000 + number, 1)[0],
        }

    def refill(self, first: int, many: int) -> dict[str, Any]:
        return {
            "pre_keys": self.one_time(first, many),
            "kyber_pre_keys": self.kyber(first, many),
        }

    def registration(self, many: int = 0) -> dict[str, Any]:
        return {
            "registration_id": 4711,
            "identity": text(self.identity.public.data),
            **self.lasting(1),
            **self.refill(1, many),
        }


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def stranger() -> Device:
    return Device()


@pytest.fixture
def account() -> AccountId:
    return ACCOUNT


def seen_by_users(incarnation: int) -> Writes:
    """The device exists: without it nobody is given its keys."""
    writes = Writes()
    writes.add(PutDevice(ACCOUNT, PRIMARY, incarnation, sha256(b"token").digest()))
    return writes


class SlowStore(SqliteStore):
    """Lets others run before each call, as a store across a network would."""

    async def put_keys(self, *arguments: Any) -> None:
        await asyncio.sleep(0)
        await super().put_keys(*arguments)

    async def lasting_keys(self, account: AccountId, device: DeviceId) -> bytes | None:
        await asyncio.sleep(0)
        return await super().lasting_keys(account, device)

    async def count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]:
        await asyncio.sleep(0)
        return await super().count_keys(account, device)

    async def take_keys(self, *arguments: Any) -> list[TakenKeys]:
        await asyncio.sleep(0)
        return await super().take_keys(*arguments)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SlowStore(tmp_path / "host.db", "host-0")
    await store.commit(seen_by_users(incarnation=3))
    yield store
    await store.close()
