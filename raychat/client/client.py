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
import weakref
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from raychat import limits
from raychat.client import choices, keyfile, registration, transfer, verifying
from raychat.client.account import OwnAccount
from raychat.client.account_api import AccountApi
from raychat.client.acting import Acting, Peer
from raychat.client.applying import Applier
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
from raychat.client.linking import Confirm, ShowCode, link_other_device, link_this_device
from raychat.client.model import Conversation, Message, State
from raychat.client.own_devices import OwnDevice, OwnDevices
from raychat.client.proving import AskChallenge, AskCode, AskPin
from raychat.client.rotation import KeyKeeper
from raychat.client.signals import (
    DevicesFound,
    Input,
    NewToken,
    Tick,
)
from raychat.client.store import DeviceStore
from raychat.client.tls import server_url, session
from raychat.client.transparency import LogWatch
from raychat.clock import Clock, wall_ms
from raychat.crypto import PublicKey
from raychat.crypto.fingerprint import SafetyNumber
from raychat.errors import NotFound, RaychatError, StoreError, Timeout, Unavailable
from raychat.ids import PRIMARY, AccountId, DeviceId, PhoneNumber

log = logging.getLogger("raychat.client")

CLOSE_SECONDS: Final = 3


class Client(Acting):
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
        pin: str | AskPin | None = None,
        challenge: AskChallenge | None = None,
        voice: bool = False,
    ) -> Self:
        """Register the profile as the primary device of `number`, and give a client to open.

        `code` is asked for the code that came to the number, `pin` and `challenge` are if they
        are needed. Raises what `registration.register` does.
        """
        url = server_url(server)
        await registration.register(
            number,
            code=code,
            server=url,
            profile=profile,
            home=home,
            passphrase=passphrase,
            pin=pin,
            challenge=challenge,
            voice=voice,
        )
        return cls(profile, home=home, passphrase=passphrase)

    @classmethod
    async def link_this(
        cls,
        *,
        show: ShowCode,
        name: str,
        platform: str,
        server: str | None = None,
        profile: str | None = None,
        home: Path | None = None,
        passphrase: str | None = None,
    ) -> Self:
        """Make the profile another device of an account; the client returned is to be opened.

        `show` shows the code that the primary is to read. Raises what
        `linking.link_this_device` does.
        """
        await link_this_device(
            show=show,
            name=name,
            platform=platform,
            server=server_url(server),
            profile=profile,
            home=home,
            passphrase=passphrase,
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
        self._own_account = OwnAccount(self._store, AccountApi(self._session, url))
        self._devices = OwnDevices(self._store, self._driver.api, self._clock)
        self._keeper = KeyKeeper(
            self._store, self._driver.api, lambda: self._driver.caller, self._clock
        )
        keeping = self._keeper.run(self._online, lambda: self._driver.engine.key_messages)
        self.log_watch = LogWatch(
            self._store,
            self._driver.api,
            lambda: self._driver.caller,
            self._clock,
            self._tell,
            self._repair_list,
        )
        renewing = self._devices.renew_token(self._online, self.rotate_token)
        self._upkeep = [
            asyncio.create_task(task)
            for task in (keeping, self.log_watch.run(self._online), renewing)
        ]
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
            for task in self._upkeep:
                task.cancel()
            await asyncio.gather(*self._upkeep, return_exceptions=True)
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

    # -- the account -----------------------------------------------------------------------

    async def is_locked(self) -> bool:
        """Whether registering this account's number anew takes a PIN."""
        return await self._own_account.has_lock()

    async def lock(self, pin: str) -> None:
        """Let registering the number anew take a PIN. Raises BadRequest, Denied."""
        await self._own_account.lock(pin)

    async def unlock(self) -> None:
        """Let registering the number take only a code again. Raises Denied."""
        await self._own_account.unlock()

    async def change_number(
        self,
        number: str,
        *,
        code: AskCode,
        pin: str | AskPin | None = None,
        challenge: AskChallenge | None = None,
        voice: bool = False,
    ) -> PhoneNumber:
        """Move the account to another number; see `OwnAccount.change_number`."""
        changed = await self._own_account.change_number(
            number, code, pin=pin, challenge=challenge, voice=voice
        )
        self._own = self._store.own()
        return changed

    async def delete_account(self, pin: str | AskPin | None = None) -> None:
        """Delete the account and all its devices at the server. Raises Locked, BadPin, Denied."""
        await self._own_account.delete(pin)

    # -- the account's devices -------------------------------------------------------------

    async def devices(self) -> list[OwnDevice]:
        """The devices of this account. Raises Unavailable, GhostDevice."""
        return await self._devices.fetch()

    def listed_devices(self) -> list[OwnDevice]:
        """The same as this device knows them, without asking the server."""
        return OwnDevice.known(self._store)

    async def link(
        self,
        code: str,
        confirm: Confirm,
        *,
        history: bool = True,
        delay: float = limits.TRANSFER_DELAY_SECONDS,
    ) -> DeviceId | None:
        """Let in the device that shows `code`; see `linking.link_other_device`."""
        api, caller = self._driver.api, self._driver.caller
        device = await link_other_device(
            self._store, api, caller, code, confirm, self._clock, history=history, delay=delay
        )
        await self._put(Tick())
        return device

    async def revoke(self, device: int) -> None:
        """Take a linked device out of the account, at once. Raises Denied, NotFound."""
        await self._devices.revoke(DeviceId(device))

    async def leave(self) -> None:
        """Take this linked device out of its account. Raises Denied for the primary."""
        await self._devices.leave()

    def is_history_moving(self, device: int) -> bool:
        """Whether history is still to move between this device and another one of the account."""
        return transfer.is_pending(self._store, DeviceId(device))

    async def rotate_token(self) -> None:
        """Get this device another token; the present one stops working with its first use."""
        token = await self._devices.new_token()
        await self._asked(lambda ticket: NewToken(ticket, token))

    def safety_number(self, peer: Peer) -> SafetyNumber:
        """What to compare with somebody. Raises NotFound if their key is not known yet."""
        return verifying.safety_number(self._store, self._account(peer))

    def is_verified(self, peer: Peer) -> bool:
        """Whether the key a peer has now is the one that was compared."""
        contact = self.conversation(peer)
        return contact is not None and verifying.is_verified(contact, self._store)

    async def set_verified(self, peer: Peer, same: bool) -> None:
        """Remember that the safety numbers were compared: whether they are the same."""
        key = self.account_key(peer)
        if key is None:
            raise NotFound("The keys of that contact are not here yet; write to them first.")
        await self.choose(peer, "verified", key.data if same else b"")

    def account_key(self, peer: Peer | None = None) -> PublicKey | None:
        """The key a safety number is of, by default one's own; None if it is not known yet."""
        account = self._own.account if peer is None else self._account(peer)
        return self._store.lists.account_key(account) if account is not None else None

    def open_once(self, message: Message) -> str | None:
        """What a message to be viewed once says; it is wiped with that. None if it is gone."""
        with self._store.transaction():
            said, events = Applier(self._store).open_once(message.key)
        self._store.scrub()
        for event in events:
            self._tell(event)
        return said.text if said is not None else None

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
            return self._store.history.history(limit=limit, before=key, now=self._clock())
        conversation = self.conversation(peer)
        if conversation is None:
            return []
        chosen = conversation.id
        return self._store.history.history(chosen, limit=limit, before=key, now=self._clock())

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
        """Wait (seconds) until the server has all that was sent or settled. False if it has not.

        Returns at once when there is no connection and the last attempt has failed.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._store.outbox.owing() or choices.are_owed(self._store):
                    if self.stopped is not None or (self._disconnected and not self.is_connected):
                        return False
                    self._driver.turned.clear()
                    await self._driver.turned.wait()
        except TimeoutError:
            return False
        return True

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

    async def refill_keys(self) -> None:
        """Publish new one-time keys of each kind of which too few are left."""
        await self._keeper.refill()

    async def _repair_list(self, account: AccountId) -> None:
        """The key log has another list of an account than this device: put the own one again,
        fetch that of another account."""
        api, caller = self._driver.api, self._driver.caller
        own = account == caller.account
        listed = self._store.lists.signed(account)
        if own and caller.device == PRIMARY and listed is not None:
            await api.put_list(caller, listed)
        else:
            found = await api.devices(caller, None if own else account)
            await self._driver.put(DevicesFound(account, found.signed, found.devices))


STATES: Final[dict[type[Event], State]] = {
    Sent: State.SENT,
    Delivered: State.DELIVERED,
    Read: State.READ,
}
