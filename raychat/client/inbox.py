"""The rules of receiving: each message kept once, in order, and nothing claimed that is not so.

Envelopes come in the order of their inbox numbers; a number that skips one means a new
connection, one that is known is dropped. A message that was taken before, by (sender, device,
incarnation, id), is acknowledged and not shown again. One that cannot be opened is asked for.
One of a device that its account's list does not have waits until the newest list has come, and
those after it with it; if it is not in that either, nobody signed it and it is dropped.

Told to its sender (✓✓) is only what a person can see, and only to people they have accepted:
anything else would tell strangers when this device is there. Pure, over the device's file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from raychat import limits
from raychat.client.applying import Applier
from raychat.client.contacts import OWN
from raychat.client.devices import Devices
from raychat.client.events import (
    Delivered,
    Event,
    Expired,
    InboxGap,
    TypingSeen,
    Undecryptable,
)
from raychat.client.healing import Healing
from raychat.client.history import Received
from raychat.client.model import Conversation, State
from raychat.client.signals import Effect, Reconnect, Tell, Transmit, WantAccount, WantDevices
from raychat.client.store import DeviceStore, Own
from raychat.client.transfer import Transfers
from raychat.crypto import CiphertextMessage, MessageKind, SessionCipher
from raychat.crypto.message import PreKeySignalMessage
from raychat.errors import (
    CryptoError,
    GhostDevice,
    InvalidMessage,
    Malformed,
    StoreError,
    TooLarge,
)
from raychat.ids import AccountId, Address, PhoneNumber
from raychat.wire import content, frames
from raychat.wire.content import Content, Delete, Resend, Retry, Sent, Transfer, Typing
from raychat.wire.frames import Envelope, Outcome, Receipt

TYPING_MS: Final = 15_000
"""After which nobody is writing any more, whatever they said."""

LIST_RETRY_MS: Final = 1_000
LIST_RETRY_MAX_MS: Final = 60_000


class Inbox:
    """What arrives at this device. Methods belong to a transaction, except `ack`."""

    def __init__(
        self,
        store: DeviceStore,
        own: Own,
        cipher: SessionCipher,
        devices: Devices,
        healing: Healing,
        transfers: Transfers,
    ) -> None:
        self._store = store
        self._own = own
        self._cipher = cipher
        self._devices = devices
        self._healing = healing
        self._transfers = transfers
        self._applier = Applier(store)
        self._fresh = own.seen is None
        self._kept = self.seen = int(own.seen or 0)
        self._deaf = False
        self._ack = False
        self._untold: list[int] = []
        self._held: deque[Envelope] = deque()
        self._waiting: AccountId | None = None
        self._checked = 0
        """The inbox number whose sender is looked for in a list that was just fetched."""
        self._list_tries = 0
        self.retry_at = 0
        """When (ms) a list is to be asked for again; 0 if none is waited for."""
        self.owed: set[int] = set()
        """Conversations to which something has come to be owed."""
        self.claims: dict[PhoneNumber, AccountId] = {}
        """Numbers that peers say they have, and that are being looked up."""
        self.key_messages = 0
        """Messages that have used up a one-time key since the start."""

    def new_connection(self) -> None:
        self._deaf = self._ack = False
        self._untold = []
        self._held.clear()
        self._waiting = None
        self._checked = self._list_tries = self.retry_at = 0
        self.claims.clear()

    def welcome(self, cursor: int) -> list[Effect]:
        """The server has everything up to `cursor` acknowledged."""
        effects: list[Effect] = []
        if cursor > self.seen:
            if not self._fresh:
                effects.append(Tell(InboxGap(self.seen + 1, cursor)))
            self.seen = cursor
        if self._fresh:
            self._store.set_seen(self.seen)
            self._fresh = False
        self._store.settle_failed(cursor)
        return effects

    def keep(self) -> None:
        """Keep how far it has come; the last step of a transaction."""
        if self.seen != self._kept:
            self._store.set_seen(self.seen)
            self._kept = self.seen

    def ack(self) -> list[Effect]:
        """Acknowledge what has been kept, if there is anything new."""
        if not self._ack or self._deaf:
            return []
        self._ack, untold, self._untold = False, self._untold, []
        return [Transmit(frames.pack_ack(self.seen, untold))]

    # -- envelopes -------------------------------------------------------------------------

    def envelope(self, frame: Envelope, now: int) -> list[Effect]:
        if self._deaf:
            return []
        if self._waiting is not None:
            if len(self._held) >= limits.PUSH_WINDOW:  # more than a server may push
                return self._begin_again()
            self._held.append(frame)
            return []
        self._ack = True
        if frame.number <= self.seen:
            return []
        if frame.number != self.seen + 1:
            return self._begin_again()
        address = Address(frame.sender, frame.device)
        name = Received(frame.sender, frame.device, frame.incarnation, frame.id)
        if address == self._own.address or frame.id <= self._store.peers.last_received(name):
            self.seen = frame.number
            self._leave_untold(frame.number)
            return []
        if not self._is_listed(address, frame):
            if self._checked != frame.number:
                self._waiting, self._checked = frame.sender, frame.number
                self._held.append(frame)
                self._ack = self.seen != self._kept
                return [WantDevices(frame.sender)]
            self.seen = frame.number
            self._leave_untold(frame.number)
            self._healing.failed(name, frame.at, now)  # asked for once the list has the device
            return self._devices.refuse(frame.sender, frame.device, GhostDevice())
        self.seen = frame.number
        return self._take(address, name, frame, now)

    def _begin_again(self) -> list[Effect]:
        """Hear nothing more on this connection; the next one brings what was not kept."""
        self._deaf = True
        return [Reconnect(limits.RECONNECT_MIN_MS, limits.RECONNECT_MAX_MS)]

    def _is_listed(self, address: Address, frame: Envelope) -> bool:
        """Whether the sender's account has signed the device that says it has sent this."""
        lists = self._store.lists
        identity = lists.identity(address)
        if frame.kind != MessageKind.PRE_KEY:
            return identity is not None or lists.is_former(address)
        try:
            theirs = PreKeySignalMessage.parse(frame.body).identity_key
        except CryptoError:
            return identity is not None
        return identity == theirs or lists.is_former(address, theirs)

    def list_came(self, account: AccountId, now: int) -> list[Effect]:
        """The newest list of an account is there, or there is none: go on with what waits."""
        if self._waiting != account:
            return []
        self._waiting, self._list_tries, self.retry_at = None, 0, 0
        held, self._held = self._held, deque()
        effects: list[Effect] = []
        while held:
            effects += self.envelope(held.popleft(), now)
        return effects

    def list_failed(self, account: AccountId, now: int) -> None:
        """It could not be fetched now: what waits for it waits on."""
        if self._waiting == account:
            pause = LIST_RETRY_MS * 2 ** min(self._list_tries, 10)
            self.retry_at = now + min(pause, LIST_RETRY_MAX_MS)
            self._list_tries += 1

    def wake(self, now: int) -> list[Effect]:
        """Ask for the list again, if it is time."""
        if self._waiting is None or not 0 < self.retry_at <= now:
            return []
        self.retry_at = 0
        return [WantDevices(self._waiting)]

    def _leave_untold(self, number: int) -> None:
        """Acknowledge an envelope without telling its sender anything."""
        self._untold.append(number)
        self._store.settle_failed(number - limits.PUSH_WINDOW)
        self._store.add_failed(number)

    def _take(self, address: Address, name: Received, frame: Envelope, now: int) -> list[Effect]:
        try:
            plaintext = self._decrypt(address, frame)
        except (CryptoError, StoreError) as error:
            self._leave_untold(frame.number)
            peer = self._store.history.conversation_with(frame.sender)
            if peer is not None and peer.blocked:
                return []
            self._healing.failed(name, frame.at, now)
            return [Tell(Undecryptable(frame.sender, frame.device, error))]
        self._store.peers.set_received(name)
        self._devices.heard_from(address, frame.incarnation)
        self._healing.opened(address)
        try:
            body = content.decode(content.unpad(plaintext))
            effects, shown = self._open(address, name, body, frame.at, now)
        except (Malformed, TooLarge) as error:
            self._leave_untold(frame.number)
            return [Tell(Undecryptable(frame.sender, frame.device, error))]
        if not (shown and self._is_accepted(frame.sender)):
            self._leave_untold(frame.number)
        return effects

    def _decrypt(self, address: Address, frame: Envelope) -> bytes:
        if frame.kind not in (MessageKind.WHISPER, MessageKind.PRE_KEY):
            raise InvalidMessage("The envelope is of a kind this version does not open.")
        kind = MessageKind(frame.kind)
        plaintext = self._cipher.decrypt(address, CiphertextMessage(kind, frame.body))
        if kind is MessageKind.PRE_KEY:
            self.key_messages += 1
        return plaintext

    def _is_accepted(self, account: AccountId) -> bool:
        """Whether this person may know when their messages arrive here."""
        peer = self._store.history.conversation_with(account)
        return peer is not None and peer.accepted and not peer.blocked

    # -- contents --------------------------------------------------------------------------

    def _open(
        self, address: Address, name: Received, body: Content, at: int, now: int
    ) -> tuple[list[Effect], bool]:
        """What a content does, and whether a person sees a new message by it."""
        own = address.account == self._own.account
        match body:
            case Retry():
                owed = self._healing.asked(address, name.incarnation, body, now)
                if owed is not None:
                    self.owed.add(owed)
                return [], False
            case Resend():
                return self._resent(address, body, now)
            case content.Devices(version=version):
                return self._hear_of_list(address.account, version), False
            case Typing(at=when, active=active):
                return self._typing(address.account, active, when, at), False
            case Transfer():
                return self._transfers.step(address, body, now) if own else [], False
            case Sent(peer=peer, content=sent) if own:
                self.forget_deleted(peer, content.decode(sent))
        applied = self._applier.apply(name, address.account, own, body, at, now)
        effects: list[Effect] = [Tell(event) for event in applied.events]
        if not own:
            effects += self._hear_of_list(address.account, getattr(body, "list_version", None))
            effects += self._check_claim(address.account, getattr(body, "number", None))
        elif isinstance(body, Sent):
            effects += self._check_claim(body.peer, body.number)
        return effects, applied.shown

    def _resent(self, address: Address, again: Resend, now: int) -> tuple[list[Effect], bool]:
        """A message comes once more: under its first name, if it was waited for."""
        name = again.message.of(address.account)
        if name.device != address.device:
            return [], False
        at = self._healing.came(name)
        if at is None:
            return [], False
        body = content.decode(again.content)
        if isinstance(body, Resend | Retry):
            return [], False
        return self._open(address, name, body, at, now)

    def _hear_of_list(self, account: AccountId, version: int | None) -> list[Effect]:
        """A peer says which version its device list has."""
        if version is None or version <= self._store.lists.version(account):
            return []
        return [WantDevices(account)]

    def _typing(self, account: AccountId, active: bool, when: int, at: int) -> list[Effect]:
        peer = self._store.history.conversation_with(account)
        if peer is None or not peer.accepted or peer.blocked or abs(at - when) > TYPING_MS:
            return []
        return [Tell(TypingSeen(peer.id, active))]

    def forget_deleted(self, peer: AccountId, said: Content) -> None:
        """What was deleted for everyone is not sent once more."""
        own = (*self._own.address, self._own.incarnation)
        if isinstance(said, Delete) and said.target[:3] == own:
            name = (peer, said.target.incarnation, int(said.target.id))
            self._healing.recent.forget(name)

    def _check_claim(self, account: AccountId, claim: str | None) -> list[Effect]:
        """Look up the number a peer says it has, once per connection and peer."""
        peer = self._store.history.conversation_with(account)
        if claim is None or peer is None or peer.number is not None:
            return []
        if account in self.claims.values():
            return []
        number = PhoneNumber(claim)
        self.claims[number] = account
        return [WantAccount(number)]

    # -- marks -----------------------------------------------------------------------------

    def receipt(self, frame: Receipt, now: int) -> list[Effect]:
        """What became of messages of this account's devices: of this one or of another."""
        self._store.set_revision(frame.revision)
        peer = self._store.history.conversation_with(frame.peer)
        if peer is None:
            if (frame.device, frame.incarnation) == (self._own.device, self._own.incarnation):
                return []
            peer = self._store.history.open_conversation(frame.peer)
        delivered = frame.outcome is Outcome.DELIVERED
        state = State.DELIVERED if delivered else State.EXPIRED
        event: Callable[[int, int, int], Event] = Delivered if delivered else Expired
        return [
            Tell(event(key, peer.id, now))
            for lo, hi in zip(frame.ranges[::2], frame.ranges[1::2], strict=True)
            for key in self._store.history.mark_outgoing(
                peer.id, frame.device, frame.incarnation, lo, hi, state, now
            )
        ]

    def tells_reads(self, peer: Conversation) -> bool:
        """Whether a peer is told what this person has read of theirs."""
        made = self._store.history.setting(OWN, "read_receipts")
        return peer.accepted and not peer.blocked and (made is None or bool(made.value))
