"""The rules of sending to one conversation: ids without gaps, each message taken once. Pure.

    queued ──encrypt, next id──▶ owed ──transmit──▶ under way ──sent──▶ settled

Ids up to `settled` are acknowledged, those up to `transmitted` have been sent on this
connection; at most `limits.ID_WINDOW` lie between. The outbox holds the rest: what follows
`settled` with its id and the bytes it was encrypted to, then what waits for its turn.

A refusal frees its id and all later ones. Their refusals (`id-gap`) are under way by then, so
the lane first waits for the answer to the last it has sent (`_drain`), then repairs what was
wrong and sends again from the refused id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raychat import limits
from raychat.client.devices import Devices
from raychat.client.events import Failed, Sent
from raychat.client.model import Conversation, State
from raychat.client.outbox import Owed
from raychat.client.signals import Effect, Tell, Transmit, WantAccount, WantDevices, WantKeys
from raychat.client.store import DeviceStore, Own
from raychat.client.syncing import Syncing
from raychat.crypto import SessionCipher
from raychat.errors import (
    DeviceList,
    IdConflict,
    IdGap,
    IdStale,
    RaychatError,
    from_code,
)
from raychat.ids import AccountId, Address, MessageId
from raychat.wire import content, frames
from raychat.wire.frames import Part, Refused, Send

DRAIN_MS: Final = 10_000
"""How long to wait for answers to what was sent after a refused message."""

RETRY_MS: Final = 500
RETRY_MAX_MS: Final = 30_000

_NOT_OURS: Final = (IdConflict.code, IdStale.code)


class Lane:
    """What goes to one conversation, on one connection. Its methods belong to a transaction."""

    __slots__ = (
        "_cipher",
        "_devices",
        "_drain",
        "_jitter",
        "_own",
        "_refusal",
        "_store",
        "_syncing",
        "_tries",
        "peer",
        "retry_at",
        "settled",
        "transmitted",
        "waiting",
    )

    def __init__(
        self,
        store: DeviceStore,
        own: Own,
        cipher: SessionCipher,
        devices: Devices,
        syncing: Syncing,
        peer: Conversation,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._own = own
        self._cipher = cipher
        self._devices = devices
        self._syncing = syncing
        self._jitter = jitter
        self.peer = peer
        self._refusal: Refused | None = None
        self._drain = 0
        self._tries = 0
        self.retry_at = 0
        """Nothing is sent before then (ms); 0 if nothing is waited for."""
        self.waiting = False
        """An account or keys have been asked for."""
        first = store.outbox.first_owed_id(peer.id)
        if first is None:
            first = store.outbox.last_id(peer.account) + 1 if peer.account else 1
        self.settled = self.transmitted = first - 1

    @property
    def under_way(self) -> int:
        return self.transmitted - self.settled

    def wake(self, now: int) -> list[Effect]:
        """What was waited for has not come, or the pause is over."""
        self.retry_at = 0
        return [] if self._refusal is None else self._repair(now)

    def pump(self, room: int, now: int) -> list[Effect]:
        """Send what may be sent, at most `room` messages."""
        most = min(room, limits.ID_WINDOW - self.under_way)
        if self._refusal is not None or self.waiting or self.retry_at or most <= 0:
            return []
        account = self.peer.account
        if account == self._own.account and not self._devices.has_others:
            self._store.outbox.drop_waiting(self.peer.id)  # there is nobody to keep in step
        rows = self._store.outbox.owed(self.peer.id, self.transmitted, most)
        if account is None:
            if not rows or self.peer.number is None:
                return []
            self.waiting = True
            return [WantAccount(self.peer.number)]
        effects: list[Effect] = []
        for row in rows:
            message, parts = row.id, row.parts
            if message is None:
                encrypted = self._encrypt(account, row, now)
                if isinstance(encrypted, WantKeys):
                    self.waiting = True
                    effects.append(encrypted)
                    break
                message, parts = MessageId(self.transmitted + 1), encrypted
                address = self._own.address
                self._store.outbox.give_id(address, self._own.incarnation, row, message, parts)
                self._store.outbox.set_last_id(account, message)
            effects.append(Transmit(frames.pack_send(Send(account, message, parts))))
            self.transmitted = message
        return effects

    def _encrypt(self, account: AccountId, row: Owed, now: int) -> list[Part] | WantKeys:
        """A part for each known device, or what is needed first."""
        devices, missing = self._devices.addressed(account, now)
        if missing or not devices:
            for device in missing:
                self._cipher.end_session(Address(account, device))
            return WantKeys(account, tuple(missing) or None)
        plaintext = content.pad(row.content)
        parts = []
        for device, incarnation in devices.items():
            kind, body = self._cipher.encrypt(Address(account, device), plaintext, now)
            parts.append(Part(device, incarnation, int(kind), body))
        return parts

    def sent(self, message: int, at: int) -> list[Effect]:
        """Everything up to an id is durable at the server."""
        message = min(message, self.transmitted)
        refusal = self._refusal
        refused = None
        if refusal is not None and refusal.id <= message:
            if refusal.code in _NOT_OURS:
                # Another message has that id; those after it were taken.
                refused = refusal.id
            else:
                # It was taken after all, since a later one was.
                self._refusal, self.retry_at = None, 0
        effects = self._mark_sent(self.settled + 1, message, refused, at)
        for row in self._store.outbox.with_ids(self.peer.id, self.settled + 1, message):
            if row.id != refused:
                self._syncing.sent(self.peer, row, at)
        self._store.outbox.settle(self.peer.id, message, refused)
        self.settled = max(self.settled, message)
        self._tries = 0
        return effects

    def _mark_sent(self, lo: int, hi: int, but: int | None, at: int) -> list[Effect]:
        spans = [(lo, hi)] if but is None else [(lo, but - 1), (but + 1, hi)]
        own, peer = self._own, self.peer.id
        return [
            Tell(Sent(key, peer, at))
            for low, high in spans
            for key in self._store.history.mark_outgoing(
                peer, own.device, own.incarnation, low, high, State.SENT, at
            )
        ]

    def refused(self, frame: Refused, now: int) -> list[Effect]:
        """A message was not taken, nor were those sent after it."""
        if self._refusal is None:
            if not self.settled < frame.id <= self.transmitted:
                return []
            self._refusal, self._drain = frame, self.transmitted
            self.retry_at = now + DRAIN_MS
        return self._repair(now) if frame.id >= self._drain else []

    def _repair(self, now: int) -> list[Effect]:
        """Do what the refusal asks for; then everything from its id on is sent again."""
        refusal = self._refusal
        assert refusal is not None
        self._refusal, self.retry_at = None, 0
        free = max(refusal.id, self.settled + 1)
        match refusal.code:
            case DeviceList.code:
                return self._readdress(refusal, free, now)
            case IdConflict.code:
                self._renumber(refusal.id, max(refusal.id, self.settled) + 1)
            case IdStale.code:
                self._renumber(refusal.id, max(refusal.id + limits.ID_WINDOW, self.settled + 1))
            case IdGap.code:
                self.transmitted = self.settled
                self.back_off(now)
            case _ if refusal.retryable:
                self.transmitted = self.settled
                self.back_off(now)
            case _:
                effects = self._give_up(refusal)
                self._renumber(refusal.id, free)
                return effects
        return []

    def _readdress(self, refusal: Refused, free: int, now: int) -> list[Effect]:
        """The message is to be encrypted for other devices than it was."""
        account = self.peer.account
        assert account is not None
        self._store.outbox.take_ids(self.peer.id, free)
        self._restart(free, 0)
        if account == self._own.account and not refusal.devices:
            # There is no other device any more, and so nobody to keep in step.
            self._devices.repair(account, (), 0, now)
            self._store.outbox.drop_waiting(self.peer.id)
            return [WantDevices(account)]
        want = self._devices.repair(account, refusal.devices, refusal.list_version, now)
        self.waiting = want is not None
        if self._tries:
            self.back_off(now)
        else:
            self._tries = 1
        return [] if want is None else [want]

    def back_off(self, now: int) -> None:
        """Wait a while, longer each time, before sending again."""
        pause = min(RETRY_MS * 2 ** min(self._tries, 10), RETRY_MAX_MS)
        self.retry_at = now + int(pause * (0.5 + self._jitter() / 2))
        self._tries += 1

    def give_up_all(self, error: RaychatError) -> list[Effect]:
        """Nothing can be sent to this peer, ever: what is owed and has no id fails."""
        effects: list[Effect] = []
        most = 2 * limits.ID_WINDOW  # more than can have an id
        while rows := [
            row
            for row in self._store.outbox.owed(self.peer.id, self.transmitted, most)
            if row.id is None
        ]:
            for row in rows:
                effects += self._fail(row, error)
        return effects

    def _give_up(self, refusal: Refused) -> list[Effect]:
        rows = self._store.outbox.with_ids(self.peer.id, refusal.id)
        if not rows or rows[0].id != refusal.id:
            return []
        return self._fail(rows[0], from_code(refusal.code, refusal.detail))

    def _fail(self, row: Owed, error: RaychatError) -> list[Effect]:
        self._store.outbox.drop_owed(row.position)
        if row.message is None:
            return []
        self._store.history.set_failed(row.message)
        return [Tell(Failed(row.message, self.peer.id, error))]

    def _renumber(self, refused: int, first: int) -> None:
        """Give what has the refused id or a later one the ids from `first` on, and the same
        bytes as before."""
        rows = self._store.outbox.with_ids(self.peer.id, refused)
        self._store.outbox.take_ids(self.peer.id, refused)
        own = self._own
        for message, row in enumerate(rows, start=first):
            self._store.outbox.give_id(own.address, own.incarnation, row, message, row.parts)
        self._restart(first, len(rows))

    def _restart(self, first: int, owed: int) -> None:
        """`owed` messages have the ids from `first` on, and none of them is under way."""
        assert self.peer.account is not None
        self._store.outbox.set_last_id(self.peer.account, first - 1 + owed)
        self.transmitted = first - 1
        lowest = self._store.outbox.first_owed_id(self.peer.id)
        if lowest is None or lowest >= first:
            self.settled = first - 1
