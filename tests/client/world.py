"""A world in memory and virtual time: devices with real files and crypto, and a model server.

Nothing moves by itself: a test says which bytes arrive, which connection breaks, which device
crashes, is linked or revoked.
"""

from __future__ import annotations

import shutil
from collections import deque
from pathlib import Path

from raychat.client.engine import Engine
from raychat.client.events import Event
from raychat.client.http import Registered
from raychat.client.linking import invite, join, own_entry
from raychat.client.model import Message
from raychat.client.registration import first_list
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
    Opened,
    PublishBlocks,
    PublishList,
    Reconnect,
    Stop,
    Tell,
    Tick,
    Transmit,
    WantAccount,
    WantDevices,
    WantKeys,
)
from raychat.client.store import DeviceStore
from raychat.crypto import KeyPair, PreKeyBundle
from raychat.crypto.device_list import device_signature
from raychat.crypto.linking import LinkRequest, Provision
from raychat.errors import ListStale, NotFound, RaychatError, Unavailable
from raychat.ids import AccountId, DeviceId, PhoneNumber
from raychat.wire import content, frames
from raychat.wire.content import Content, Setting, Value
from tests.client.model import NOW, ONE, ServedDevice, ServedUser, Server

__all__ = ["NOW", "ONE", "Device", "ServedUser", "Server", "World"]


