"""The SQLite store keeps the contract, and what is particular to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raychat.database import connect, migrate
from raychat.errors import StoreInUse, StoreTooNew
from raychat.ids import InboxNumber
from raychat.store.sqlite import SqliteStore
from raychat.store.sqlite.schema import MIGRATIONS
from raychat.store.sqlite.store import LOG_PAGE_BYTES
from raychat.users.events import DeviceRecord, UserRecord
from tests.store.contract import ME, ONE, StoreContract, device, fill


class Opened:
    """The store of one test, under a name that can be opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(path, "host-0")

    async def again(self) -> SqliteStore:
        await self.store.close()
        self.store = SqliteStore(self.path, "host-0")
        return self.store


@pytest.fixture
async def opened(tmp_path: Path):
    opened = Opened(tmp_path / "host-0.db")
    yield opened
    await opened.store.close()


@pytest.fixture
def store(opened: Opened) -> SqliteStore:
    return opened.store


@pytest.fixture
def reopen(opened: Opened):
    return opened.again


@pytest.fixture
async def take_over(opened: Opened):
    """Another process takes the store although this one lives: as after a lock that failed."""
    others = []

    async def other() -> SqliteStore:
        opened.store._lock.release()
        others.append(SqliteStore(opened.path, "host-0"))
        return others[0]

    yield other
    for store in others:
        await store.close()


class TestSqlite(StoreContract):
    pass


async def test_a_second_process_cannot_open_it(opened: Opened) -> None:
    with pytest.raises(StoreInUse):
        SqliteStore(opened.path, "host-0")


async def test_each_opening_raises_the_epoch(opened: Opened) -> None:
    before = opened.store.epoch
    assert (await opened.again()).epoch == before + 1


async def test_a_file_of_a_later_version_is_not_touched(opened: Opened) -> None:
    await opened.store.close()
    db = connect(opened.path)
    db.pragma("user_version", len(MIGRATIONS) + 1)
    db.close()
    with pytest.raises(StoreTooNew):
        SqliteStore(opened.path, "host-0")
    db = connect(opened.path)
    db.pragma("user_version", len(MIGRATIONS))
    db.close()
    opened.store = SqliteStore(opened.path, "host-0")


async def test_the_log_is_written_back_and_starts_over(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "host-0.db", "host-0", log_pages=20)
    box = await device(store)
    for n in range(1, 400):
        await fill(store, box, range(n, n + 1))
        if store._checkpoint is not None:
            await store._checkpoint
    assert (tmp_path / "host-0.db-wal").stat().st_size < 60 * 4_200
    assert len(await store.page(box, InboxNumber(0), 999)) == 399
    await store.close()


async def test_a_log_that_was_grown_ahead_is_read_back_after_a_crash(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "host-0.db", "host-0", log_pages=50)
    box = await device(store)
    await fill(store, box, range(1, 30))
    for suffix in ("", "-wal"):
        source = tmp_path / f"host-0.db{suffix}"
        (tmp_path / f"copy.db{suffix}").write_bytes(source.read_bytes())
    assert (tmp_path / "copy.db-wal").stat().st_size >= 50 * LOG_PAGE_BYTES
    copy = SqliteStore(tmp_path / "copy.db", "host-0", log_pages=50)
    assert len(await copy.page(box, InboxNumber(0), 99)) == 29
    await fill(copy, box, range(30, 40))
    await copy.close()
    again = SqliteStore(tmp_path / "copy.db", "host-0", log_pages=50)
    assert len(await again.page(box, InboxNumber(0), 99)) == 39
    await again.close()
    await store.close()


async def test_only_its_owner_may_read_the_file(opened: Opened) -> None:
    assert opened.path.stat().st_mode & 0o077 == 0


async def test_a_crash_after_the_commit_loses_nothing(opened: Opened, tmp_path: Path) -> None:
    store = opened.store
    box = await device(store)
    await fill(store, box, range(1, 9))
    for suffix in ("", "-wal"):
        (tmp_path / f"copy.db{suffix}").write_bytes(Path(f"{opened.path}{suffix}").read_bytes())
    copy = SqliteStore(tmp_path / "copy.db", "host-0")
    (user,) = await copy.load([ME])
    assert user.devices[0].head == 8
    await copy.close()


async def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    db = connect(tmp_path / "host-0.db")
    migrate(db, MIGRATIONS[:1])
    db.execute(
        "INSERT INTO device (account, device, incarnation, token_hash, cursor)"
        " VALUES (?, 1, 3, x'aa', 7)",
        (ME,),
    )
    db.execute("INSERT INTO receipt VALUES (?, 1, ?, 0, 4, x'90')", (ME, ME))
    db.execute("INSERT INTO keys VALUES (?, 1, 9, x'01', x'02', x'03')", (ME,))
    db.close()
    store = SqliteStore(tmp_path / "host-0.db", "host-0")
    (user,) = await store.load([ME])
    seven = InboxNumber(7)
    assert user == UserRecord(ME, 4, [DeviceRecord(ONE, 1, 3, b"\xaa", seven, seven)])
    (taken,) = await store.take_keys(ME)
    assert (taken.incarnation, taken.keys.registration) == (3, 9)
    await store.close()
