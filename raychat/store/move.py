"""Moving users between the stores of hosts, while none of them runs.

Done when a server starts with another placement or number of hosts than its data was written
with. A user is copied, committed there, and only then removed here; what a crash leaves in both
is copied again the next time, since nobody has used the copy in between.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import msgpack

from raychat.database import FileLock, connect, migrate, transaction
from raychat.ids import AccountId
from raychat.store.sqlite.schema import MIGRATIONS, SLOT_BITS, SLOT_MASK

ACCOUNT_TABLES = ("account", "peer", "receipt", "keys", "prekey", "uploaded")
DEVICE_COLUMNS = "account, device, incarnation, token_hash, cursor, next_hash, seen"


def settle(folder: Path, host_of: Callable[[AccountId], str]) -> int:
    """Move every user in `folder` to the store that `host_of` names. Returns how many moved.

    Raises StoreInUse if a host is running.
    """
    moved = 0
    for source in sorted(folder.glob("*.db")):
        lock = FileLock(source.with_suffix(".lock"))
        try:
            moved += _empty(source, folder, host_of)
        finally:
            lock.release()
    return moved


def _empty(source: Path, folder: Path, host_of: Callable[[AccountId], str]) -> int:
    db = connect(source)
    targets: dict[str, apsw.Connection] = {}

    def target(name: str) -> apsw.Connection:
        if name not in targets:
            targets[name] = connect(folder / f"{name}.db")
            migrate(targets[name], MIGRATIONS)
        return targets[name]

    moved = 0
    try:
        migrate(db, MIGRATIONS)
        accounts = {row[0] for row in db.execute("SELECT account FROM device")}
        for account in accounts:
            name = host_of(AccountId(account))
            if name != source.stem:
                _copy(db, target(name), account)
                _remove(db, account)
                moved += 1
        for sequence, told in db.execute("SELECT sequence, told FROM owed").fetchall():
            teller = msgpack.unpackb(told)[3]
            name = host_of(AccountId(teller))
            if name != source.stem:
                with transaction(target(name)):
                    target(name).execute("INSERT INTO owed (told) VALUES (?)", (told,))
                db.execute("DELETE FROM owed WHERE sequence = ?", (sequence,))
    finally:
        db.close()
        for connection in targets.values():
            connection.close()
    return moved


def _copy(source: apsw.Connection, target: apsw.Connection, account: bytes) -> None:
    with transaction(target):
        _delete(target, account)
        for box, *device in source.execute(
            f"SELECT box, {DEVICE_COLUMNS} FROM device WHERE account = ?",  # noqa: S608
            (account,),
        ).fetchall():
            target.execute(
                f"INSERT INTO device ({DEVICE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                device,
            )
            new_box = target.last_insert_rowid()
            target.executemany(
                "INSERT INTO inbox VALUES (?, ?)",
                (
                    (new_box << SLOT_BITS | slot & SLOT_MASK, frame)
                    for slot, frame in source.execute(
                        "SELECT slot, frame FROM inbox WHERE slot BETWEEN ? AND ?",
                        (box << SLOT_BITS, box << SLOT_BITS | SLOT_MASK),
                    )
                ),
            )
        for table in ACCOUNT_TABLES:
            rows = source.execute(f"SELECT * FROM {table} WHERE account = ?", (account,))  # noqa: S608
            for row in rows.fetchall():
                marks = ", ".join("?" * len(row))
                target.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608


def _remove(db: apsw.Connection, account: bytes) -> None:
    with transaction(db):
        _delete(db, account)


def _delete(db: apsw.Connection, account: bytes) -> None:
    for (box,) in db.execute("SELECT box FROM device WHERE account = ?", (account,)).fetchall():
        db.execute(
            "DELETE FROM inbox WHERE slot BETWEEN ? AND ?",
            (box << SLOT_BITS, box << SLOT_BITS | SLOT_MASK),
        )
    for table in ("device", *ACCOUNT_TABLES):
        db.execute(f"DELETE FROM {table} WHERE account = ?", (account,))  # noqa: S608
