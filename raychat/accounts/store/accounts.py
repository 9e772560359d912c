"""The tables of accounts, their locks, and numbers that were given up."""

from __future__ import annotations

import apsw

from raychat.accounts.lock import Lock
from raychat.accounts.pepper import NumberHash
from raychat.accounts.store.protocol import Record, Resting
from raychat.accounts.store.statements import ours
from raychat.database import transaction
from raychat.errors import NotFound, StoreError
from raychat.ids import AccountId


class AccountTables:
    """Implements the part of `AccountStore` that is about accounts, over a connection."""

    _db: apsw.Connection

    async def claim(self, number: NumberHash, candidate: AccountId, day: int) -> AccountId:
        with ours(), transaction(self._db):
            self._db.execute(
                "INSERT INTO account (id, number, seen) VALUES (?, ?, ?)"
                " ON CONFLICT (number) DO UPDATE SET seen = max(seen, excluded.seen)",
                (candidate, number, day),
            )
            self._db.execute("DELETE FROM freed WHERE number = ?", (number,))
            account = self._account(number)
        if account is None:
            raise StoreError("An account was written and is not there.")
        return account

    async def account(self, number: NumberHash) -> AccountId | None:
        with ours():
            return self._account(number)

    async def record(self, account: AccountId) -> Record | None:
        with ours():
            row = self._db.execute(
                "SELECT number, seen, hash, full_at FROM account"
                " LEFT JOIN lock ON lock.account = account.id WHERE id = ?",
                (account,),
            ).fetchone()
        if row is None:
            return None
        number, seen, hashed, full_at = row
        return Record(number, seen, None if hashed is None else Lock(hashed, full_at))

    async def resting(self, number: NumberHash) -> Resting | None:
        with ours():
            row = self._db.execute(
                "SELECT account, until FROM freed WHERE number = ?", (number,)
            ).fetchone()
        return Resting(AccountId(row[0]), row[1]) if row else None

    async def see(self, account: AccountId, day: int) -> None:
        with ours():
            row = self._db.execute("SELECT seen FROM account WHERE id = ?", (account,)).fetchone()
            if row is not None and row[0] < day:
                with transaction(self._db):
                    self._db.execute("UPDATE account SET seen = ? WHERE id = ?", (day, account))

    async def put_lock(self, account: AccountId, lock: Lock | None) -> None:
        with ours(), transaction(self._db):
            if lock is None:
                self._db.execute("DELETE FROM lock WHERE account = ?", (account,))
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO lock (account, hash, full_at)"
                    " SELECT id, ?, ? FROM account WHERE id = ?",
                    (lock.hash, lock.full_at, account),
                )

    async def move(self, account: AccountId, number: NumberHash, until: int) -> AccountId | None:
        with ours(), transaction(self._db):
            row = self._db.execute("SELECT number FROM account WHERE id = ?", (account,)).fetchone()
            if row is None:
                raise NotFound("That account has been deleted.")
            holder = self._account(number)
            if holder == account:
                return None
            if holder is not None:
                self._remove(holder)
            self._db.execute("DELETE FROM registration WHERE account = ?", (account,))
            self._db.execute("UPDATE account SET number = ? WHERE id = ?", (number, account))
            self._db.execute("DELETE FROM freed WHERE number = ?", (number,))
            self._rest(row[0], account, until)
        return holder

    async def remove(self, account: AccountId, until: int) -> None:
        with ours(), transaction(self._db):
            number = self._remove(account)
            if number is not None:
                self._rest(number, account, until)

    async def leaving(self, most: int) -> list[AccountId]:
        with ours():
            rows = self._db.execute("SELECT account FROM leaving LIMIT ?", (most,)).fetchall()
        return [AccountId(row[0]) for row in rows]

    async def gone(self, account: AccountId) -> None:
        with ours(), transaction(self._db):
            self._db.execute("DELETE FROM leaving WHERE account = ?", (account,))

    async def accounts(self, after: AccountId, most: int) -> list[AccountId]:
        with ours():
            rows = self._db.execute(
                "SELECT id FROM account WHERE id > ?1"
                " UNION SELECT account FROM leaving WHERE account > ?1 ORDER BY 1 LIMIT ?2",
                (after, most),
            ).fetchall()
        return [AccountId(row[0]) for row in rows]

    async def count(self) -> int:
        with ours():
            return int(self._db.execute("SELECT count(*) FROM account").fetchall()[0][0])

    def _account(self, number: NumberHash) -> AccountId | None:
        row = self._db.execute("SELECT id FROM account WHERE number = ?", (number,)).fetchone()
        return AccountId(row[0]) if row else None

    def _remove(self, account: AccountId) -> NumberHash | None:
        row = self._db.execute("SELECT number FROM account WHERE id = ?", (account,)).fetchone()
        if row is None:
            return None
        self._db.execute("DELETE FROM account WHERE id = ?", (account,))
        self._db.execute("DELETE FROM lock WHERE account = ?", (account,))
        self._db.execute("DELETE FROM registration WHERE account = ?", (account,))
        self._db.execute("INSERT OR IGNORE INTO leaving VALUES (?)", (account,))
        return NumberHash(row[0])

    def _rest(self, number: NumberHash, account: AccountId, until: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO freed (number, account, until) VALUES (?, ?, ?)",
            (number, account, until),
        )
