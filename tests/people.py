"""Accounts that are there before a test begins: written into the stores, without registration."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from raychat.cluster.placement import Layout
from raychat.ids import PRIMARY, AccountId, Secret
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import PutDevice


class Person:
    """Somebody with an account and one device. The same name is always the same person."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.account = AccountId(sha256(f"account {name}".encode()).digest()[:16])
        self.token = Secret(sha256(f"token {name}".encode()).digest())

    def __repr__(self) -> str:
        return self.name


def people(count: int) -> list[Person]:
    return [Person(f"person-{number}") for number in range(count)]


async def seed(folder: Path, layout: Layout, persons: Sequence[Person]) -> None:
    """Write the accounts into the stores of a layout's hosts, which must not be running."""
    for host in layout.fixed_hosts():
        store = SqliteStore(folder / f"{host}.db", host)
        writes = Writes()
        for person in persons:
            if layout.host_of(person.account) == host:
                token_hash = sha256(person.token).digest()
                writes.add(PutDevice(person.account, PRIMARY, 1, token_hash))
        await store.commit(writes)
        await store.close()
