"""`Client`: a device as a program uses it.

    async with Client() as me:
        await me.send("+15550002222", "hi")
        async for event in me.events():
            ...

It works without a connection too: what is sent waits in the device's file, and the history is
there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from raychat import limits
from raychat.client import keyfile, registration
from raychat.client.driver import Driver
from raychat.client.events import (
    Connected,
    Delivered,
    Disconnected,
    Event,
    Expired,
    Failed,
    Feed,
    Read,
    Sent,
    Stopped,
)
from raychat.client.http import publication
from raychat.client.model import Conversation, Message, State
from raychat.client.numbers import recipient
from raychat.client.registration import AskCode, fill
from raychat.client.signals import (
    Compose,
    Input,
    MarkRead,
)
from raychat.client.store import DeviceStore
from raychat.client.tls import server_url, session
from raychat.clock import Clock, wall_ms
from raychat.errors import BadRequest, NotFound, RaychatError, StoreError, Timeout, Unavailable
from raychat.ids import AccountId, PhoneNumber
from raychat.wire import content

log = logging.getLogger("raychat.client")

Peer = str | PhoneNumber | AccountId | Conversation
"""A phone number, an account (16 bytes or its UUID as text), or a conversation."""

CLOSE_SECONDS: Final = 3
REFILL_DELAY_SECONDS: Final = (5.0, 60.0)
REFILL_CHECK_SECONDS: Final = 6 * 3600
REFILL_CHECK_USES: Final = 20


class Client:
    """One device. Open it with `async with`; only one process may have it open at a time."""

    def __init__(
        self,
        profile: str | None = None,
        *,
        home: Path | None = None,
        server: str | None = None,
        passphrase: str | None = None,
        clock: Clock = wall_ms,
    ) -> None:
        """`server` overrides the one the device was registered at."""
        self._directory = keyfile.directory(profile, home)
        self._server = server
        self._passphrase = passphrase
        self._clock = clock
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()
        self._first_feed: Feed | None = None
        self._waiters: dict[int, list[tuple[State, asyncio.Future[None]]]] = {}
        self._online = asyncio.Event()
        self._disconnected = False
        self._open = False

    # -- opening and closing ---------------------------------------------------------------

    @classmethod
    async def register(
        cls,
        number: str,
        *,
        code: AskCode,
        server: str | None = None,
        profile: str | None = None,
        home: Path | None = None,
        passphrase: str | None = None,
    ) -> Self:
        """Register the profile as a device of `number`; the client returned is to be opened.

        `code` is asked for the code that came to the number. Raises what
        `registration.register` does.
        """
        url = server_url(server)
        await registration.register(
            number, code=code, server=url, profile=profile, home=home, passphrase=passphrase
        )
        return cls(profile, home=home, passphrase=passphrase)

    async def __aenter__(self) -> Self:
        """Open the device's file and start connecting; does not wait for the connection.

        Raises NotRegistered, StoreInUse, StoreLocked, StoreTooNew, StoreError.
        """
        self._store = DeviceStore(self._directory, self._passphrase)
        try:
            self._own = self._store.own()
            url = server_url(self._server or self._own.server)
            self._session: aiohttp.ClientSession = session()
        except BaseException:
            self._store.close()
            raise
        self._first_feed = Feed()
        self._feeds.add(self._first_feed)
        self._driver = Driver(self._store, self._session, url, self._clock, self._tell)
        self._keeping = asyncio.create_task(self._keep_keys())
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(CLOSE_SECONDS if kind is None else 0)

    async def close(self, linger: float = CLOSE_SECONDS) -> None:
        """Close, after up to `linger` seconds in which what was sent may reach the server.

        What does not is sent when the device is opened the next time.
        """
        if not self._open:
            return
        self._open = False
        try:
            if linger > 0:
                await self.flush(linger)
        finally:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            await self._driver.close()
            await self._session.close()
            self._store.close()
            for feed in self._feeds:
                feed.close()
            for waiting in self._waiters.values():
                for _, future in waiting:
                    future.cancel()

    # -- what a program does with it -------------------------------------------------------

    @property
    def account(self) -> AccountId:
        return self._own.account

    @property
    def number(self) -> PhoneNumber:
        return self._own.number

    @property
    def stopped(self) -> RaychatError | None:
        """Why the client does not connect any more, if so."""
        return self._driver.stopped

    @property
    def is_connected(self) -> bool:
        return self._online.is_set() and self.stopped is None

    async def connected(self, timeout: float | None = 30) -> None:
        """Wait (seconds) for a connection. Raises Timeout, or why there will be none."""
        if self.stopped is not None:
            raise self.stopped
        try:
            async with asyncio.timeout(timeout):
                await self._online.wait()
        except TimeoutError as error:
            raise self.stopped or Timeout("There was no connection in time.") from error
        if self.stopped is not None:
            raise self.stopped

    async def send(self, to: Peer, text: str) -> Message:
        """Send a text. Returns when it is kept in this device's file, connected or not.

        Raises BadNumber, TooLarge, Malformed (no text), StoreError.
        """
        peer = self._peer(to)
        if peer in (self._own.account, self._own.number):
            raise BadRequest("That is this device's own number.")
        body = content.encode(content.Text(self._clock(), text, self._own.number))
        ticket: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        await self._put(Compose(ticket, peer, text, body))
        return replace(await ticket, waiter=self.wait)

    async def mark_read(self, peer: Peer, upto: Message | None = None) -> int:
        """Mark what was received as read, and tell its sender. How many it was new for."""
        conversation = self.conversation(peer)
        if conversation is None:
            return 0
        ticket: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._put(MarkRead(ticket, conversation.id, upto.key if upto else None))
        return await ticket

    def events(self) -> Feed:
        """What happens, as it happens. The first call also gets what happened since opening."""
        feed, self._first_feed = self._first_feed, None
        if feed is None:
            feed = Feed()
            self._feeds.add(feed)
        return feed

    def history(
        self, peer: Peer | None = None, *, limit: int = 50, before: Message | None = None
    ) -> list[Message]:
        """The latest messages with a peer, or with all; the oldest of them first."""
        key = before.key if before else None
        if peer is None:
            return self._store.history.history(limit=limit, before=key)
        conversation = self.conversation(peer)
        if conversation is None:
            return []
        return self._store.history.history(conversation.id, limit=limit, before=key)

    def message(self, key: int) -> Message | None:
        """A message as it is now, by its key."""
        return self._store.history.message(key)

    def conversations(self) -> list[Conversation]:
        """All conversations, that with the latest message first."""
        return self._store.history.conversations()

    def conversation(self, peer: Peer) -> Conversation | None:
        """The conversation with a peer, if there is one. Raises BadNumber."""
        return self._store.history.conversation_with(self._peer(peer))

    def unread(self, peer: Peer) -> int:
        """How many messages of a peer have not been read."""
        conversation = self.conversation(peer)
        return self._store.history.unread(conversation.id) if conversation else 0

    def unread_messages(self, peer: Peer, *, limit: int = 50) -> list[Message]:
        """The messages of a peer that have not been read, oldest first."""
        conversation = self.conversation(peer)
        if conversation is None:
            return []
        return self._store.history.unread_messages(conversation.id, limit)

    async def wait(
        self, message: Message, state: State = State.SENT, timeout: float | None = 30
    ) -> Message:
        """Wait (seconds) until a message of this device has come so far.

        Raises Timeout, or why it will not come so far.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(message.key, [])
        waiting.append((state, future))
        try:
            now = self._store.history.message(message.key)
            if now is None or now.state is State.FAILED:
                raise NotFound("That message was given up.")
            if now.state < state:
                async with asyncio.timeout(timeout):
                    await future
        except TimeoutError as error:
            raise Timeout(f"The message has not come as far as {state.name} yet.") from error
        finally:
            waiting.remove((state, future))
            if not waiting:
                self._waiters.pop(message.key, None)
        found = self._store.history.message(message.key)
        assert found is not None
        return replace(found, waiter=self.wait)

    async def flush(self, timeout: float) -> bool:
        """Wait (seconds) until the server has all that was sent. False if it has not.

        Returns at once when there is no connection and the last attempt has failed.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._store.outbox.owing():
                    if self.stopped is not None or (self._disconnected and not self.is_connected):
                        return False
                    self._driver.turned.clear()
                    await self._driver.turned.wait()
        except TimeoutError:
            return False
        return True

    def _peer(self, peer: Peer) -> PhoneNumber | AccountId:
        if isinstance(peer, Conversation):
            if peer.account is not None:
                return peer.account
            assert peer.number is not None
            return peer.number
        if isinstance(peer, bytes):
            return peer
        return recipient(peer)

    async def _put(self, item: Input) -> None:
        if not self._open:
            raise StoreError("This client is closed.")
        await self._driver.put(item)

    # -- what happens ----------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        match event:
            case Connected():
                self._online.set()
            case Disconnected():
                self._disconnected = True
                self._online.clear()
            case Sent() | Delivered() | Read():
                self._reached(event.key, STATES[type(event)], None)
            case Failed():
                self._reached(event.key, State.READ, event.error)
            case Expired():
                gone = Unavailable("The message was never fetched, and has expired.")
                self._reached(event.key, State.EXPIRED, None)
                self._reached(event.key, State.READ, gone)
        for feed in self._feeds:
            feed.put(event)
        if isinstance(event, Stopped):
            self._online.set()  # whoever waits for a connection learns that none will come
            for feed in self._feeds:
                feed.close()

    def _reached(self, key: int, state: State, error: RaychatError | None) -> None:
        for wanted, future in self._waiters.get(key, ()):
            if wanted <= state and not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(None)

    # -- keys ------------------------------------------------------------------------------

    async def _keep_keys(self) -> None:
        """Refill one-time keys: after connecting, when many were used, and now and then.

        The delay is random, so that a refill does not tell when a session was started.
        """
        while True:
            await self._online.wait()
            await asyncio.sleep(random.uniform(*REFILL_DELAY_SECONDS))  # noqa: S311 (jitter)
            try:
                await self.refill_keys()
            except RaychatError as error:
                log.info("keys were not refilled: %s", error.code)
            used = self._driver.engine.key_messages
            for _ in range(REFILL_CHECK_SECONDS // 60):
                await asyncio.sleep(60)
                if self._driver.engine.key_messages - used >= REFILL_CHECK_USES:
                    break

    async def refill_keys(self) -> None:
        """Publish new one-time keys of each kind of which too few are left."""
        counts = await self._driver.api.key_counts(self._driver.caller)
        wanted = [limits.PRE_KEY_UPLOAD if left < limits.PRE_KEY_REFILL else 0 for left in counts]
        if not any(wanted):
            return
        keys = self._store.keys
        with self._store.transaction():
            fill(keys, self._clock(), *wanted)
            pre_keys, kyber = keys.unpublished(limits.PRE_KEY_UPLOAD)
        pre_keys, kyber = pre_keys[: wanted[0]], kyber[: wanted[1]]
        await self._driver.api.put_keys(
            self._driver.caller, publication(None, None, None, pre_keys, kyber)
        )
        with self._store.transaction():
            keys.published(pre_keys, kyber)


STATES: Final[dict[type[Event], State]] = {
    Sent: State.SENT,
    Delivered: State.DELIVERED,
    Read: State.READ,
}
