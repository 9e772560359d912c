"""Where accounts and registrations last: the protocol, and SQLite.

Tables (schema version in `PRAGMA user_version`; see MIGRATIONS):

    pepper        one row: the fingerprint of the pepper that made the hashes in this file
    account       id, hash of its number; one account per number, for ever
    registration  key (hash of its id), hash of the number, state 1 started, 2 verified,
                  3 redeemed, proof of its code, expiry (ms), tries left, account once redeemed

No number, code or registration id is in the file, only hashes under the pepper, which lies in
a file of its own beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import apsw

from raychat.accounts.pepper import NumberHash, Pepper, RegistrationKey
from raychat.accounts.registration import Redeemed, Registration, Started, Verified
from raychat.database import FileLock, Row, connect, migrate, transaction
from raychat.errors import StoreError, StoreLocked
from raychat.ids import AccountId

MIGRATIONS: Final = [
    """
    CREATE TABLE pepper (fingerprint BLOB NOT NULL) STRICT;
    CREATE TABLE account (
        id BLOB PRIMARY KEY, number BLOB NOT NULL UNIQUE) STRICT, WITHOUT ROWID;
    CREATE TABLE registration (
        key BLOB PRIMARY KEY, number BLOB NOT NULL, state INTEGER NOT NULL, proof BLOB NOT NULL,
        expires INTEGER NOT NULL, tries INTEGER NOT NULL, account BLOB) STRICT, WITHOUT ROWID;
    CREATE INDEX registration_number ON registration (number, state);
    CREATE INDEX registration_expires ON registration (expires);
    """,
]

STARTED: Final = 1
VERIFIED: Final = 2
REDEEMED: Final = 3


class AccountStore(Protocol):
    """Each call is a durable transaction of its own. All may raise StoreError."""

    @property
    def pepper(self) -> Pepper:
        """What makes the hashes this store takes."""

    async def begin(self, started: Started, now: int, most: int) -> bool:
        """Keep a new registration in place of the started ones of its number, and sweep those
        that expired. False, and nothing kept, if `most` others are alive."""

    async def registration(self, key: RegistrationKey) -> Registration | None: ...

    async def save(self, registration: Registration) -> None:
        """Replace a registration's state, unless it was swept or replaced meanwhile."""

    async def claim(self, number: NumberHash, candidate: AccountId) -> AccountId:
        """The account of a number; `candidate` becomes it if there is none yet."""

    async def account(self, number: NumberHash) -> AccountId | None: ...

    async def accounts(self, after: AccountId, most: int) -> list[AccountId]:
        """At most `most` accounts whose id is greater, in order."""

    async def count(self) -> int:
        """How many accounts there are."""

    async def close(self) -> None: ...


class SqliteAccountStore:
    """Implements `AccountStore`. Calls run where they are made: a write is a local fsync."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, and its pepper (`.pepper`) with it.

        Raises StoreInUse while another process has it, StoreLocked if the pepper is missing or
        another one, StoreTooNew, StoreError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_suffix(".lock"))
        try:
            # Made here so that it, and the files SQLite puts beside it, are ours alone.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = connect(path)
            try:
                migrate(self._db, MIGRATIONS)
                self._pepper = self._open_pepper(path.with_suffix(".pepper"))
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    @property
    def pepper(self) -> Pepper:
        return self._pepper

    def _open_pepper(self, path: Path) -> Pepper:
        row = self._db.execute("SELECT fingerprint FROM pepper").fetchone()
        pepper = Pepper.load(path)
        if row is None:
            pepper = pepper or Pepper.create(path)
            with _ours(), transaction(self._db):
                self._db.execute("INSERT INTO pepper VALUES (?)", (pepper.fingerprint(),))
        elif pepper is None or pepper.fingerprint() != row[0]:
            # A new pepper would make every number a stranger to its account.
            raise StoreLocked(
                f"The file {path.name} is missing or not the one of these accounts; "
                "restore it from the backup."
            )
        return pepper

    # -- registrations ---------------------------------------------------------------------

    async def begin(self, started: Started, now: int, most: int) -> bool:
        db = self._db
        with _ours(), transaction(db):
            db.execute("DELETE FROM registration WHERE expires <= ?", (now,))
            # Verified ones stay: who has proven to own the number is not thrown out by
            # somebody else who merely typed it.
            db.execute(
                "DELETE FROM registration WHERE number = ? AND state = ?",
                (started.number, STARTED),
            )
            if db.execute("SELECT count(*) FROM registration").fetchall()[0][0] >= most:
                return False
            db.execute("INSERT INTO registration VALUES (?, ?, ?, ?, ?, ?, ?)", _row(started))
        return True

    async def registration(self, key: RegistrationKey) -> Registration | None:
        with _ours():
            row = self._db.execute("SELECT * FROM registration WHERE key = ?", (key,)).fetchone()
        return _registration(row) if row else None

    async def save(self, registration: Registration) -> None:
        with _ours(), transaction(self._db):
            self._db.execute(
                "UPDATE registration SET number = ?2, state = ?3, proof = ?4, expires = ?5,"
                " tries = ?6, account = ?7 WHERE key = ?1",
                _row(registration),
            )

    # -- accounts --------------------------------------------------------------------------

    async def claim(self, number: NumberHash, candidate: AccountId) -> AccountId:
        with _ours(), transaction(self._db):
            self._db.execute(
                "INSERT INTO account VALUES (?, ?) ON CONFLICT (number) DO NOTHING",
                (candidate, number),
            )
            account = self._account(number)
        if account is None:
            raise StoreError("An account was written and is not there.")
        return account

    async def account(self, number: NumberHash) -> AccountId | None:
        with _ours():
            return self._account(number)

    async def accounts(self, after: AccountId, most: int) -> list[AccountId]:
        with _ours():
            rows = self._db.execute(
                "SELECT id FROM account WHERE id > ? ORDER BY id LIMIT ?", (after, most)
            ).fetchall()
        return [AccountId(row[0]) for row in rows]

    async def count(self) -> int:
        with _ours():
            return int(self._db.execute("SELECT count(*) FROM account").fetchall()[0][0])

    def _account(self, number: NumberHash) -> AccountId | None:
        row = self._db.execute("SELECT id FROM account WHERE number = ?", (number,)).fetchone()
        return AccountId(row[0]) if row else None

    async def close(self) -> None:
        self._db.close()
        self._lock.release()


@contextmanager
def _ours() -> Iterator[None]:
    """SQLite's errors as ours. They carry no values, only what failed."""
    try:
        yield
    except apsw.Error as error:
        raise StoreError(f"The accounts cannot be read or written: {error}.") from error


def _row(registration: Registration) -> Row:
    match registration:
        case Started(key, number, proof, expires, tries):
            return key, number, STARTED, proof, expires, tries, None
        case Verified(key, number, proof, expires):
            return key, number, VERIFIED, proof, expires, 0, None
        case Redeemed(key, number, proof, expires, account):
            return key, number, REDEEMED, proof, expires, 0, account


def _registration(row: Row) -> Registration:
    key, number, state, proof, expires, tries, account = row
    if state == STARTED:
        return Started(key, number, proof, expires, tries)
    if state == VERIFIED:
        return Verified(key, number, proof, expires)
    return Redeemed(key, number, proof, expires, account)
