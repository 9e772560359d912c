"""The store of one host in one SQLite file.

The tables are in `schema`. An inbox is one run of integer keys, so that appending is the
cheapest thing SQLite can do, and what a device has acknowledged leaves by one range delete.
Nothing is deleted before that.

Fencing: the file is locked to one process (`FileLock`), and each commit compares the epoch it
was opened with to the one in the file, inside the transaction.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import apsw
import msgpack

from raychat.database import FileLock, connect, migrate, transaction
from raychat.errors import Fenced, StoreError
from raychat.ids import AccountId, DeviceId, Epoch, InboxNumber
from raychat.store.protocol import Owed, PeerId, ReceiptId, Writes
from raychat.store.records import OWED_BITS, PAGE_BYTES, inbox_row, told
from raychat.store.sqlite.keys import SqliteKeys, replace
from raychat.store.sqlite.schema import MIGRATIONS, SLOT_BITS, SLOT_MASK
from raychat.users.events import (
    Box,
    DeviceRecord,
    PeerRecord,
    ReceiptRecord,
    Row,
    UserRecord,
)

LOG_PAGES = 4_000
"""WAL pages (4 KiB) after which it is written back, in a thread beside the host."""

SMALL_LOG_PAGES = 200
"""The same for a host of a single user."""

LOG_PAGE_BYTES = 4_096 + 24

CACHE_KIB = 32 * 1024
MMAP_BYTES = 256 * 1024 * 1024

SLOW_COMMIT_SECONDS = 0.005
"""A disk that takes longer for a commit (on average) is waited for in a thread."""


class SqliteStore(SqliteKeys):
    """Implements `HostStore`.

    Reading has a connection of its own and runs where it is called. So does a transaction, but
    on a slow disk its end, which waits for the disk, runs in a thread, so that the host thinks on
    meanwhile. On a fast one handing over to a thread costs more than the fsync.
    """

    def __init__(self, path: Path, name: str, log_pages: int = LOG_PAGES) -> None:
        """Open or create the file for host `name` and take it over.

        Raises StoreInUse while another process has it, StoreTooNew, StoreError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._log_pages = log_pages
        self._lock = FileLock(path.with_suffix(".lock"))
        try:
            self._db = connect(path)
            self._reader = connect(path)
            os.chmod(path, 0o600)
            self._db.pragma("wal_autocheckpoint", 0)
            self._db.pragma("cache_size", -CACHE_KIB)
            self._reader.pragma("mmap_size", MMAP_BYTES)
            migrate(self._db, MIGRATIONS)
            self.epoch = self._take_over(name)
            self._grow_log()
        except BaseException:
            self._lock.release()
            raise
        # The epoch is in the number: word of an earlier opening that something is paid may come
        # late, and must not strike out what is owed since.
        newest = self._db.execute("SELECT max(sequence) FROM owed").get or 0
        self._owed = max(newest, self.epoch << OWED_BITS)
        self._box = 0
        self._depth = self._db.execute("SELECT count(*) FROM inbox").get
        self._wal_pages = 0
        self._commit_seconds = 0.0
        self._writing = asyncio.Lock()
        self._writer = ThreadPoolExecutor(1, "raychat-commit")
        self._checkpoint: asyncio.Future[None] | None = None
        self._db.set_wal_hook(self._on_wal)

    def _take_over(self, name: str) -> Epoch:
        """Raise the epoch: whoever had the file before can write no more."""
        with transaction(self._db):
            epoch = (self._db.execute("SELECT epoch FROM owner").get or 0) + 1
            self._db.execute("DELETE FROM owner")
            self._db.execute("INSERT INTO owner VALUES (?, ?)", (name, epoch))
        return Epoch(epoch)

    def _grow_log(self) -> None:
        """Give the WAL its full size now. A commit that makes a file grow waits for its metadata
        too, which takes twice as long as one that writes over old bytes. Zeros behind the
        last frame are no frame to SQLite, whose frames carry salts and checksums."""
        with open(f"{self._path}-wal", "r+b") as log:
            missing = self._log_pages * LOG_PAGE_BYTES - log.seek(0, os.SEEK_END)
            if missing > 0:
                log.write(bytes(missing))
                log.flush()
                os.fsync(log.fileno())

    # -- reading ---------------------------------------------------------------------------

    async def load(self, accounts: Sequence[AccountId]) -> list[UserRecord]:
        """A record for each account, without devices where the account is not known here."""
        execute = self._reader.execute
        users = []
        for account in accounts:
            devices = []
            for box, device, incarnation, token_hash, cursor, *rest in execute(
                "SELECT box, device, incarnation, token_hash, cursor, next_hash, seen FROM device"
                " WHERE account = ? ORDER BY device",
                (account,),
            ).fetchall():
                top = execute(
                    "SELECT max(slot) FROM inbox WHERE slot BETWEEN ? AND ?",
                    (box << SLOT_BITS, box << SLOT_BITS | SLOT_MASK),
                ).fetchone()
                head = top[0] & SLOT_MASK if top and top[0] is not None else cursor
                inbox = (cursor, max(head, cursor))
                devices.append(DeviceRecord(device, box, incarnation, token_hash, *inbox, *rest))
            newest = execute("SELECT max(revision) FROM receipt WHERE account = ?", (account,)).get
            version, key, data, blocked, revision = execute(
                "SELECT version, account_key, list, blocked, revision FROM account"
                " WHERE account = ?",
                (account,),
            ).fetchone() or (0, b"", b"", b"", 0)
            digest = sha256(data).digest() if data else b""
            listed = (version, key, digest, blocked)
            users.append(UserRecord(account, max(newest or 0, revision), devices, *listed))
        return users

    async def device_list(self, account: AccountId) -> bytes | None:
        """The signed device list of an account, None if it has none."""
        data: bytes | None = self._reader.execute(
            "SELECT list FROM account WHERE account = ?", (account,)
        ).get
        return data or None

    async def unseen(self, before: int, most: int) -> list[tuple[AccountId, DeviceId]]:
        """Linked devices that were last there before a day (since 1970)."""
        rows = self._reader.execute(
            "SELECT account, device FROM device WHERE device > 1 AND token_hash != x''"
            " AND seen < ? ORDER BY seen LIMIT ?",
            (before, most),
        )
        return [(AccountId(account), DeviceId(device)) for account, device in rows]

    async def peers(self, keys: Sequence[PeerId]) -> list[PeerRecord | None]:
        rows = (
            self._reader.execute(
                "SELECT incarnation, last, recent FROM peer"
                " WHERE account = ? AND sender = ? AND device = ?",
                key,
            ).fetchone()
            for key in keys
        )
        return [PeerRecord(*row) if row else None for row in rows]

    async def receipts(self, keys: Sequence[ReceiptId]) -> list[ReceiptRecord | None]:
        rows = (
            self._reader.execute(
                "SELECT device, peer, outcome, revision, ranges FROM receipt"
                " WHERE account = ? AND device = ? AND peer = ? AND outcome = ?",
                key,
            ).fetchone()
            for key in keys
        )
        return [ReceiptRecord(*row) if row else None for row in rows]

    async def receipts_after(self, account: AccountId, revision: int) -> list[ReceiptRecord]:
        """What became of messages of all devices of an account since, oldest first."""
        rows = self._reader.execute(
            "SELECT device, peer, outcome, revision, ranges FROM receipt"
            " WHERE account = ? AND revision > ? ORDER BY revision",
            (account, revision),
        )
        return [ReceiptRecord(*row) for row in rows]

    async def page(self, box: Box, after: InboxNumber, most: int) -> list[Row]:
        """The next envelopes after a number, at most `most` and about PAGE_BYTES."""
        rows: list[Row] = []
        size = 0
        for slot, frame in self._reader.execute(
            "SELECT slot, frame FROM inbox WHERE slot > ? AND slot <= ? ORDER BY slot LIMIT ?",
            (box << SLOT_BITS | after, box << SLOT_BITS | SLOT_MASK, most),
        ):
            rows.append(inbox_row(slot & SLOT_MASK, frame))
            size += len(frame)
            if size >= PAGE_BYTES:
                break
        return rows

    async def oldest(
        self, after: Box, boxes: int, before: int, most: int
    ) -> tuple[Box, list[tuple[AccountId, DeviceId, list[Row]]]]:
        """Walk the inboxes: from box `after` on, at most `boxes` of them, the envelopes taken
        before `before` (ms). Returns where to go on (0 after the last box)."""
        found = []
        devices = self._reader.execute(
            "SELECT box, account, device FROM device WHERE box > ? ORDER BY box LIMIT ?",
            (after, boxes),
        ).fetchall()
        for box, account, device in devices:
            rows: list[Row] = []
            for slot, frame in self._reader.execute(
                "SELECT slot, frame FROM inbox WHERE slot BETWEEN ? AND ? ORDER BY slot LIMIT ?",
                (box << SLOT_BITS, box << SLOT_BITS | SLOT_MASK, most),
            ):
                row = inbox_row(slot & SLOT_MASK, frame)
                if row.at >= before:
                    break
                rows.append(row)
            if rows:
                found.append((AccountId(account), DeviceId(device), rows))
        return (devices[-1][0] if len(devices) == boxes else 0), found

    async def owed(self, after: int, most: int) -> list[Owed]:
        rows = self._reader.execute(
            "SELECT sequence, told FROM owed WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, most),
        )
        return [Owed(sequence, told(msgpack.unpackb(fields))) for sequence, fields in rows]

    async def depth(self) -> tuple[int, int]:
        """Envelopes in all inboxes, and bytes of the file: for metrics."""
        return self._depth, self._path.stat().st_size

    # -- writing ---------------------------------------------------------------------------

    @property
    def commits_at_once(self) -> bool:
        return self._commit_seconds < SLOW_COMMIT_SECONDS

    async def commit(self, writes: Writes) -> None:
        """All or nothing, and durable when it returns. Raises Fenced, StoreError."""
        async with self._writing:
            started = perf_counter()
            with _store_errors():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    gone = self._stage(writes)
                    if self.commits_at_once:
                        self._db.execute("COMMIT")
                    else:
                        loop = asyncio.get_running_loop()
                        await loop.run_in_executor(self._writer, self._db.execute, "COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            self._depth += len(writes.appends) - gone
            self._commit_seconds += (perf_counter() - started - self._commit_seconds) / 16
            if self._wal_pages >= self._log_pages:
                self._write_back()

    def _stage(self, writes: Writes) -> int:
        """Put the writes into the transaction. Returns how many envelopes leave."""
        db = self._db
        gone = 0
        self._check_epoch()
        if writes.devices:
            db.executemany(
                "INSERT INTO device"
                " (account, device, incarnation, token_hash, box, next_hash, seen, cursor)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0) ON CONFLICT (account, device)"
                " DO UPDATE SET incarnation = ?3, token_hash = ?4, next_hash = ?6, seen = ?7",
                writes.devices,
            )
        if writes.keys or writes.lists or writes.blocked or writes.forgets or writes.forgotten:
            self._stage_accounts(writes)
        if writes.appends:
            db.executemany(
                "INSERT INTO inbox VALUES (?, ?)",
                [(box << SLOT_BITS | number, frame) for box, number, frame in writes.appends],
            )
        if writes.advances:
            cursors = {box: cursor for box, cursor, _ in writes.advances}
            before = db.total_changes()
            db.executemany(
                "DELETE FROM inbox WHERE slot BETWEEN ? AND ?",
                [(box << SLOT_BITS, box << SLOT_BITS | at) for box, at in cursors.items()],
            )
            gone = db.total_changes() - before
            db.executemany(
                "UPDATE device SET cursor = ? WHERE box = ?",
                [(cursor, box) for box, cursor in cursors.items()],
            )
        if writes.peers:
            db.executemany(
                "INSERT INTO peer VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                " ON CONFLICT DO UPDATE SET incarnation = ?4, last = ?5, recent = ?6",
                list(writes.peers.values()),
            )
        if writes.receipts:
            db.executemany(
                "INSERT INTO receipt VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                " ON CONFLICT DO UPDATE SET revision = ?5, ranges = ?6",
                list(writes.receipts.values()),
            )
        if writes.owed:
            db.executemany(
                "INSERT INTO owed VALUES (?, ?)",
                [(sequence, msgpack.packb(told)) for sequence, told in writes.owed],
            )
        if writes.paid:
            db.executemany("DELETE FROM owed WHERE sequence = ?", [(paid,) for paid in writes.paid])
        return gone

    def _stage_accounts(self, writes: Writes) -> None:
        """What changes with an account or its devices, which is seldom."""
        db = self._db
        for account, device, revision in writes.forgets:
            db.execute("DELETE FROM receipt WHERE account = ? AND device = ?", (account, device))
            db.execute(
                "INSERT INTO account (account, revision) VALUES (?1, ?2)"
                " ON CONFLICT DO UPDATE SET revision = max(revision, ?2)",
                (account, revision),
            )
        for account, revision in writes.forgotten:
            for table in ("receipt", "peer"):
                db.execute(f"DELETE FROM {table} WHERE account = ?", (account,))  # noqa: S608
            db.execute(
                "INSERT OR REPLACE INTO account (account, revision) VALUES (?, ?)",
                (account, revision),
            )
        for account, version, key, data in writes.lists.values():
            db.execute(
                "INSERT INTO account (account, version, account_key, list) VALUES (?1, ?2, ?3, ?4)"
                " ON CONFLICT DO UPDATE SET version = ?2, account_key = ?3, list = ?4",
                (account, version, key, data),
            )
        for account, blocked in writes.blocked.values():
            db.execute(
                "INSERT INTO account (account, blocked) VALUES (?1, ?2)"
                " ON CONFLICT DO UPDATE SET blocked = ?2",
                (account, blocked),
            )
        for account, device, keys in writes.keys.values():
            replace(db, account, device, keys)

    def next_box(self) -> Box:
        """A number for the inbox of a new device; none is given twice."""
        newest = self._reader.execute("SELECT max(box) FROM device").get or 0
        self._box = max(self._box, newest) + 1
        return self._box

    def next_owed(self) -> int:
        """A number for the next `Owed`; numbers only grow, and none is given twice."""
        self._owed += 1
        return self._owed

    def _check_epoch(self) -> None:
        row = self._db.execute("SELECT epoch FROM owner").fetchone()
        if row is None or row[0] != self.epoch:
            raise Fenced

    @asynccontextmanager
    async def _apart(self) -> AsyncIterator[apsw.Connection]:
        """A durable transaction beside the turns. Raises Fenced, StoreError."""
        async with self._writing:
            with _store_errors(), transaction(self._db):
                self._check_epoch()
                yield self._db

    # -- the write-ahead log ---------------------------------------------------------------

    def _on_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    def _write_back(self) -> None:
        """Copy the WAL into the file in a thread; then, between two commits, the little that came
        meanwhile, so that the WAL starts over instead of growing for ever under load."""
        if self._checkpoint is None:
            loop = asyncio.get_running_loop()
            self._checkpoint = loop.run_in_executor(None, _checkpoint, self._path)
        elif self._checkpoint.done():
            self._checkpoint = None
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_pages = 0

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._writer.shutdown()
        self._reader.close()
        self._db.close()
        self._lock.release()


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StoreError(f"The store could not be written: {error}.") from error


def _checkpoint(path: Path) -> None:
    connection = connect(path)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    finally:
        connection.close()
