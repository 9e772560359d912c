"""The rules of a device over its file: inputs in, a transaction, effects out.

`turn(inputs, now)` handles everything there is in one transaction and returns what may be done
once it is durable: acknowledge what was received, transmit what was encrypted, tell the user.
No socket, task or clock here. If a turn raises, its transaction was rolled back and this
object may know too much: make a new one from the store and a new connection.

`Inbox` has the rules of receiving, `Lane` those of sending to one conversation. Here is what
connects them: the connection, whose turn it is to send, and what has to be looked up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from raychat import limits
from raychat.client.applying import Applier
from raychat.client.choices import Choices
from raychat.client.devices import Devices
from raychat.client.events import (
    Connected,
    Disconnected,
    MessageChanged,
    MessageGone,
    NumberFound,
    Stopped,
    What,
)
from raychat.client.healing import Healing
from raychat.client.inbox import Inbox
from raychat.client.lane import Lane
from raychat.client.reading import read_marks
from raychat.client.signals import (
    AccountFound,
    AccountNotFound,
    Answer,
    Arrived,
    BlocksKept,
    Choose,
    Compose,
    DevicesFound,
    DevicesNotFound,
    Effect,
    Greet,
    Input,
    KeysFound,
    KeysNotFound,
    Lost,
    MarkRead,
    NewToken,
    Opened,
    Reconnect,
    Stop,
    Tell,
    Tick,
    WantAccount,
)
from raychat.client.store import DeviceStore
from raychat.client.syncing import Syncing
from raychat.client.transfer import Transfers
from raychat.crypto import SessionCipher
from raychat.errors import (
    BadNumber,
    BadToken,
    NoKeys,
    NotFound,
    RateLimited,
    RaychatError,
    Replaced,
    Unavailable,
    Unsupported,
    from_code,
)
from raychat.ids import AccountId, InboxNumber
from raychat.wire import content, frames
from raychat.wire.content import Message, Typing
from raychat.wire.frames import (
    Close,
    Envelope,
    Goodbye,
    Hello,
    Receipt,
    Refused,
    Sent,
    ToDevice,
    Welcome,
)

FORMER_MS: Final = limits.FORMER_DEVICE_MINUTES * 60_000
"""How often it is looked, at the least, for what has left a device list long ago."""

UNDER_WAY: Final = 256
"""Messages transmitted and not acknowledged, over all recipients."""

_FATAL: Final = {
    Close.BAD_TOKEN: BadToken,
    Close.REPLACED: Replaced,
    Close.UNSUPPORTED: Unsupported,
}


class Engine:
    """One device. Give it a new connection by `Opened`, end it by `Lost`."""

    def __init__(self, store: DeviceStore, jitter: Callable[[], float] = random.random) -> None:
        """`jitter` gives numbers from 0 to 1. Raises NotRegistered."""
        self._store = store
        self._jitter = jitter
        self._own = own = store.own()
        self._cipher = cipher = SessionCipher(own.address, store.keys)
        self._devices = Devices(store, own, cipher)
        self._healing = Healing(store, own, cipher)
        self._syncing = Syncing(store, own, self._devices, self._healing)
        self._transfers = Transfers(store, own, self._syncing)
        self._choices = Choices(store, own, self._syncing)
        self._applier = Applier(store)
        self._inbox = Inbox(store, own, cipher, self._devices, self._healing, self._transfers)
        self._welcomed = False
        self._goodbye: Goodbye | None = None
        self._lanes: dict[int, Lane] = {}
        self._ready: dict[int, None] = {}
        self._room = UNDER_WAY
        self._expiry = store.expiry.deadline()
        self._former = 0
        """When (ms) to look for what has left a device list long ago."""
        self.scrub = False
        """Words were to vanish: call `DeviceStore.scrub` after the turn, and set this back."""

    @property
    def key_messages(self) -> int:
        """Messages that have used up a one-time key since the start."""
        return self._inbox.key_messages

    def turn(self, inputs: Sequence[Input], now: int) -> list[Effect]:
        """Apply inputs at `now` (ms), make it last, and return the effects. Raises StoreError."""
        effects: list[Effect] = []
        with self._store.transaction():
            for item in inputs:
                effects += self._handle(item, now)
            effects += self._wake(now)
            effects += self._pump(now)
            self._inbox.keep()
            # Whatever was sent, synced or read may have a time to go at.
            self._expiry = self._store.expiry.deadline()
        self.scrub = self.scrub or any(map(_takes_words_away, effects))
        return effects + self._inbox.ack()

    def deadline(self) -> int | None:
        """When (ms) a turn is due although nothing happens."""
        dues = [lane.retry_at for lane in self._lanes.values()]
        dues += [self._inbox.retry_at, self._devices.retry_at, self._expiry or 0]
        if self._welcomed:
            dues += [self._healing.due, self._transfers.due]
        return min((due for due in dues if due), default=None)

    def _wake(self, now: int) -> list[Effect]:
        """Do what time has made due, and see where there is something new to send."""
        effects = self._inbox.wake(now) + self._devices.wake(now)
        if self._welcomed:
            self._ready |= dict.fromkeys(self._healing.ask(now))
            self._transfers.wake(now)
        if now >= self._former:
            self._former = self._store.lists.expire(now) or now + FORMER_MS
            self._healing.recent.expire(now)
        if self._expiry is not None and now >= self._expiry:
            gone, _ = self._applier.expire(now)
            effects += [Tell(event) for event in gone]
        for owed in (self._syncing.owed, self._inbox.owed):
            self._ready |= dict.fromkeys(owed)
            owed.clear()
        return effects

    def _handle(self, item: Input, now: int) -> list[Effect]:
        match item:
            case Arrived(received):
                effects: list[Effect] = []
                for frame in received:
                    effects += self._frame(frame, now)
                return effects
            case Compose():
                return self._compose(item, now)
            case MarkRead():
                return self._mark_read(item, now)
            case Opened():
                return self._opened()
            case Lost():
                return self._lost(item)
            case AccountFound():
                return self._account_found(item)
            case AccountNotFound():
                return self._account_not_found(item, now)
            case KeysFound():
                return self._keys_found(item, now)
            case KeysNotFound():
                return self._keys_not_found(item, now)
            case DevicesFound():
                return self._devices_found(item, now)
            case DevicesNotFound():
                return self._devices_not_found(item, now)
            case Choose():
                return self._choices.choose(item, now)
            case BlocksKept():
                return self._choices.blocks_kept(item)
            case NewToken():
                self._store.set_token(item.token, now)
                self._own = self._store.own()
                return [Answer(item.ticket, None)]
            case Tick():
                self._transfers.look()
                return []

    # -- the connection --------------------------------------------------------------------

    def _opened(self) -> list[Effect]:
        self._forget_connection()
        own = self._own
        hello = Hello(
            frames.VERSION,
            own.account,
            own.device,
            own.token,
            InboxNumber(self._inbox.seen),
            self._store.failed(),
            self._store.own().revision,
        )
        return [Greet(frames.pack_hello(hello))]

    def _lost(self, lost: Lost) -> list[Effect]:
        goodbye, error = self._goodbye, lost.error
        if goodbye is not None:
            error = from_code(goodbye.code, goodbye.detail)
        self._forget_connection()
        for close, kind in _FATAL.items():
            if lost.close == close or (goodbye is not None and goodbye.code == kind.code):
                fatal = kind()
                return [Stop(fatal), Tell(Stopped(fatal))]
        return [Tell(Disconnected(error))]

    def _forget_connection(self) -> None:
        self._welcomed = False
        self._goodbye = None
        self._inbox.new_connection()
        self._devices.new_connection()
        self._lanes.clear()
        self._ready.clear()
        self._room = UNDER_WAY

    def _frame(self, frame: ToDevice, now: int) -> list[Effect]:
        match frame:
            case Welcome():
                return self._welcome(frame)
            case Goodbye():
                self._goodbye = frame
                return [Reconnect(frame.min_ms, frame.max_ms)]
            case _ if not self._welcomed:
                return []
            case Envelope():
                return self._inbox.envelope(frame, now)
            case Sent():
                return self._sent(frame)
            case Refused():
                return self._refused(frame, now)
            case Receipt():
                return self._inbox.receipt(frame, now)
            case frames.Devices():
                return self._devices.watch(frame.version, changed=True)

    def _welcome(self, frame: Welcome) -> list[Effect]:
        effects = self._inbox.welcome(frame.cursor)
        self._welcomed = True
        self._ready = dict.fromkeys(self._store.outbox.owing())
        effects += self._devices.watch(frame.list_version, changed=self._devices.has_others)
        effects += self._choices.publish()
        return [*effects, Tell(Connected(max(0, frame.head - self._inbox.seen)))]

    # -- sending ---------------------------------------------------------------------------

    def _compose(self, item: Compose, now: int) -> list[Effect]:
        history, said = self._store.history, item.content
        peer = history.open_conversation(item.peer)
        if isinstance(said, Typing) and not (self._welcomed and peer.account and peer.accepted):
            return [Answer(item.ticket, None)]
        if isinstance(said, Message):
            version = self._store.lists.version(self._own.account)
            said = said._replace(
                list_version=version or None, expires=said.expires or peer.timer or None
            )
        try:
            composed = self._applier.compose(peer.id, said, now)
            data = content.encode(composed.content)
        except RaychatError as error:
            return [Answer(item.ticket, error)]
        self._store.outbox.owe(peer.id, data, composed.key)
        self._ready[peer.id] = None
        if peer.account is not None:
            self._inbox.forget_deleted(peer.account, composed.content)
        shown = None if composed.key is None else history.message(composed.key)
        return [*(Tell(event) for event in composed.events), Answer(item.ticket, shown)]

    def _mark_read(self, item: MarkRead, now: int) -> list[Effect]:
        names = self._store.history.mark_incoming_read(item.conversation, item.upto, now)
        peer = self._store.history.conversation(item.conversation)
        if not names or peer is None or peer.account is None:
            return [Answer(item.ticket, len(names))]
        if self._inbox.tells_reads(peer):
            for marks in read_marks(names):
                self._store.outbox.owe(peer.id, content.encode(content.Read(now, marks)))
                self._ready[peer.id] = None
        self._syncing.read(peer.account, names, now)
        return [Answer(item.ticket, len(names))]

    def _pump(self, now: int) -> list[Effect]:
        """Send in every lane that may, as long as there is room."""
        if not self._welcomed:
            return []
        effects: list[Effect] = []
        for key, lane in self._lanes.items():
            if 0 < lane.retry_at <= now:
                effects += lane.wake(now)
                self._ready[key] = None
        room = self._room - sum(lane.under_way for lane in self._lanes.values())
        for key in list(self._ready):
            if room <= 0:
                break
            del self._ready[key]
            ready = self._lane(key)
            if ready is None:
                continue
            before = ready.under_way
            effects += ready.pump(room, now)
            room -= ready.under_way - before
            if room <= 0:
                self._ready[key] = None  # perhaps there is more; after the others
        return effects

    def _lane(self, conversation: int) -> Lane | None:
        lane = self._lanes.get(conversation)
        if lane is None:
            peer = self._store.history.conversation(conversation)
            if peer is None:
                return None
            lane = Lane(
                self._store,
                self._own,
                self._cipher,
                self._devices,
                self._syncing,
                peer,
                self._jitter,
            )
            self._lanes[conversation] = lane
        return lane

    def _lane_to(self, account: AccountId) -> Lane | None:
        peer = self._store.history.conversation_with(account)
        return self._lanes.get(peer.id) if peer else None

    def _sent(self, frame: Sent) -> list[Effect]:
        lane = self._lane_to(frame.to)
        if lane is None:
            return []
        self._room = min(self._room + 1, UNDER_WAY)
        self._ready[lane.peer.id] = None
        return lane.sent(frame.id, frame.at)

    def _refused(self, frame: Refused, now: int) -> list[Effect]:
        lane = self._lane_to(frame.to)
        if lane is None:
            return []
        if frame.code == RateLimited.code:
            # The server's budget is for all messages of this device.
            self._room = max(1, self._room // 2)
        self._ready[lane.peer.id] = None
        return lane.refused(frame, now)

    # -- what was looked up ----------------------------------------------------------------

    def _account_found(self, item: AccountFound) -> list[Effect]:
        history = self._store.history
        claimed_by = self._inbox.claims.get(item.number)
        before = history.conversation_with(item.number)
        if before is None and claimed_by != item.account:
            return []  # nobody writes to it, and who claims to have it does not
        peer = history.number_belongs(item.number, item.account)
        if before is not None and before.account is None:
            self._lanes.pop(before.id, None)
        self._ready[peer.id] = None
        lane = self._lanes.get(peer.id)
        if lane is not None:
            lane.peer = peer
        return [Tell(NumberFound(peer.id))]

    def _account_not_found(self, item: AccountNotFound, now: int) -> list[Effect]:
        peer = self._store.history.conversation_with(item.number)
        return self._not_found(self._lanes.get(peer.id) if peer else None, item.error, now)

    def _keys_found(self, item: KeysFound, now: int) -> list[Effect]:
        lane = self._lane_to(item.account)
        if not item.devices and item.asked is None:
            return self._not_found(lane, NoKeys(), now)
        effects, failure = self._devices.keys_found(item, now)
        self._healing.look()
        effects += self._inbox.list_came(item.account, now)
        if failure is not None:
            return effects + self._not_found(lane, Unavailable(failure.detail), now)
        self._go_on(lane)
        return effects

    def _devices_found(self, item: DevicesFound, now: int) -> list[Effect]:
        lane, failed = self._lane_to(item.account), False
        try:
            effects = self._devices.devices_found(item, now)
        except RaychatError as error:
            failed = True
            effects = self._devices.refuse(item.account, None, error)
            if lane is not None and lane.waiting:
                lane.back_off(now)
        if item.account == self._own.account:
            self._devices.own_asked(now, failed=failed)
        self._go_on(lane)
        self._healing.look()
        self._transfers.look()
        return effects + self._inbox.list_came(item.account, now)

    def _devices_not_found(self, item: DevicesNotFound, now: int) -> list[Effect]:
        lane = self._lane_to(item.account)
        if lane is not None and lane.waiting:
            lane.back_off(now)
            self._go_on(lane)
        if item.account == self._own.account:
            self._devices.own_asked(now, failed=True)
        if isinstance(item.error, NotFound):
            return self._inbox.list_came(item.account, now)
        self._inbox.list_failed(item.account, now)
        return []

    def _go_on(self, lane: Lane | None) -> None:
        """What a lane waited for is there."""
        if lane is not None:
            lane.waiting = False
            self._ready[lane.peer.id] = None

    def _keys_not_found(self, item: KeysNotFound, now: int) -> list[Effect]:
        effects = self._not_found(self._lane_to(item.account), item.error, now)
        peer = self._store.history.conversation_with(item.account)
        if isinstance(item.error, NotFound) and peer is not None and peer.number is not None:
            # The account is gone; the number may be another account's by now.
            effects.append(WantAccount(peer.number))
        return effects

    def _not_found(self, lane: Lane | None, error: RaychatError, now: int) -> list[Effect]:
        if lane is None:
            return []
        lane.waiting = False
        if isinstance(error, NotFound | BadNumber):
            return lane.give_up_all(error)
        lane.back_off(now)
        return []


def _takes_words_away(effect: Effect) -> bool:
    """Whether a turn with this effect has removed words that nobody shall find any more."""
    match effect:
        case Tell(MessageGone() | MessageChanged(what=What.DELETED | What.OPENED)):
            return True
    return False
