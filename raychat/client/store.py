"""A device's file: its keys, its history and what it still owes, in one encrypted SQLite file.

Whatever belongs together is one transaction: receiving is decrypting, the session's step, the
history and the inbox cursor; sending is encrypting, the session's step, the history and the
outbox. A crash leaves all of it or nothing, and what leaves the device is in the file first.

One process has the file open for writing (`FileLock`); others may read the history meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import apsw

from raychat import limits
from raychat.client import keyfile
from raychat.client.history import History
from raychat.client.keys import KeyStore, first_key_id, new_registration_id
from raychat.client.outbox import Outbox
from raychat.client.peers import Peers
from raychat.client.rows import Rows
from raychat.client.schema import MIGRATIONS
from raychat.client.sender_keys import SqliteSenderKeyStore
from raychat.crypto import IdentityKeyPair
from raychat.database import FileLock, connect, migrate, transaction
from raychat.errors import NotRegistered, StoreError, StoreInUse, StoreTooNew
from raychat.ids import AccountId, Address, DeviceId, InboxNumber, PhoneNumber, Secret


class Own(NamedTuple):
    """Who this device is. `seen` is None until the server has said where its inbox starts."""

    number: PhoneNumber
    server: str
    account: AccountId
    device: DeviceId
    incarnation: int
    token: Secret
    seen: InboxNumber | None
    revision: int

    @property
    def address(self) -> Address:
        return Address(self.account, self.device)


class DeviceStore(Rows):
    """The file of one profile. Methods that write are called inside `transaction()`."""

    def __init__(self, directory: Path, passphrase: str | None = None) -> None:
        """Open or create the device's file and take it for this process.

        Raises StoreInUse while another process has it, StoreLocked, StoreTooNew, StoreError.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock: FileLock | None = FileLock(directory / "device.lock")
        except StoreInUse:
            raise StoreInUse(
                f"The profile {directory.name} is open in another raychat; close it there, or "
                "use another --profile."
            ) from None
        path, key_path = directory / "device.db", directory / "device.key"
        try:
            if not key_path.exists() and not path.exists():
                keyfile.create(key_path, passphrase)
            self._db = connect(path, key=keyfile.read(key_path, passphrase))
            os.chmod(path, 0o600)
            migrate(self._db, MIGRATIONS)
        except BaseException:
            self._lock.release()
            raise
        self._open()

    def _open(self) -> None:
        self.keys = KeyStore(self._db)
        self.sender_keys = SqliteSenderKeyStore(self._db)
        self.history = History(self._db)
        self.outbox = Outbox(self._db)
        self.peers = Peers(self._db)

    @classmethod
    def read_only(cls, directory: Path, passphrase: str | None = None) -> Self:
        """The file to read from, also while another process has it open for writing.

        Raises NotRegistered if there is none, StoreLocked, StoreTooNew, StoreError.
        """
        path = directory / "device.db"
        if not path.exists():
            raise NotRegistered
        store = cls.__new__(cls)
        store._lock = None
        store._db = connect(path, key=keyfile.read(directory / "device.key", passphrase))
        store._db.pragma("query_only", "on")
        version = int(store._db.pragma("user_version"))
        if version != len(MIGRATIONS):
            store._db.close()
            if version > len(MIGRATIONS):
                raise StoreTooNew
            cls(directory, passphrase).close()  # brings it up to date
            return cls.read_only(directory, passphrase)
        store._open()
        return store

    def close(self) -> None:
        """Let go of the file. What was committed stays."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and durable when the block has ended."""
        try:
            with transaction(self._db):
                yield
                self.keys.flush()
        except BaseException as error:
            self.keys.forget()
            if isinstance(error, apsw.Error):
                raise StoreError(f"The device's file cannot be written: {error}.") from error
            raise

    # -- who this device is ----------------------------------------------------------------

    def own(self) -> Own:
        """Raises NotRegistered."""
        row = self._row(
            "SELECT number, server, account, device, incarnation, token, seen, revision FROM own"
            " WHERE account IS NOT NULL"
        )
        if row is None:
            raise NotRegistered
        number, server, account, device, incarnation, token, seen, revision = row
        return Own(
            PhoneNumber(number), server, account, device, incarnation, Secret(token), seen, revision
        )

    def prepare(self, number: PhoneNumber, server: str) -> None:
        """Give the device an identity before it is registered. Keeps one that is there.

        Raises RaychatError if the file belongs to another number.
        """
        row = self._row("SELECT number FROM own")
        if row is not None and row[0] != number:
            raise StoreError("This profile belongs to another number; use another --profile.")
        self._db.execute(
            "INSERT INTO own (one, number, server, registration_id, identity, next_key_id)"
            " VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET server = excluded.server",
            (
                number,
                server,
                new_registration_id(),
                IdentityKeyPair.generate().to_bytes(),
                first_key_id(),
            ),
        )

    def register(
        self, account: AccountId, device: DeviceId, incarnation: int, token: Secret
    ) -> None:
        """The server knows this device now. It counts inbox and message ids anew.

        For another account than before, peers will not know our sessions, and nothing will
        be heard any more of what the old one sent.
        """
        before = self._row("SELECT account FROM own")
        if before is not None and before[0] not in (None, account):
            self._db.execute("UPDATE message SET id = NULL WHERE outgoing")
            self._db.execute("DELETE FROM peer_device")
            self._db.execute("DELETE FROM session")
            self.keys.forget()
        self._db.execute(
            "UPDATE own SET account = ?, device = ?, incarnation = ?, token = ?, seen = NULL,"
            " revision = 0",
            (account, device, incarnation, bytes(token)),
        )
        self._db.execute("DELETE FROM failed")
        self._db.execute("DELETE FROM counter")
        self._db.execute(
            "UPDATE message SET id = NULL, incarnation = NULL, device = NULL"
            " WHERE outgoing AND key IN (SELECT message FROM outbox)"
        )
        self._db.execute("UPDATE outbox SET id = NULL, parts = NULL")

    def set_seen(self, seen: int) -> None:
        self._db.execute("UPDATE own SET seen = ?", (seen,))

    def set_revision(self, revision: int) -> None:
        self._db.execute("UPDATE own SET revision = max(revision, ?)", (revision,))

    # -- inbox numbers that could not be opened --------------------------------------------

    def failed(self) -> list[int]:
        """Those that may not be settled yet, at most as many as fit into one frame."""
        rows = self._rows(
            "SELECT number FROM failed ORDER BY number DESC LIMIT ?", limits.FAILED_PER_ACK
        )
        return sorted(number for (number,) in rows)

    def add_failed(self, number: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO failed VALUES (?)", (number,))

    def settle_failed(self, upto: int) -> None:
        self._db.execute("DELETE FROM failed WHERE number <= ?", (upto,))