class Device:
    """A device: its file, its engine, its connection and what its user has been told."""

    def __init__(self, world: World, home: Path, number: str, primary: Device | None) -> None:
        self.world = world
        self.home = home
        self.number = PhoneNumber(number)
        self.store = DeviceStore(home)
        self.events: list[Event] = []
        self.stopped: RaychatError | None = None
        self.calls: deque[Effect] = deque()
        self.outgoing: deque[bytes] = deque()
        self.incoming: deque[bytes] | None = None
        self.answers: dict[object, object] = {}
        self.tickets = 0
        if primary is None:
            self.register()
        else:
            self.link_to(primary)
        self.engine = Engine(self.store, lambda: 1.0)

    @property
    def user(self) -> ServedUser:
        return self.world.server.users[self.account]

    @property
    def box(self) -> ServedDevice:
        """What the server has of this device. Raises KeyError once it is removed."""
        return self.user.devices[self.device]

    @property
    def is_there(self) -> bool:
        """Whether the server has this very device."""
        known = self.user.devices.get(self.device)
        return known is not None and known.token == self.store.own().token

    # -- how it comes to be ----------------------------------------------------------------

    def register(self) -> None:
        """As the primary of its number; every other device of the account is removed."""
        server = self.world.server
        user = server.user(self.number)
        store = self.store
        with store.transaction():
            store.prepare(self.number, "http://server")
            listed = first_list(store, user.account, user.signed, server.now)
            served = server.register(user, ONE, listed)
            self._keep(user.account, served)
            store.lists.take(user.account, listed, server.now)

    def link_to(self, primary: Device, *, history: bool = True, delay: int = 1) -> None:
        """As another device of the account of `primary`."""
        self.join(primary, self.invited_by(primary, history=history, delay=delay))

    def invited_by(self, primary: Device, *, history: bool = True, delay: int = 1) -> Provision:
        """The primary signs a list with this device in it; nobody else has it yet."""
        with self.store.transaction():
            self.store.prepare(None, "http://server")
        identity = self.store.keys.identity_key_pair()
        now = self.world.server.now
        request = LinkRequest(KeyPair.generate().public, identity.public, "new", "test", now)
        _, provision = invite(primary.store, request, now, history=history, delay=delay)
        return provision

    def join(self, primary: Device, provision: Provision) -> None:
        """Register with the list the primary has signed."""
        server, store = self.world.server, self.store
        identity = store.keys.identity_key_pair()
        listed, entry = own_entry(provision, identity)
        user = server.users[listed.account]
        served = server.register(user, entry.device, provision.list)
        served.signature = device_signature(
            identity, listed.account, listed.account_key, entry.device
        )
        with store.transaction():
            self._keep(listed.account, served, provision)
        primary.engine.turn([Tick()], server.now)

    def _keep(
        self, account: AccountId, served: ServedDevice, provision: Provision | None = None
    ) -> None:
        self.account, self.device = account, served.device
        keys = self.store.keys
        made = keys.make_long_keys(NOW)
        registered = Registered(account, served.device, served.incarnation, served.token)
        if provision is None:
            self.store.register(*registered)
        else:
            join(self.store, provision, registered, self.world.server.now)
        served.bundle = PreKeyBundle(
            keys.registration_id(),
            keys.identity_key_pair().public,
            made.signed_pre_key.key_id,
            made.signed_pre_key.public,
            made.signed_pre_key.signature,
            made.last_resort.key_id,
            made.last_resort.public,
            made.last_resort.signature,
        )

    def revoke(self, other: Device) -> None:
        """The primary takes another device out of the account."""
        store, server = self.store, self.world.server
        listed = store.lists.current(self.account)
        assert listed is not None
        with store.transaction():
            identity = store.keys.identity_key_pair()
            signed = store.lists.sign(listed.without(other.device, server.now), identity)
        server.put_list(self.user, signed)
        with store.transaction():
            store.lists.take(self.account, signed, server.now, listed.account_key)

    # -- what its user does ----------------------------------------------------------------

    def turn(self, *inputs: Input) -> list[Effect]:
        effects = self.engine.turn(inputs, self.world.server.now)
        self.perform(effects)
        return effects

    def say(self, to: Device | str, text: str) -> Message:
        claim = PhoneNumber(self.number)
        message = self.tell(to, content.Text(self.world.server.now, text, claim))
        assert isinstance(message, Message)
        return message

    def tell(self, to: Device | str, said: Content) -> object:
        """Say any content; the message it is shown as, None, or the error."""
        number = to if isinstance(to, str) else to.number
        self.tickets += 1
        self.turn(Compose(self.tickets, PhoneNumber(number), said))
        return self.answers[self.tickets]

    def choose(self, peer: Device | None, name: str, value: Value) -> None:
        account = None if peer is None else peer.account
        self.turn(Choose(0, [Setting(account, name, value)]))

    def accept(self, peer: Device) -> None:
        self.choose(peer, "accepted", True)

    def read(self, peer: Device) -> None:
        conversation = self.store.history.conversation_with(peer.account)
        if conversation is not None:
            self.turn(MarkRead(0, conversation.id, None))

    def history(self) -> list[Message]:
        return self.store.history.history(limit=10_000)

    def texts(self, *, outgoing: bool) -> list[str | None]:
        return [m.text for m in self.history() if m.outgoing is outgoing]

    # -- effects and the connection --------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Greet(frame) | Transmit(frame):
                    if self.incoming is not None:
                        self.outgoing.append(frame)
                case Tell(event):
                    self.events.append(event)
                case Answer(ticket, result):
                    self.answers[ticket] = result
                case WantAccount() | WantKeys() | WantDevices() | PublishList() | PublishBlocks():
                    if effect not in self.calls:
                        self.calls.append(effect)
                case Reconnect():
                    self.disconnect()
                case Stop(error):
                    self.stopped = error

    def connect(self) -> None:
        if self.incoming is None and self.stopped is None:
            self.incoming = deque()
            self.turn(Opened())

    def disconnect(self, close: int | None = None) -> None:
        """The connection breaks; what is under way in both directions is lost."""
        if self.incoming is None:
            return
        self._cut()
        self.turn(Lost(close, Unavailable()))

    def crash(self) -> None:
        """The process dies; only the file is left."""
        self._end()
        self._begin()

    def go_back(self, copy: Path) -> None:
        """The file is replaced by an older copy of it."""
        self._end()
        shutil.rmtree(self.home)
        shutil.copytree(copy, self.home)
        self._begin()

    def begin_anew(self) -> None:
        """The app is installed anew, with an empty file, and registers its number."""
        self._end()
        shutil.rmtree(self.home)
        self.store = DeviceStore(self.home)
        self.stopped = None
        self.register()
        self.engine = Engine(self.store, lambda: 1.0)

    def restart(self) -> None:
        """A new engine over the same file, after something else has changed that."""
        self.stopped = None
        self.engine = Engine(self.store, lambda: 1.0)

    def _cut(self) -> None:
        user = self.world.server.users.get(self.account)
        for served in user.devices.values() if user else ():
            if served.out is not None and served.out is self.incoming:
                served.out = None
        self.incoming = None
        self.outgoing.clear()

    def _end(self) -> None:
        self._cut()
        self.calls.clear()
        self.store.close()

    def _begin(self) -> None:
        self.store = DeviceStore(self.home)
        self.engine = Engine(self.store, lambda: 1.0)

    # -- steps -----------------------------------------------------------------------------

    def to_server(self, most: int = 1_000) -> bool:
        """Let what the device has sent arrive, frame by frame."""
        moved = False
        while self.outgoing and most:
            most -= 1
            moved = True
            for raw in frames.split(self.outgoing.popleft()):
                if raw[0] == 1:
                    hello = frames.to_server(raw)
                    assert isinstance(hello, frames.Hello)
                    assert self.incoming is not None
                    self.world.server.hello(hello, self.incoming)
                else:
                    self.world.server.frame(self.account, self.device, raw)
        return moved

    def to_device(self, most: int = 1_000) -> bool:
        """Let what the server has sent arrive, as one WebSocket message."""
        if not self.incoming:
            return False
        count = min(most, len(self.incoming))
        data = b"".join(self.incoming.popleft() for _ in range(count))
        self.turn(Arrived(list(frames.to_device(data))))
        if self.engine._goodbye is not None:
            self.disconnect()
        return True

    def call(self) -> bool:
        """Answer one call to the HTTP API."""
        if not self.calls:
            return False
        server, error = self.world.server, self.world.http_error
        match self.calls.popleft():
            case WantAccount(number):
                found = [u.account for u in server.users.values() if u.number == number]
                self.turn(
                    AccountFound(number, found[0])
                    if found
                    else AccountNotFound(number, error or NotFound())
                )
            case WantKeys(account, some):
                user = server.users.get(account)
                if user is None or error is not None:
                    self.turn(KeysNotFound(account, error if user and error else NotFound()))
                else:
                    found_bundles = self.world.bundles(account, some)
                    self.turn(KeysFound(account, self.world.list_of(user), found_bundles, some))
            case WantDevices(account):
                user = server.users.get(account)
                if user is None or error is not None:
                    self.turn(DevicesNotFound(account, error if user and error else NotFound()))
                else:
                    there = [(DeviceId(n), i) for n, i in user.addressed(None).items()]
                    self.turn(DevicesFound(account, self.world.list_of(user), there))
            case PublishList(listed) if error is None and self.is_there:
                try:
                    server.put_list(self.user, listed)
                except ListStale:
                    return True
            case PublishBlocks(accounts) if error is None and self.is_there:
                self.user.blocked = accounts
                self.turn(BlocksKept(accounts))
        return True


