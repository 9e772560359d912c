"""A SQLite file opened the way raychat needs it: durable, locked to one process, migrated.

Every store of raychat, the server's and the device's, opens its file here. WAL with
synchronous=FULL: a commit that has returned survives power loss. The SQLite that apsw brings
is used because that of many distributions (3.7.0 to 3.51.2) can corrupt a WAL database when
two connections write and checkpoint at once.

Fetch what a statement gives before the next one, and keep no cursor: apsw (3.54) remembers each
one that is released after a later one was made, and walks through them at every statement.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from raychat.errors import StoreError, StoreInUse, StoreLocked, StoreTooNew

Row = tuple[Any, ...]

BUSY_MS = 5_000


def connect(path: Path, *, key: bytes | None = None) -> apsw.Connection:
    """A connection with our settings; `key` (32 bytes) opens an encrypted file.

    Raises StoreLocked if the key does not open it, StoreError if it cannot be opened at all.
    """
    try:
        connection = apsw.Connection(str(path))
        if key is not None:
            connection.pragma("cipher", "chacha20")
            connection.pragma("hexkey", key.hex())
            # What is deleted must be gone for whoever gets file and key later: keys above all.
            connection.pragma("secure_delete", "fast")
        connection.set_busy_timeout(BUSY_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("foreign_keys", "on")
    except apsw.NotADBError as error:
        raise StoreLocked from error
    except apsw.Error as error:
        raise StoreError(f"The store {path.name} cannot be opened: {error}.") from error
    return connection


def migrate(connection: apsw.Connection, steps: Sequence[str]) -> None:
    """Bring the schema to version len(steps), each step in its own transaction.

    `PRAGMA user_version` counts the steps done. Raises StoreTooNew for a file of a later one.
    """
    version = int(connection.pragma("user_version"))
    if version > len(steps):
        raise StoreTooNew
    for number, step in enumerate(steps[version:], start=version + 1):
        with connection:
            connection.execute(step)
            connection.pragma("user_version", number)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """One write transaction: committed (and durable) when the block ends, else rolled back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except apsw.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class FileLock:
    """Holds a lock file for this process; the kernel lets go of it when the process dies."""

    __slots__ = ("_fd",)

    def __init__(self, path: Path) -> None:
        """Take the lock or raise StoreInUse."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreInUse from error
        self._fd: int | None = descriptor

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
