"""The key-transparency log in one SQLite file.

    epoch     number (1, 2, 3…), its time and the map's root: the leaves of the log
    log_node  (level, place): the hash of each full subtree of the log; never changes
    map_node  place: the map as it is now; a leaf 00 | label | value, or a branch 01 | hash
    account   how many lists it has had, the epoch of the last, their chain hash; the newest list's
              hash, and the account key and version it has, by which a late call is known
    change    (account, counter): each list's hash and the chain hash up to it

The log and the map are made of hashes and public keys, so the file is not encrypted. An epoch is
one transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from raychat.database import FileLock, connect, migrate, transaction
from raychat.errors import BadProof, StoreError
from raychat.ids import AccountId
from raychat.transparency import accounts_map, merkle
from raychat.transparency.accounts_map import LABEL_BYTES, Leaf, MapProof, Stored
from raychat.transparency.answer import Lists, expected
from raychat.transparency.head import NO_LISTS, Entry, Epoch, chained, label_of

MIGRATIONS: Final = [
    """
    CREATE TABLE epoch (
        number INTEGER PRIMARY KEY, time INTEGER NOT NULL, map_root BLOB NOT NULL) STRICT;
    CREATE TABLE log_node (
        level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL,
        PRIMARY KEY (level, place)) STRICT, WITHOUT ROWID;
    CREATE TABLE map_node (
        place BLOB PRIMARY KEY, node BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE account (
        account BLOB PRIMARY KEY, counter INTEGER NOT NULL, epoch INTEGER NOT NULL,
        chain BLOB NOT NULL, newest BLOB NOT NULL, key BLOB NOT NULL,
        version INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE change (
        account BLOB NOT NULL, counter INTEGER NOT NULL, list BLOB NOT NULL,
        chain BLOB NOT NULL, PRIMARY KEY (account, counter)) STRICT, WITHOUT ROWID;
    """,
]

_LEAF: Final = b"\x00"
_BRANCH: Final = b"\x01"


class Change(NamedTuple):
    """An account has a new device list: its hash, and the account key and version it has."""

    account: AccountId
    list_hash: bytes
    key: bytes
    version: int


class Proofs(NamedTuple):
    """What an answer is made of, all of the same moment."""

    size: int
    root: bytes
    map_root: bytes
    consistency: tuple[bytes, ...]
    inclusion: tuple[bytes, ...]
    epoch_time: int


class _MapNodes:
    """The map's nodes in the file, through one connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def get(self, place: bytes) -> Stored:
        data: bytes | None = self._db.execute(
            "SELECT node FROM map_node WHERE place = ?", (place,)
        ).get
        if data is None:
            return None
        if data[:1] == _BRANCH:
            return data[1:]
        return Leaf(data[1 : 1 + LABEL_BYTES], data[1 + LABEL_BYTES :])

    def put(self, place: bytes, node: Leaf | bytes) -> None:
        data = _BRANCH + node if isinstance(node, bytes) else _LEAF + node.label + node.value
        self._db.execute("INSERT OR REPLACE INTO map_node VALUES (?, ?)", (place, data))


class LogStore:
    """The file, for one process. `commit` may run in a thread beside the reading methods."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises StoreInUse, StoreTooNew, StoreError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_suffix(".lock"))
        try:
            self._db = connect(path)
            os.chmod(path, 0o600)
            migrate(self._db, MIGRATIONS)
            self._reader = connect(path)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        self._reader.close()
        self._db.close()
        self._lock.release()

    # -- writing ---------------------------------------------------------------------------

    def commit(self, changes: Sequence[Change], now: int) -> bool:
        """One epoch with all of the changes that are news; False if none is. Durable when it
        returns. Raises StoreError."""
        with _store_errors(), transaction(self._db):
            number = self._size(self._db) + 1
            nodes = _MapNodes(self._db)
            news = [change for change in changes if self._take(nodes, change, number)]
            if news:
                epoch = Epoch(number, now, accounts_map.root(nodes))
                self._db.execute("INSERT INTO epoch VALUES (?, ?, ?)", tuple(epoch))
                self._db.executemany(
                    "INSERT INTO log_node VALUES (?, ?, ?)",
                    list(merkle.grown(self._node(self._db), number - 1, epoch.leaf())),
                )
        return bool(news)

    def _take(self, nodes: _MapNodes, change: Change, epoch: int) -> bool:
        """One change, unless it is known, or a call for a newer list has overtaken it."""
        account, list_hash, key, version = change
        before = self._db.execute(
            "SELECT counter, chain, newest, key, version FROM account WHERE account = ?",
            (account,),
        ).fetchone()
        counter, chain = 0, NO_LISTS
        if before is not None:
            counter, chain, newest, known_key, known_version = before
            if newest == list_hash or (known_key == key and version <= known_version):
                return False
        entry = Entry(counter + 1, epoch, chained(chain, (list_hash,)))
        self._db.execute(
            "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?)",
            (account, *entry, list_hash, key, version),
        )
        self._db.execute(
            "INSERT INTO change VALUES (?, ?, ?, ?)",
            (account, entry.counter, list_hash, entry.chain),
        )
        accounts_map.put(nodes, label_of(account), entry.value())
        return True

    # -- reading ---------------------------------------------------------------------------

    def size(self) -> int:
        """How many epochs there are."""
        with self._moment() as db:
            return self._size(db)

    def proofs(self, since: int) -> Proofs:
        """The newest epoch, and that the log continues the one of `since` epochs.

        Raises BadProof if there were never so many.
        """
        with self._moment() as db:
            return self._proofs(db, since)

    def account(
        self, account: AccountId, since: int, known: int
    ) -> tuple[Proofs, MapProof, Lists | None]:
        """The same with what the map has of an account, and its lists after the first `known`."""
        with self._moment() as db:
            proofs = self._proofs(db, since)
            proof = accounts_map.prove(_MapNodes(db), label_of(account))
            return proofs, proof, self._lists(db, account, known)

    def _proofs(self, db: apsw.Connection, since: int) -> Proofs:
        size = self._size(db)
        if since > size:
            raise BadProof(f"This log has had {size} epochs, and never {since}.")
        node = self._node(db)
        consistency = merkle.consistency(node, since, size)
        if not size:
            return Proofs(0, merkle.EMPTY_ROOT, accounts_map.EMPTY, (), (), 0)
        time, map_root = db.execute(
            "SELECT time, map_root FROM epoch WHERE number = ?", (size,)
        ).fetchone()
        inclusion = merkle.inclusion(node, size - 1, size)
        root = merkle.root(node, size)
        return Proofs(size, root, map_root, tuple(consistency), tuple(inclusion), time)

    @staticmethod
    def _lists(db: apsw.Connection, account: AccountId, known: int) -> Lists | None:
        row = db.execute(
            "SELECT counter, epoch, chain FROM account WHERE account = ?", (account,)
        ).fetchone()
        if row is None:
            return None
        entry = Entry(*row)
        before = entry.counter - expected(entry.counter, known)
        latest = db.execute(
            "SELECT list FROM change WHERE account = ? AND counter > ? ORDER BY counter",
            (account, before),
        ).fetchall()
        base = db.execute(
            "SELECT chain FROM change WHERE account = ? AND counter = ?", (account, before)
        ).get
        return Lists(entry, base or NO_LISTS, tuple(digest for (digest,) in latest))

    @staticmethod
    def _size(db: apsw.Connection) -> int:
        return int(db.execute("SELECT max(number) FROM epoch").get or 0)

    @staticmethod
    def _node(db: apsw.Connection) -> merkle.Node:
        def node(level: int, place: int) -> bytes:
            found: bytes | None = db.execute(
                "SELECT hash FROM log_node WHERE level = ? AND place = ?", (level, place)
            ).get
            if found is None:
                raise StoreError("The key log lacks a part of its tree; restore it.")
            return found

        return node

    @contextmanager
    def _moment(self) -> Iterator[apsw.Connection]:
        """All that is read in the block is of one moment."""
        with _store_errors():
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StoreError(f"The key log could not be read or written: {error}.") from error