class World:
    """A server and its devices."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = Server()
        self.devices: list[Device] = []
        self.http_error: RaychatError | None = None
        self.lists: dict[AccountId, bytes | None] = {}
        """Lists the server lies with, by account."""

    def device(self, number: str) -> Device:
        return self._add(Device(self, self.home / number, number, None))

    def link(self, primary: Device) -> Device:
        """Another device of the primary's account."""
        home = self.home / f"{primary.number}-{len(self.devices)}"
        return self._add(Device(self, home, primary.number, primary))

    def _add(self, device: Device) -> Device:
        self.devices.append(device)
        return device

    def list_of(self, user: ServedUser) -> bytes | None:
        return self.lists.get(user.account, user.signed)

    def bundles(self, account: AccountId, some: tuple[DeviceId, ...] | None) -> list[object]:
        return list(self.server.bundles(account, some))

    def settle(self) -> None:
        """Connect everyone and let everything arrive, until nothing moves any more."""
        for _ in range(4_000):
            moved = False
            for device in self.devices:
                device.connect()
                moved |= device.to_server() | device.to_device() | device.call()
            if moved:
                continue
            deadlines = [d for device in self.devices if (d := device.engine.deadline())]
            if not deadlines:
                return
            self.server.now = max(self.server.now, min(deadlines))
            for device in self.devices:
                device.turn(Tick())
        raise AssertionError("the world does not come to rest")

    def close(self) -> None:
        for device in self.devices:
            device.store.close()
