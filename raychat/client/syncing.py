"""Keeping one's own devices in step: what this device does, the others are told.

What the server has acknowledged (✓) is owed, in the same transaction, to the conversation with
one's own account: a `Sent` with the content and its name, so that the others show it and the
marks on it find it. Settings, read marks and erasures go the same way. What was sent is also
kept for a while, for devices that cannot open it. Pure, over the device's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raychat.client.devices import Devices
from raychat.client.healing import Healing
from raychat.client.history import Received
from raychat.client.model import Conversation
from raychat.client.outbox import Owed
from raychat.client.reading import read_marks
from raychat.client.store import DeviceStore, Own
from raychat.ids import AccountId
from raychat.wire import content
from raychat.wire.content import Kind, Marks, MessageName, PeerMarks, Resend

_HEAD: Final = bytes((0x94, content.VERSION))
"""Four items, the first of them the version: how our own contents begin; the kind follows."""

_ONCE: Final = (Kind.RETRY, Kind.TYPING)
"""What nobody needs once more."""

_ALONE: Final = (Kind.READ, Kind.RETRY, Kind.TYPING, Kind.DEVICES, Kind.PROFILE)
"""What one's other devices are not told of, or in another way."""


def kind_of(data: bytes) -> int:
    """The kind of an encoded content without taking it apart; -1 for what is not ours."""
    return data[2] if data[:2] == _HEAD and len(data) > 3 else -1


class Syncing:
    """What is owed to one's own devices. Methods belong to a transaction."""

    def __init__(self, store: DeviceStore, own: Own, devices: Devices, healing: Healing) -> None:
        self._store = store
        self._own = own
        self._devices = devices
        self._healing = healing
        self.owed: set[int] = set()
        """Conversations to which something has come to be owed; who sends takes it out."""

    def owe(self, said: content.Content) -> None:
        """Owe a content to the other devices, if there are any."""
        if self._devices.has_others:
            own = self._store.history.open_conversation(self._own.account)
            self._store.outbox.owe(own.id, content.encode(said))
            self.owed.add(own.id)

    def sent(self, peer: Conversation, row: Owed, at: int) -> None:
        """The server has acknowledged a message at `at` (its time, ms)."""
        account, own, kind = peer.account, self._own, kind_of(row.content)
        assert account is not None
        assert row.id is not None
        if kind not in _ONCE:
            key = self._store.lists.account_key(account)
            if key is not None:
                name = (account, own.incarnation, int(row.id))
                devices = [part[:2] for part in row.parts]
                self._healing.recent.keep(name, row.content, key.data, devices, at)
        if kind == Kind.RESEND:
            self._alias(peer, row)
        if account != own.account and kind not in _ALONE:
            sent = MessageName(own.account, own.device, own.incarnation, row.id)
            self.owe(content.Sent(at, account, sent, at, row.content, peer.number))

    def _alias(self, peer: Conversation, row: Owed) -> None:
        """A message was sent once more, and what is heard of it is meant for the first one."""
        again = content.decode(row.content)
        if not isinstance(again, Resend) or row.id is None:
            return
        own = self._own
        name = MessageName(own.account, own.device, own.incarnation, row.id)
        self._store.history.add_alias(peer.id, name, again.message.of(own.account))

    def read(self, peer: AccountId, names: Sequence[Received], now: int) -> None:
        """This device has read messages of a peer."""
        for marks in read_marks(names):
            self.owe(Marks(now, (PeerMarks(peer, marks),)))
