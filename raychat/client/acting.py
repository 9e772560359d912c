"""What a person does: saying, changing, marking as read, settling how things are to be.

`Client` is an `Acting` with a file and a connection. Each method returns when what was done is
kept in the device's file, connected or not.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from raychat import limits
from raychat.client.contacts import OWN
from raychat.client.model import Conversation, Message, State
from raychat.client.numbers import recipient
from raychat.client.signals import Choose, Compose, Input, MarkRead
from raychat.client.store import DeviceStore, Own
from raychat.clock import Clock
from raychat.errors import BadRequest, NotFound
from raychat.ids import AccountId, PhoneNumber
from raychat.wire import content

Peer = str | PhoneNumber | AccountId | Conversation
"""A phone number, an account (16 bytes or its UUID as text), or a conversation."""


class Acting(ABC):
    """Hands the person's wishes to the engine."""

    _store: DeviceStore
    _own: Own
    _clock: Clock

    @abstractmethod
    async def _put(self, item: Input) -> None:
        """Hand an input in."""

    @abstractmethod
    async def wait(
        self, message: Message, state: State = State.SENT, timeout: float | None = 30
    ) -> Message:
        """Wait (seconds) until a message of this device has come so far."""

    # -- saying ----------------------------------------------------------------------------

    async def send(
        self,
        to: Peer,
        text: str,
        *,
        reply_to: Message | None = None,
        view_once: bool = False,
    ) -> Message:
        """Send a text. Returns when it is kept in this device's file, connected or not.

        Raises BadNumber, TooLarge, Malformed (no text), StoreError.
        """
        reply = None
        if reply_to is not None and reply_to.name is not None:
            snippet = (reply_to.text or "")[: limits.SNIPPET_CHARS]
            reply = content.Reply(reply_to.name, snippet)
        said = content.Text(self._clock(), text, self._own.number, reply=reply, view_once=view_once)
        message = await self.say(to, said)
        assert message is not None
        return message

    async def say(self, to: Peer, said: content.Content) -> Message | None:
        """Send any content. Returns the message it is shown as, if it is one.

        Raises BadNumber, TooLarge, Malformed; of a change also NotFound, Denied, TooLate.
        """
        peer = self._peer(to)
        if peer in (self._own.account, self._own.number):
            raise BadRequest("That is this device's own number.")
        content.encode(said)  # what cannot be sent is said so at once
        message: Message | None = await self._asked(lambda ticket: Compose(ticket, peer, said))
        return replace(message, waiter=self.wait) if message is not None else None

    async def edit(self, message: Message, text: str) -> None:
        """Let a text of one's own say something else. Raises NotFound, Denied, TooLate."""
        name = self._name(message)
        await self.say(message.conversation, content.Edit(self._clock(), name, text))

    async def delete(self, message: Message) -> None:
        """Delete a message of one's own for everyone. Raises NotFound, Denied, TooLate."""
        name = self._name(message)
        await self.say(message.conversation, content.Delete(self._clock(), name))

    async def react(self, message: Message, emoji: str) -> None:
        """Answer a message with one picture; an empty one takes it back. Raises NotFound."""
        name = self._name(message)
        await self.say(message.conversation, content.Reaction(self._clock(), name, emoji))

    async def vote(self, poll: Message, choices: Sequence[int]) -> None:
        """Choose options of a poll by their places from 0 on. Raises NotFound, Malformed."""
        places = tuple(sorted(set(choices)))
        vote = content.Vote(self._clock(), self._name(poll), places)
        await self.say(poll.conversation, vote)

    async def set_timer(self, peer: Peer, seconds: int) -> None:
        """Let new messages disappear after so many seconds; 0: they stay."""
        await self.say(peer, content.Timer(self._clock(), seconds))

    async def typing(self, peer: Peer, active: bool = True) -> None:
        """Let someone know that this person is writing; lost if there is no connection, and not
        said at all by who has switched `typing` off."""
        setting = self._store.history.setting(OWN, "typing")
        if setting is not None and not setting.value:
            return
        await self.say(peer, content.Typing(self._clock(), active))

    async def mark_read(self, peer: Peer, upto: Message | None = None) -> int:
        """Mark what was received as read, and tell its sender. How many it was new for."""
        conversation = self._store.history.conversation_with(self._peer(peer))
        if conversation is None:
            return 0
        key = upto.key if upto else None
        read: int = await self._asked(lambda ticket: MarkRead(ticket, conversation.id, key))
        return read

    def _name(self, message: Message) -> content.MessageName:
        name = self._store.history.name_of(message.key)
        if name is None:
            raise NotFound("That message has not been sent yet, or is gone.")
        return name

    # -- settings of conversations, synced over one's devices --------------------------------

    async def choose(self, peer: Peer | None, name: str, value: content.Value) -> None:
        """Make a setting of a conversation, or one's own (`peer` None). Those of a conversation
        are `accepted`, `blocked`, `archived`, `muted` (until, ms), `pinned`, `name`, `verified`;
        one's own are `read_receipts`, `typing`, `profile`. Raises NotFound for a peer whose
        account is not known yet."""
        account = None
        if peer is not None:
            account = self._account(peer)
            if account is None:
                raise NotFound("Nobody has written with that number yet; write to it first.")
        setting = content.Setting(account, name, value)
        await self._asked(lambda ticket: Choose(ticket, [setting]))

    async def accept(self, peer: Peer) -> None:
        """Take somebody's message request: from now on they see ✓✓ and what was read."""
        await self.choose(peer, "accepted", True)

    async def block(self, peer: Peer) -> None:
        """Hear nothing more of somebody; they are not told."""
        await self.choose(peer, "blocked", True)

    async def unblock(self, peer: Peer) -> None:
        await self.choose(peer, "blocked", False)

    # -- peers and tickets ------------------------------------------------------------------

    def _account(self, peer: Peer) -> AccountId | None:
        """The account of a peer, None if only its number is known."""
        known = self._peer(peer)
        if not isinstance(known, PhoneNumber):
            return known
        found = self._store.history.conversation_with(known)
        return found.account if found is not None else None

    def _peer(self, peer: Peer) -> PhoneNumber | AccountId:
        if isinstance(peer, Conversation):
            if peer.account is not None:
                return peer.account
            assert peer.number is not None
            return peer.number
        if isinstance(peer, bytes):
            return peer
        return recipient(peer)

    async def _asked(self, item: Callable[[asyncio.Future[Any]], Input]) -> Any:
        """Hand in an input and wait for its answer."""
        ticket: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._put(item(ticket))
        return await ticket
