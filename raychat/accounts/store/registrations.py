"""The tables of registrations and of what is known of codes sent."""

from __future__ import annotations

from typing import Final

import apsw

from raychat.accounts import sending
from raychat.accounts.pepper import NumberHash, Pepper, PoolKey, RegistrationKey
from raychat.accounts.registration import Redeemed, Registration, Started, Verified
from raychat.accounts.sending import Known, Pace, Pool
from raychat.accounts.store.statements import ours
from raychat.database import Row, transaction
from raychat.ids import AccountId

STARTED: Final = 1
VERIFIED: Final = 2
REDEEMED: Final = 3

_COLUMNS: Final = "key, number, state, proof, expires, tries, account, prefix"


class RegistrationTables:
    """Implements `RegistrationStore` over a connection."""

    _db: apsw.Connection
    _pepper: Pepper

    async def known(self, number: NumberHash, prefix: PoolKey) -> Known:
        with ours():
            row = self._db.execute(
                "SELECT codes, at FROM pace WHERE number = ?", (number,)
            ).fetchone()
            pace = Pace(*row) if row else None
            return Known(pace, self._pool(prefix), self._pool(self._all))

    async def begin(self, started: Started, known: Known, now: int, most: int) -> bool:
        db = self._db
        old_pace, old_pool = sending.forget_before(now)
        with ours(), transaction(db):
            db.execute("DELETE FROM registration WHERE expires <= ?", (now,))
            db.execute("DELETE FROM freed WHERE until <= ?", (now,))
            db.execute("DELETE FROM pace WHERE at <= ?", (old_pace,))
            db.execute("DELETE FROM pool WHERE at <= ? AND full_at <= ?", (old_pool, now))
            # Verified ones stay: who has proven to own the number is not thrown out by
            # somebody else who merely typed it.
            db.execute(
                "DELETE FROM registration WHERE number = ? AND state = ?",
                (started.number, STARTED),
            )
            if db.execute("SELECT count(*) FROM registration").fetchall()[0][0] >= most:
                return False
            db.execute(
                f"INSERT INTO registration ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                _row(started),
            )
            if known.pace is not None:
                db.execute(
                    "INSERT OR REPLACE INTO pace (number, codes, at) VALUES (?, ?, ?)",
                    (started.number, *known.pace),
                )
            self._put_pool(started.prefix, known.prefix)
            self._put_pool(self._all, known.all)
        return True

    async def registration(self, key: RegistrationKey) -> Registration | None:
        with ours():
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM registration WHERE key = ?",  # noqa: S608
                (key,),
            ).fetchone()
        return _registration(row) if row else None

    async def save(self, registration: Registration) -> None:
        with ours(), transaction(self._db):
            self._save(registration)

    async def save_verified(
        self, registration: Registration, prefix: PoolKey, pools: tuple[Pool, Pool]
    ) -> None:
        with ours(), transaction(self._db):
            self._save(registration)
            self._put_pool(prefix, pools[0])
            self._put_pool(self._all, pools[1])

    def _save(self, registration: Registration) -> None:
        self._db.execute(
            "UPDATE registration SET number = ?2, state = ?3, proof = ?4, expires = ?5,"
            " tries = ?6, account = ?7, prefix = ?8 WHERE key = ?1",
            _row(registration),
        )

    @property
    def _all(self) -> PoolKey:
        return self._pepper.prefix("")

    def _pool(self, key: PoolKey) -> Pool | None:
        row = self._db.execute(
            "SELECT full_at, sent, verified, at FROM pool WHERE key = ?", (key,)
        ).fetchone()
        return Pool(*row) if row else None

    def _put_pool(self, key: PoolKey, pool: Pool | None) -> None:
        if pool is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO pool (key, full_at, sent, verified, at)"
                " VALUES (?, ?, ?, ?, ?)",
                (key, pool.full_at, float(pool.sent), float(pool.verified), pool.at),
            )


def _row(registration: Registration) -> Row:
    match registration:
        case Started(key, number, proof, expires, tries, prefix):
            return key, number, STARTED, proof, expires, tries, None, prefix
        case Verified(key, number, proof, expires):
            return key, number, VERIFIED, proof, expires, 0, None, b""
        case Redeemed(key, number, proof, expires, account):
            return key, number, REDEEMED, proof, expires, 0, account, b""


def _registration(row: Row) -> Registration:
    key, number, state, proof, expires, tries, account, prefix = row
    if state == STARTED:
        return Started(key, number, proof, expires, tries, PoolKey(prefix))
    if state == VERIFIED:
        return Verified(key, number, proof, expires)
    return Redeemed(key, number, proof, expires, AccountId(account))
