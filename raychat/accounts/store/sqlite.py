"""The store in SQLite.

Tables (schema version in `PRAGMA user_version`; see MIGRATIONS):

    pepper        one row: the fingerprint of the pepper that made the hashes in this file
    account       id, hash of its number (one account per number), last day it was seen
    lock          the registration lock of an account: slow hash of its PIN, when all tries are back
    registration  key (hash of its id), hash of the number, state 1 started, 2 verified,
                  3 redeemed, proof of its code, expiry (ms), tries left, account once redeemed,
                  hash of the number's prefix
    pace          for a number: codes sent in a row, time of the last (ms)
    pool          for a prefix, and for all: when its bucket is full (ms), codes sent and verified,
                  as they were at a time (ms)
    freed         a number that was given up: by which account, until when it rests (ms)
    leaving       accounts removed here that their hosts may not have been told of

No number, code, PIN or registration id is in the file, only hashes under the pepper, which lies
in a file of its own beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from raychat.accounts.pepper import Pepper
from raychat.accounts.store.accounts import AccountTables
from raychat.accounts.store.registrations import RegistrationTables
from raychat.accounts.store.statements import ours
from raychat.database import FileLock, connect, migrate, transaction
from raychat.errors import StoreLocked

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
    """
    ALTER TABLE account ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE registration ADD COLUMN prefix BLOB NOT NULL DEFAULT x'';
    CREATE TABLE lock (
        account BLOB PRIMARY KEY, hash TEXT NOT NULL, full_at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE pace (
        number BLOB PRIMARY KEY, codes INTEGER NOT NULL, at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX pace_at ON pace (at);
    CREATE TABLE pool (
        key BLOB PRIMARY KEY, full_at INTEGER NOT NULL, sent REAL NOT NULL,
        verified REAL NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX pool_at ON pool (at);
    CREATE TABLE freed (
        number BLOB PRIMARY KEY, account BLOB NOT NULL, until INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX freed_until ON freed (until);
    CREATE TABLE leaving (account BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
    """,
]


class SqliteAccountStore(RegistrationTables, AccountTables):
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
            with ours(), transaction(self._db):
                self._db.execute("INSERT INTO pepper VALUES (?)", (pepper.fingerprint(),))
        elif pepper is None or pepper.fingerprint() != row[0]:
            # A new pepper would make every number a stranger to its account.
            raise StoreLocked(
                f"The file {path.name} is missing or not the one of these accounts; "
                "restore it from the backup."
            )
        return pepper

    async def close(self) -> None:
        self._db.close()
        self._lock.release()
