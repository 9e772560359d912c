"""The rules of receiving: each message kept once, in order, and nothing claimed that is not so.

Envelopes come in the order of their inbox numbers; a number that skips one means a new
connection, one that is known is dropped. A message that was taken before, by (sender, device,
incarnation, id), is acknowledged and not shown again. One that cannot be opened is
acknowledged as failed, so that its sender sees no ✓✓. Pure, over the device's file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raychat import limits
from raychat.client.events import (
    Delivered,
    Event,
    Expired,
    IdentityChanged,
    InboxGap,
    MessageReceived,
    Read,
    Undecryptable,
)
from raychat.client.history import Received
from raychat.client.model import State
from raychat.client.signals import Effect, Reconnect, Tell, Transmit, WantAccount
from raychat.client.store import DeviceStore, Own
from raychat.crypto import CiphertextMessage, MessageKind, SessionCipher
from raychat.errors import CryptoError, InvalidMessage, Malformed, StoreError, TooLarge
from raychat.ids import AccountId, Address, PhoneNumber
from raychat.wire import content, frames
from raychat.wire.content import Mark
from raychat.wire.frames import Envelope, Outcome, Receipt


class Inbox:
    """What arrives at this device. Methods belong to a transaction, except `ack`."""

    def __init__(self, store: DeviceStore, own: Own, cipher: SessionCipher) -> None:
        self._store = store
        self._own = own
        self._cipher = cipher
        self._fresh = own.seen is None
        self._kept = self.seen = int(own.seen or 0)
        self._deaf = False
        self._ack = False
        self._failed: list[int] = []
        self.claims: dict[PhoneNumber, AccountId] = {}
        """Numbers that peers say they have, and that are being looked up."""
        self.key_messages = 0
        """Messages that have used up a one-time key since the start."""

    def new_connection(self) -> None:
        self._deaf = self._ack = False
        self._failed = []
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
        self._ack, failed, self._failed = False, self._failed, []
        return [Transmit(frames.pack_ack(self.seen, failed))]

    def envelope(self, frame: Envelope, now: int) -> list[Effect]:
        if self._deaf:
            return []
        self._ack = True
        if frame.number <= self.seen:
            return []
        if frame.number != self.seen + 1:
            self._deaf = True
            return [Reconnect(limits.RECONNECT_MIN_MS, limits.RECONNECT_MAX_MS)]
        self.seen = frame.number
        name = Received(frame.sender, frame.device, frame.incarnation, frame.id)
        if frame.id <= self._store.peers.last_received(name):
            return []
        address = Address(frame.sender, frame.device)
        try:
            plaintext = self._decrypt(address, frame)
            body = content.decode(content.unpad(plaintext))
        except (CryptoError, StoreError, Malformed, TooLarge) as error:
            self._failed.append(frame.number)
            self._store.settle_failed(frame.number - limits.PUSH_WINDOW)
            self._store.add_failed(frame.number)
            failure = Tell(Undecryptable(frame.sender, frame.device, error))
            return [failure, *self.identity_changes()]
        self._store.peers.set_received(name)
        self._store.peers.put_device(frame.sender, frame.device, frame.incarnation)
        effects = self.identity_changes()
        match body:
            case content.Text(at, text, claim):
                effects += self._keep(frame, name, content.TEXT, text, None, at, now)
                if claim is not None:
                    effects += self._check_claim(frame.sender, claim)
            case content.Read(at, marks):
                effects += self._they_read(frame.sender, marks, min(at, now))
            case content.Unknown(at, _, kind, data):
                effects += self._keep(frame, name, kind, None, data, at, now)
        return effects

    def _decrypt(self, address: Address, frame: Envelope) -> bytes:
        if frame.kind not in (MessageKind.WHISPER, MessageKind.PRE_KEY):
            raise InvalidMessage("The envelope is of a kind this version does not open.")
        kind = MessageKind(frame.kind)
        plaintext = self._cipher.decrypt(address, CiphertextMessage(kind, frame.body))
        if kind is MessageKind.PRE_KEY:
            self.key_messages += 1
        return plaintext

    def _keep(
        self,
        frame: Envelope,
        name: Received,
        kind: int,
        text: str | None,
        data: bytes | None,
        composed: int,
        now: int,
    ) -> list[Effect]:
        history = self._store.history
        peer = history.open_conversation(frame.sender)
        key = history.add_incoming(peer.id, name, kind, text, data, composed, frame.at, now)
        message = history.message(key)
        assert message is not None
        return [Tell(MessageReceived(message))]

    def _check_claim(self, account: AccountId, claim: PhoneNumber) -> list[Effect]:
        """Look up the number a peer says it has, once per connection and peer."""
        peer = self._store.history.conversation_with(account)
        if peer is None or peer.number is not None or account in self.claims.values():
            return []
        self.claims[claim] = account
        return [WantAccount(claim)]

    def _they_read(self, reader: AccountId, marks: Sequence[Mark], at: int) -> list[Effect]:
        peer = self._store.history.conversation_with(reader)
        if peer is None:
            return []
        return [
            Tell(Read(key, peer.id, at))
            for device, incarnation, ranges in marks
            for lo, hi in zip(ranges[::2], ranges[1::2], strict=True)
            for key in self._store.history.mark_outgoing(
                peer.id, device, incarnation, lo, hi, State.READ, at
            )
        ]

    def receipt(self, frame: Receipt, now: int) -> list[Effect]:
        self._store.set_revision(frame.revision)
        peer = self._store.history.conversation_with(frame.peer)
        if peer is None:
            return []
        delivered = frame.outcome is Outcome.DELIVERED
        state = State.DELIVERED if delivered else State.EXPIRED
        event: Callable[[int, int, int], Event] = Delivered if delivered else Expired
        own = self._own
        return [
            Tell(event(key, peer.id, now))
            for lo, hi in zip(frame.ranges[::2], frame.ranges[1::2], strict=True)
            for key in self._store.history.mark_outgoing(
                peer.id, own.device, own.incarnation, lo, hi, state, now
            )
        ]

    def identity_changes(self) -> list[Effect]:
        effects: list[Effect] = []
        for account, device in self._store.keys.changed:
            peer = self._store.history.conversation_with(account)
            effects.append(Tell(IdentityChanged(account, device, peer.id if peer else None)))
        self._store.keys.changed.clear()
        return effects
