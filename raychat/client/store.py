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
from typing import Any, NamedTuple, Self

import apsw

from raychat import limits
from raychat.client import keyfile
from raychat.client.changes import Changes
from raychat.client.device_lists import DeviceLists
from raychat.client.expiry import Expiry
from raychat.client.history import History
from raychat.client.key_log import KeyLog
from raychat.client.keys import KeyStore, first_key_id, new_registration_id
from raychat.client.outbox import Outbox
from raychat.client.peers import Peers
from raychat.client.rows import Rows
from raychat.client.schema import MIGRATIONS
from raychat.client.search import Search
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
        self.lists = DeviceLists(self._db)
        self.keys = KeyStore(self._db, self.lists)
        self.sender_keys = SqliteSenderKeyStore(self._db)
        self.history = History(self._db)
        self.changes = Changes(self._db)
        self.expiry = Expiry(self._db)
        self.search = Search(self._db)
        self.outbox = Outbox(self._db)
        self.peers = Peers(self._db)
        self.key_log = KeyLog(self._db)

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

    @property
    def connection(self) -> apsw.Connection:
        """The database, for what keeps tables of its own in it."""
        return self._db

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
            self.lists.forget()
            if isinstance(error, apsw.Error):
                raise StoreError(f"The device's file cannot be written: {error}.") from error
            raise

    def scrub(self) -> None:
        """Overwrite what was deleted in the write-ahead log too, as far as no reader needs it.

        Called outside a transaction, after messages have disappeared.
        """
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return  # the next one does it

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

    def prepare(self, number: PhoneNumber | None, server: str) -> None:
        """Give the device an identity before it is registered. Keeps one that is there.

        `number` is None if another device is to say it (`adopt`). Raises StoreError if the file
        belongs to another number.
        """
        if number is not None:
            self.adopt(number)
        self._db.execute(
            "INSERT INTO own (one, number, server, registration_id, identity, next_key_id)"
            " VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET server = excluded.server",
            (
                number or "",
                server,
                new_registration_id(),
                IdentityKeyPair.generate().to_bytes(),
                first_key_id(),
            ),
        )

    def adopt(self, number: PhoneNumber) -> None:
        """The file belongs to this number. Raises StoreError if it belongs to another one."""
        row = self._row("SELECT number FROM own")
        if row is not None and row[0] not in ("", number):
            raise StoreError("This profile belongs to another number; use another --profile.")
        self._db.execute("UPDATE own SET number = ?", (str(number),))

    def move_to(self, number: PhoneNumber) -> None:
        """The account has another number now."""
        self._db.execute("UPDATE own SET number = ?", (str(number),))

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
            "UPDATE message SET id = NULL, incarnation = NULL, device = NULL, author = ?"
            " WHERE outgoing AND key IN (SELECT message FROM outbox)",
            (account,),
        )
        self._db.execute("UPDATE outbox SET id = NULL, parts = NULL")
        for table in ("recent", "unopened", "healing"):  # of the incarnation before
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (own names)
        self._db.execute("DELETE FROM fact WHERE name = 'token made'")

    # -- what is done now and then -----------------------------------------------------------

    def upkeep(self, name: str) -> int:
        """When it is due next (ms); 0 if that was never set."""
        row = self._row("SELECT due FROM upkeep WHERE name = ?", name)
        return row[0] if row else 0

    def set_upkeep(self, name: str, due: int) -> None:
        self._db.execute(
            "INSERT INTO upkeep VALUES (?, ?) ON CONFLICT DO UPDATE SET due = excluded.due",
            (name, due),
        )

    def set_token(self, token: Secret, now: int) -> None:
        """The server knows this device by another token from its next use on (`now` in ms)."""
        self._db.execute("UPDATE own SET token = ?", (bytes(token),))
        self.set_fact("token made", now)

    def fact(self, name: str) -> Any:
        """A single value by its name; None if it was never set."""
        row = self._row("SELECT value FROM fact WHERE name = ?", name)
        return row[0] if row else None

    def set_fact(self, name: str, value: int | bytes | str) -> None:
        self._db.execute(
            "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2", (name, value)
        )

    def set_seen(self, seen: int) -> None:
        self._db.execute("UPDATE own SET seen = ?", (seen,))

    def set_revision(self, revision: int) -> None:
        self._db.execute("UPDATE own SET revision = max(revision, ?)", (revision,))

    # -- inbox numbers that could not be opened --------------------------------------------

    def failed(self) -> list[int]:
        """Those that may not be settled yet, at most as many as fit into one frame."""
        rows = self._rows(
            "SELECT number FROM failed ORDER BY number DESC LIMIT ?", limits.UNTOLD_PER_ACK
        )
        return sorted(number for (number,) in rows)

    def add_failed(self, number: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO failed VALUES (?)", (number,))

    def settle_failed(self, upto: int) -> None:
        self._db.execute("DELETE FROM failed WHERE number <= ?", (upto,))
