"""The device's keys and sessions in its file: what `SessionCipher` needs of a store.

Sessions are kept as objects while they are in use and written once per transaction, when it
ends (`flush`). After a rollback everything held here is forgotten (`forget`).

Identity keys: that of a device is trusted if the signed list of its account has it, and no other.
Of a list with another account key the person is told (`DeviceLists`).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final, NamedTuple

import apsw

from raychat import limits
from raychat.client.device_lists import DeviceLists
from raychat.crypto import (
    Direction,
    IdentityKeyPair,
    KyberPreKey,
    PreKey,
    PrivateKey,
    PublicKey,
    SessionRecord,
    SignedPreKey,
)
from raychat.errors import DuplicateMessage, NotRegistered, UnknownPreKey
from raychat.ids import Address

SESSIONS_HELD: Final = 256
_EC: Final = 0
_KYBER: Final = 1
_LAST_EC: Final = 2
_KEY_ID_MASK: Final = 0xFF_FFFF
_KEY_ID_STEP: Final = 16
_DAY_MS: Final = 86_400_000


class LongKeys(NamedTuple):
    """The keys of a device that serve many sessions; they are replaced together.

    The last one stands in for a one-time X25519 key. It has a signature to know its time, but
    like a one-time key it is published without.
    """

    signed_pre_key: SignedPreKey
    last_resort: KyberPreKey
    last_resort_pre_key: SignedPreKey

    @property
    def created(self) -> int:
        return self.signed_pre_key.created


class KeyStore:
    """Implements `raychat.crypto.ProtocolStore`. Writes belong to the caller's transaction."""

    def __init__(self, db: apsw.Connection, lists: DeviceLists) -> None:
        self._db = db
        self._lists = lists
        self._identity: IdentityKeyPair | None = None
        self._registration_id = 0
        self._sessions: OrderedDict[Address, SessionRecord] = OrderedDict()
        self._unwritten: set[Address] = set()

    # -- transactions ----------------------------------------------------------------------

    def flush(self) -> None:
        """Write what has changed; call it before the transaction ends."""
        if self._unwritten:
            self._db.executemany(
                "INSERT INTO session VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET record = excluded.record",
                [(*address, self._sessions[address].to_bytes()) for address in self._unwritten],
            )
            self._unwritten.clear()
        while len(self._sessions) > SESSIONS_HELD:
            self._sessions.popitem(last=False)

    def forget(self) -> None:
        """The transaction was rolled back: what is held may not be what is in the file."""
        self._identity = None
        self._sessions.clear()
        self._unwritten.clear()

    # -- own keys --------------------------------------------------------------------------

    def identity_key_pair(self) -> IdentityKeyPair:
        if self._identity is None:
            row = self._db.execute("SELECT identity, registration_id FROM own").fetchone()
            if row is None:
                raise NotRegistered
            self._identity = IdentityKeyPair.of(PrivateKey(row[0]))
            self._registration_id = row[1]
        return self._identity

    def registration_id(self) -> int:
        self.identity_key_pair()
        return self._registration_id

    def make_one_time_keys(self, now: int, pre_keys: int, kyber: int) -> None:
        """Make so many new keys of each kind, not yet published. `now` in ms."""
        identity = self.identity_key_pair()
        for key_id in self._key_ids(pre_keys):
            self.store_pre_key(PreKey.generate(key_id))
        for key_id in self._key_ids(kyber):
            self.store_kyber_pre_key(KyberPreKey.generate(identity, key_id, now))

    def make_long_keys(self, now: int) -> LongKeys:
        """New lasting keys, not yet published. Those before stay, for messages under way."""
        identity = self.identity_key_pair()
        signed_id, last_id, pre_key_id = self._key_ids(3)
        made = LongKeys(
            SignedPreKey.generate(identity, signed_id, now),
            KyberPreKey.generate(identity, last_id, now, last_resort=True),
            SignedPreKey.generate(identity, pre_key_id, now),
        )
        self.store_signed_pre_key(made.signed_pre_key)
        self.store_kyber_pre_key(made.last_resort)
        self._store("long_key", _LAST_EC, pre_key_id, made.last_resort_pre_key.to_bytes())
        return made

    def newest_long_keys(self) -> tuple[LongKeys, bool] | None:
        """The latest lasting keys that are complete, and whether the server has them."""
        rows = [
            self._db.execute(
                "SELECT record, published FROM long_key WHERE kind = ? ORDER BY id DESC LIMIT 1",
                (kind,),
            ).fetchone()
            for kind in (_EC, _KYBER, _LAST_EC)
        ]
        if None in rows:
            return None
        signed, kyber, pre_key = (row[0] for row in rows)
        keys = LongKeys(
            SignedPreKey.from_bytes(signed),
            KyberPreKey.from_bytes(kyber),
            SignedPreKey.from_bytes(pre_key),
        )
        return keys, all(row[1] for row in rows)

    def long_keys_published(self, keys: LongKeys, now: int) -> None:
        """The server hands these out now, and no others: the days of those before are counted."""
        ids = tuple(zip((_EC, _KYBER, _LAST_EC), (key.key_id for key in keys), strict=True))
        self._db.executemany("UPDATE long_key SET published = 1 WHERE kind = ? AND id = ?", ids)
        self._db.executemany(
            "UPDATE long_key SET replaced = ?3 WHERE kind = ?1 AND id < ?2 AND replaced IS NULL",
            [(kind, key_id, now) for kind, key_id in ids],
        )

    def wipe_long_keys(self, now: int) -> int:
        """Delete the keys that nothing under way can need any more; returns how many."""
        self._db.execute(
            "DELETE FROM long_key WHERE replaced <= ?", (now - limits.KEY_KEPT_DAYS * _DAY_MS,)
        )
        wiped: int = self._db.changes()
        self._db.execute(
            "DELETE FROM key_use WHERE kyber NOT IN (SELECT id FROM long_key WHERE kind = ?)",
            (_KYBER,),
        )
        return wiped

    def unpublished(self, most: int) -> tuple[list[PreKey], list[KyberPreKey]]:
        """One-time keys the server is not known to have, at most so many of each kind."""
        found = [
            self._db.execute(
                "SELECT record FROM pre_key WHERE kind = ? AND NOT published ORDER BY id LIMIT ?",
                (kind, most),
            ).fetchall()
            for kind in (_EC, _KYBER)
        ]
        return (
            [PreKey.from_bytes(row[0]) for row in found[0]],
            [KyberPreKey.from_bytes(row[0]) for row in found[1]],
        )

    def published(self, pre_keys: list[PreKey], kyber: list[KyberPreKey]) -> None:
        """The server has these now."""
        ids = [(_EC, key.key_id) for key in pre_keys] + [(_KYBER, key.key_id) for key in kyber]
        self._db.executemany("UPDATE pre_key SET published = 1 WHERE kind = ? AND id = ?", ids)

    def _key_ids(self, count: int) -> list[int]:
        """Ids that grow by steps of chance: from two of them nobody can tell how many keys were
        made, and so how many sessions begun, in between."""
        (last,) = self._db.execute("SELECT next_key_id FROM own").fetchone()
        ids = []
        for _ in range(count):
            ids.append(last)
            last += 1 + secrets.randbelow(_KEY_ID_STEP)
        self._db.execute("UPDATE own SET next_key_id = ?", (last,))
        return ids

    # -- identities ------------------------------------------------------------------------

    def is_trusted(self, address: Address, key: PublicKey, direction: Direction) -> bool:
        """Whether the account of a device has signed that this is its key. What was sent under a
        key that has left the list lately is still read."""
        if self._lists.identity(address) == key:
            return True
        return direction is Direction.RECEIVING and self._lists.is_former(address, key)

    def load_identity(self, address: Address) -> PublicKey | None:
        row = self._db.execute(
            "SELECT key FROM identity WHERE account = ? AND device = ?", address
        ).fetchone()
        return PublicKey(row[0]) if row else None

    def save_identity(self, address: Address, key: PublicKey) -> bool:
        before = self.load_identity(address)
        if before == key:
            return False
        self._db.execute(
            "INSERT INTO identity VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET key = excluded.key",
            (*address, key.data),
        )
        return before is not None

    # -- sessions --------------------------------------------------------------------------

    def load_session(self, address: Address) -> SessionRecord | None:
        held = self._sessions.get(address)
        if held is None:
            row = self._db.execute(
                "SELECT record FROM session WHERE account = ? AND device = ?", address
            ).fetchone()
            if row is None:
                return None
            held = self._sessions[address] = SessionRecord.from_bytes(row[0])
        self._sessions.move_to_end(address)
        return held

    def store_session(self, address: Address, record: SessionRecord) -> None:
        self._sessions[address] = record
        self._sessions.move_to_end(address)
        self._unwritten.add(address)

    # -- pre-keys --------------------------------------------------------------------------

    def load_pre_key(self, key_id: int) -> PreKey:
        try:
            return PreKey.from_bytes(self._load("pre_key", _EC, key_id))
        except UnknownPreKey:
            lasting = SignedPreKey.from_bytes(self._load("long_key", _LAST_EC, key_id))
            return PreKey(key_id, lasting.pair)

    def store_pre_key(self, pre_key: PreKey) -> None:
        self._store("pre_key", _EC, pre_key.key_id, pre_key.to_bytes())

    def remove_pre_key(self, key_id: int) -> None:
        """A one-time key was used. One of last resort stays."""
        self._db.execute("DELETE FROM pre_key WHERE kind = ? AND id = ?", (_EC, key_id))

    def load_signed_pre_key(self, key_id: int) -> SignedPreKey:
        return SignedPreKey.from_bytes(self._load("long_key", _EC, key_id))

    def store_signed_pre_key(self, pre_key: SignedPreKey) -> None:
        self._store("long_key", _EC, pre_key.key_id, pre_key.to_bytes())

    def load_kyber_pre_key(self, key_id: int) -> KyberPreKey:
        try:
            return KyberPreKey.from_bytes(self._load("pre_key", _KYBER, key_id))
        except UnknownPreKey:
            return KyberPreKey.from_bytes(self._load("long_key", _KYBER, key_id))

    def store_kyber_pre_key(self, pre_key: KyberPreKey) -> None:
        table = "long_key" if pre_key.last_resort else "pre_key"
        self._store(table, _KYBER, pre_key.key_id, pre_key.to_bytes())

    def mark_kyber_pre_key_used(
        self, key_id: int, signed_pre_key_id: int, base_key: PublicKey
    ) -> None:
        self._db.execute("DELETE FROM pre_key WHERE kind = ? AND id = ?", (_KYBER, key_id))
        if self._db.changes():
            return
        self._db.execute(
            "INSERT OR IGNORE INTO key_use VALUES (?, ?, ?)",
            (key_id, signed_pre_key_id, base_key.data),
        )
        if not self._db.changes():
            raise DuplicateMessage("This first message was already used to start a session.")

    def _load(self, table: str, kind: int, key_id: int) -> bytes:
        row = self._db.execute(
            f"SELECT record FROM {table} WHERE kind = ? AND id = ?",  # noqa: S608 (own names)
            (kind, key_id),
        ).fetchone()
        if row is None:
            raise UnknownPreKey(f"There is no pre-key {key_id} on this device.")
        record: bytes = row[0]
        return record

    def _store(self, table: str, kind: int, key_id: int, record: bytes) -> None:
        self._db.execute(
            f"INSERT INTO {table} (kind, id, record) VALUES (?, ?, ?)"  # noqa: S608 (own names)
            " ON CONFLICT DO UPDATE SET record = excluded.record",
            (kind, key_id, record),
        )


def new_registration_id() -> int:
    """A 14-bit number, 1..16380, as Signal's."""
    return secrets.randbelow(16_380) + 1


def first_key_id() -> int:
    """Where a device starts counting its key ids: at random, so that they tell nothing."""
    return secrets.randbelow(_KEY_ID_MASK) + 1
