"""The Cassandra store keeps the contract on a real server, and what is particular to it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from raychat.errors import Fenced, StoreError
from raychat.ids import InboxNumber
from raychat.store.cassandra import CassandraStore, Session, create_keyspace
from raychat.store.cassandra import journal as journals
from raychat.store.cassandra.journal import Journal
from raychat.store.cassandra.schema import BUCKET
from raychat.users.events import Advance, PutDevice, PutPeer, PutReceipt
from tests.servers.cassandra.server import CassandraServer
from tests.store.contract import FRIEND, ME, ONE, StoreContract, device, fill, writes

pytestmark = [pytest.mark.cassandra, pytest.mark.asyncio(loop_scope="session")]
fixture = pytest_asyncio.fixture(loop_scope="session")


class Opened:
    """The store of one test: a shard that no other test has."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.shard = secrets.token_hex(6)
        self.stores: list[CassandraStore] = []

    async def open(self) -> CassandraStore:
        self.stores.append(await CassandraStore.open(self.session, self.shard, "host-0"))
        return self.stores[-1]

    async def crash(self) -> None:
        """As if the process was killed: nothing is written behind any more."""
        for store in self.stores:
            assert store._writer is not None
            store._writer.cancel()

    async def again(self) -> CassandraStore:
        await self.stores[-1].close()
        return await self.open()

    async def again_after_crash(self) -> CassandraStore:
        await self.crash()
        return await self.open()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def session(cassandra: CassandraServer) -> AsyncIterator[Session]:
    """One for all tests: acsylla has no way to close the sockets of a cluster, over which its
    threads wake the loop, so this does."""
    sockets: list[socket.socket] = []
    pair = socket.socketpair

    def remembered() -> tuple[socket.socket, socket.socket]:
        sockets.extend(pair())
        return sockets[-2], sockets[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socketpair", remembered)
        await create_keyspace(cassandra.addresses, cassandra.port, replicas=1)
        session = await Session.connect(cassandra.addresses, cassandra.port)
    yield session
    await session.close()
    for one in sockets:
        asyncio.get_running_loop().remove_reader(one)
        one.close()


@fixture
async def opened(session: Session) -> AsyncIterator[Opened]:
    opened = Opened(session)
    yield opened
    await opened.crash()


@fixture
async def store(opened: Opened) -> CassandraStore:
    return await opened.open()


@pytest.fixture
def take_over(opened: Opened):
    return opened.open


class TestFromTheTables(StoreContract):
    """Opened again after all was written behind."""

    @pytest.fixture
    def reopen(self, opened: Opened):
        return opened.again


class TestFromTheJournal(StoreContract):
    """Opened again after a crash, with nothing written behind."""

    @pytest.fixture
    def reopen(self, opened: Opened):
        return opened.again_after_crash


class TestWrittenBehindAtOnce(StoreContract):
    """Each turn is in the tables before the next question."""

    @pytest.fixture
    def reopen(self, opened: Opened):
        return opened.again_after_crash

    @fixture
    async def store(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> CassandraStore:
        happen = CassandraStore._happen

        async def and_write_behind(store: CassandraStore, changes: list[Any]) -> None:
            await happen(store, changes)
            await store.write_behind()

        monkeypatch.setattr(CassandraStore, "_happen", and_write_behind)
        return await opened.open()


async def rows(opened: Opened, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    question = f"SELECT {columns} FROM {table} WHERE shard = ? ALLOW FILTERING"
    return await opened.session.execute(question, (opened.shard,))


async def test_an_envelope_that_is_acknowledged_soon_is_written_to_no_table(
    opened: Opened, store: CassandraStore
) -> None:
    box = await device(store)
    await fill(store, box, range(1, 6))
    await store.commit(writes(Advance(box, InboxNumber(3), ())))
    await store.write_behind()
    assert sorted(await rows(opened, "inbox", "number")) == [(4,), (5,)]


async def test_what_is_written_behind_is_read_from_the_journal_no_more(
    opened: Opened, store: CassandraStore
) -> None:
    box = await device(store)
    await fill(store, box, range(1, 4))
    await store.write_behind()
    await fill(store, box, range(4, 5))
    await opened.crash()
    journal = await Journal.take_over(opened.session, opened.shard, "host-1")
    assert [(some.epoch, some.start, some.end) for some in journal.before] == [(1, 2, 3)]


async def test_a_bucket_of_the_journal_is_deleted_when_it_is_in_the_tables(
    opened: Opened, store: CassandraStore
) -> None:
    box = await device(store)
    for number in range(1, BUCKET + 9):
        await fill(store, box, range(number, number + 1))
    await store.write_behind()
    assert {row[0] for row in await rows(opened, "journal", "bucket")} == {1}
    store = await opened.again_after_crash()
    assert len(await store.page(box, InboxNumber(0), 999)) == BUCKET + 8


async def test_turns_over_several_buckets_are_read_back(
    opened: Opened, store: CassandraStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "BUCKET", 4)
    box = await device(store)
    for number in range(1, 14):
        await fill(store, box, range(number, number + 1))
    store = await opened.again_after_crash()
    assert [row.number for row in await store.page(box, InboxNumber(0), 99)] == [*range(1, 14)]


async def test_a_turn_larger_than_a_write_may_be_is_whole_or_has_not_happened(
    opened: Opened, store: CassandraStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "PART_BYTES", 100)
    box = await device(store)
    await fill(store, box, range(1, 30))
    await fill(store, box, range(30, 40))
    await opened.session.execute(
        "DELETE FROM journal USING TIMESTAMP 99 WHERE shard = ? AND epoch = 1 AND bucket = 0"
        " AND sequence = 3 AND part = 1",
        (opened.shard,),
    )
    store = await opened.again_after_crash()
    assert len(await store.page(box, InboxNumber(0), 99)) == 29


async def test_a_write_of_an_old_owner_that_comes_late_has_not_happened(
    opened: Opened, store: CassandraStore
) -> None:
    """It was on its way when the new owner had read the journal; a third owner must not see it."""
    box = await device(store)
    old = store._journal
    second = await opened.open()
    with pytest.raises(Fenced):
        await old.append(b"\x90")
    assert (1, 2) in await rows(opened, "journal", "epoch, sequence")
    assert second._journal.before[0].end == 1
    await fill(second, box, range(1, 2))
    third = await opened.again_after_crash()
    assert [(some.epoch, some.end) for some in third._journal.before] == [(1, 1), (2, 1)]
    assert len(await third.page(box, InboxNumber(0), 99)) == 1


async def test_an_old_owner_that_goes_on_writing_behind_changes_nothing(
    opened: Opened, store: CassandraStore
) -> None:
    box = await device(store)
    await fill(store, box, range(1, 4))
    await store.commit(writes(PutPeer(ME, FRIEND, ONE, 1, 3, b"old")))
    await opened.crash()
    new = await opened.open()
    await new.commit(writes(PutPeer(ME, FRIEND, ONE, 1, 4, b"new"), Advance(box, 3, ())))
    await new.write_behind()
    await store.write_behind()
    await opened.crash()
    newest = await opened.open()
    assert await newest.peers([(ME, FRIEND, ONE)]) == [(1, 4, b"new")]
    assert await newest.page(box, InboxNumber(0), 99) == []


async def test_a_failed_write_that_was_done_gives_way_to_the_next_turn(
    opened: Opened, store: CassandraStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await device(store)
    monkeypatch.setattr(journals, "PATIENCE_SECONDS", 0)
    execute = opened.session.execute

    async def fails(statement: str, parameters: Any = ()) -> Any:
        found = await execute(statement, parameters)
        if statement == journals._EPOCH:
            raise StoreError("timed out")
        return found

    monkeypatch.setattr(opened.session, "execute", fails)
    with pytest.raises(StoreError, match="timed out"):
        await fill(store, box, range(1, 3))
    monkeypatch.setattr(opened.session, "execute", execute)
    assert await store.page(box, InboxNumber(0), 99) == []
    await fill(store, box, range(1, 2))
    store = await opened.again_after_crash()
    assert [row.number for row in await store.page(box, InboxNumber(0), 99)] == [1]


async def test_of_two_who_take_over_at_once_one_is_left(opened: Opened) -> None:
    first = await opened.open()
    await device(first)
    both = await asyncio.gather(opened.open(), opened.open(), return_exceptions=True)
    stores = [some for some in both if isinstance(some, CassandraStore)]
    assert stores
    assert all(isinstance(some, CassandraStore | Fenced) for some in both)
    stores.sort(key=lambda store: store.epoch)
    for stale in (first, *stores[:-1]):
        with pytest.raises(Fenced):
            await stale.commit(writes(PutPeer(ME, FRIEND, ONE, 1, 1, b"")))
    await stores[-1].commit(writes(PutPeer(ME, FRIEND, ONE, 1, 1, b"")))


async def test_reads_are_right_while_rows_are_written_behind(store: CassandraStore) -> None:
    box = await device(store)
    for last in range(1, 60):
        await store.commit(
            writes(
                PutPeer(ME, FRIEND, ONE, 1, last, b""),
                PutReceipt(ME, ONE, FRIEND, 0, last, b"%d" % last),
                PutDevice(ME, ONE, 1, b"hash", None, b"", last),
            )
        )
        await fill(store, box, range(last, last + 1))
        store._counters.clear()
        behind = asyncio.create_task(store.write_behind())
        for _ in range(3):
            assert await store.peers([(ME, FRIEND, ONE)]) == [(1, last, b"")]
            assert [r.ranges for r in await store.receipts_after(ME, 0)] == [b"%d" % last]
            (user,) = await store.load([ME])
            assert (user.devices[0].head, user.devices[0].seen) == (last, last)
            assert len(await store.page(box, InboxNumber(0), 99)) == last
        await behind


async def test_an_acknowledged_turn_survives_the_death_of_the_server(
    cassandra: CassandraServer, opened: Opened, store: CassandraStore
) -> None:
    box = await device(store)
    await fill(store, box, range(1, 9))
    cassandra.kill()
    cassandra.start()
    for _ in range(50):
        try:
            store = await opened.again_after_crash()
            break
        except StoreError:
            await asyncio.sleep(0.2)
    assert len(await store.page(box, InboxNumber(0), 99)) == 8
