"""The history's way to a newly linked device, through the conversation with one's own account.

    primary ── offer: so many parts ──▶ new device
            ◀── want: from part n on ──
            ── part, part, part, part ─▶    merged at once, each in its transaction
            ◀── done ───────────────────

What a part holds is `past`'s. Each is sealed with the transfer's own key, which only the two
devices know (AES-256-GCM, a random nonce before it, the transfer's id and the part's place
authenticated), since a message to one's own account goes to all its devices. The new device asks
for a few parts at a time, so that live messages never wait behind a long history; where it is, is
in its file, so it goes on after any break. The primary waits a while before it offers anything:
time to revoke a device that was linked by deceit.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from raychat import limits
from raychat.client.events import HistoryMoved
from raychat.client.past import Past
from raychat.client.rows import Rows
from raychat.client.signals import Effect, Tell
from raychat.client.store import DeviceStore, Own
from raychat.client.syncing import Syncing
from raychat.errors import Malformed
from raychat.ids import PRIMARY, Address, DeviceId, Secret
from raychat.wire.content import Step, Transfer

_WAITING: Final = 0
_MOVING: Final = 1
_NONCE_BYTES: Final = 12
_DAY_MS: Final = 86_400_000
_LINKED_MS: Final = 900_000
_STALL_MS: Final = limits.TRANSFER_STALL_SECONDS * 1000


def transfer_id(key: bytes) -> bytes:
    """What both sides call the transfer with this key."""
    return hashlib.sha256(b"raychat transfer\x00" + key).digest()[:16]


def prepare(
    store: DeviceStore, device: DeviceId, key: Secret, due: int, now: int, *, whole: bool
) -> None:
    """The primary is to offer its history to a device, from `due` (ms) on; without `whole` only
    the settings of its conversations. Times in ms."""
    _begin(store, device, key, incoming=False, whole=whole, due=due, now=now)


def expect(store: DeviceStore, key: Secret, now: int) -> None:
    """This device is new, and the primary may offer it the history."""
    Past(store).begin()
    _begin(store, PRIMARY, key, incoming=True, whole=True, due=0, now=now)


def is_pending(store: DeviceStore, device: DeviceId) -> bool:
    """Whether history is still to move between this device and another one."""
    found = store.connection.execute("SELECT 1 FROM transfer WHERE device = ?", (device,))
    return found.fetchone() is not None


def _begin(
    store: DeviceStore,
    device: DeviceId,
    key: Secret,
    *,
    incoming: bool,
    whole: bool,
    due: int,
    now: int,
) -> None:
    # One that is not linked by then never will be.
    until = now + limits.TRANSFER_DAYS * _DAY_MS if incoming else due + _LINKED_MS
    store.connection.execute(
        "INSERT OR REPLACE INTO transfer (id, device, incoming, key, state, due, until, whole)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (transfer_id(key), device, incoming, bytes(key), _WAITING, due, until, whole),
    )


class Transfers(Rows):
    """The tables `transfer` and `transfer_part`, and the rules over them."""

    __slots__ = ("_own", "_past", "_store", "_syncing", "due")

    def __init__(self, store: DeviceStore, own: Own, syncing: Syncing) -> None:
        super().__init__(store.connection)
        self._store = store
        self._own = own
        self._syncing = syncing
        self._past = Past(store)
        self.due = 0
        """When (ms) something is to be done; 0 if nothing is."""
        self.look()

    def look(self) -> None:
        """See what is due; another part of the program may have begun a transfer, or the device
        it is for may be linked now."""
        rows = self._rows("SELECT due, device FROM transfer WHERE due > 0")
        self.due = min((due for due, device in rows if self._is_listed(device)), default=0)

    def _is_listed(self, device: DeviceId) -> bool:
        return self._store.lists.identity(Address(self._own.account, device)) is not None

    def wake(self, now: int) -> None:
        """Offer what is to be offered, ask once more for what has not come."""
        if not self.due or now < self.due:
            return
        self._db.execute("DELETE FROM transfer WHERE until <= ?", (now,))
        rows = self._rows(
            "SELECT id, device, incoming, whole, next, state FROM transfer"
            " WHERE due BETWEEN 1 AND ?",
            now,
        )
        for key, device, incoming, whole, place, stalls in rows:
            if incoming:
                self._want_again(key, place, stalls, now)
            elif self._is_listed(device):
                self._offer(key, bool(whole), now)
        self.look()

    def step(self, address: Address, said: Transfer, now: int) -> list[Effect]:
        """The other device has said something of a transfer."""
        row = self._row(
            "SELECT device, incoming, key, parts, next, wanted FROM transfer WHERE id = ?",
            said.transfer,
        )
        if row is None or row[0] != address.device:
            return []
        device, incoming, key, parts, place, wanted = row
        effects: list[Effect] = []
        match said.step, bool(incoming):
            case Step.OFFER, True if parts == 0:
                self._db.execute(
                    "UPDATE transfer SET state = ?, parts = ? WHERE id = ?",
                    (_MOVING, said.parts, said.transfer),
                )
                if said.parts:
                    self._want(said.transfer, 0, now)
                else:
                    self._done(said.transfer, now)
            case Step.PART, True if said.first == place < parts:
                self._past.merge(_opened(key, said), now)
                effects = [Tell(HistoryMoved(device, place + 1, parts))]
                self._advance(said.transfer, place + 1, parts, wanted, now)
            case Step.WANT, False:
                last = min(said.first + min(said.parts, limits.TRANSFER_WINDOW), parts)
                for number in range(said.first, last):
                    self._send(said.transfer, key, number, now)
                effects = [Tell(HistoryMoved(device, min(said.first, parts), parts))]
            case Step.DONE, False:
                self._db.execute("DELETE FROM transfer WHERE id = ?", (said.transfer,))
                effects = [Tell(HistoryMoved(device, parts, parts))]
        self.look()
        return effects

    # -- the old device --------------------------------------------------------------------

    def _offer(self, key: bytes, whole: bool, now: int) -> None:
        parts = self._past.divide(whole)
        self._db.execute("DELETE FROM transfer_part WHERE transfer = ?", (key,))
        self._db.executemany(
            "INSERT INTO transfer_part VALUES (?, ?, ?, ?, ?)",
            [(key, place, *part) for place, part in enumerate(parts)],
        )
        self._db.execute(
            "UPDATE transfer SET state = ?, parts = ?, due = 0, until = ? WHERE id = ?",
            (_MOVING, len(parts), now + limits.TRANSFER_DAYS * _DAY_MS, key),
        )
        self._syncing.owe(Transfer(now, key, Step.OFFER, parts=len(parts)))

    def _send(self, transfer: bytes, key: bytes, place: int, now: int) -> None:
        row = self._row(
            "SELECT kind, first, last FROM transfer_part WHERE transfer = ? AND place = ?",
            transfer,
            place,
        )
        if row is None:
            return
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, self._past.write(*row), _place(transfer, place))
        self._syncing.owe(Transfer(now, transfer, Step.PART, place, data=nonce + sealed))

    # -- the new device --------------------------------------------------------------------

    def _want(self, transfer: bytes, place: int, now: int) -> None:
        window = limits.TRANSFER_WINDOW
        self._db.execute(
            "UPDATE transfer SET wanted = ?, due = ? WHERE id = ?",
            (place + window, now + _STALL_MS, transfer),
        )
        self._syncing.owe(Transfer(now, transfer, Step.WANT, place, window))

    def _want_again(self, transfer: bytes, place: int, stalls: int, now: int) -> None:
        """Nothing has come for a while: ask once more, after longer and longer pauses."""
        self._want(transfer, place, now)
        self._db.execute(
            "UPDATE transfer SET state = state + 1, due = ? WHERE id = ?",
            (now + _STALL_MS * 2 ** min(stalls, 10), transfer),
        )

    def _advance(self, transfer: bytes, place: int, parts: int, wanted: int, now: int) -> None:
        self._db.execute(
            "UPDATE transfer SET next = ?, due = ?, state = ? WHERE id = ?",
            (place, now + _STALL_MS, _MOVING, transfer),
        )
        if place >= parts:
            self._done(transfer, now)
        elif place >= wanted:
            self._want(transfer, place, now)

    def _done(self, transfer: bytes, now: int) -> None:
        self._db.execute("DELETE FROM transfer WHERE id = ?", (transfer,))
        self._syncing.owe(Transfer(now, transfer, Step.DONE))


def _opened(key: bytes, said: Transfer) -> bytes:
    nonce, sealed = said.data[:_NONCE_BYTES], said.data[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, sealed, _place(said.transfer, said.first))
    except (InvalidTag, ValueError):
        raise Malformed("A part of the history is not from who offered it.") from None


def _place(transfer: bytes, place: int) -> bytes:
    return transfer + place.to_bytes(8)
