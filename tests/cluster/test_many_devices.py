"""The road of `test_road` with two devices on each side, which come and go under the traffic.

Every device writes to the friend's account and to its own. A second device is removed and linked
anew at any moment, and hosts die around every step of that. Whatever happens: a device shows what
another one wrote in order, once, and from the first message on without a gap; a ✓✓ is never early;
a removed device is cut off; and once all is healed every device that is there has everything, with
its marks, and knows those of its sibling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from raychat import limits
from raychat.gateway.session import Session, State
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId, Secret
from raychat.store.protocol import Writes
from raychat.users.events import ListRecord, NewList, PutDevice, PutList, Register
from raychat.users.ranges import Ranges
from raychat.wire import frames
from raychat.wire.frames import Part
from tests.cluster.road import ACCOUNTS, HOSTS, LAYOUT, NAMES, Traffic, names, run

NUMBERS = (DeviceId(1), DeviceId(2))
NAME_OF = {account: name for name, account in ACCOUNTS.items()}
Source = tuple[AccountId, int, int]
"""A device that sends: account, number, incarnation."""


def listed(version: int, *numbers: int) -> ListRecord:
    return ListRecord(version, b"key", [DeviceId(n) for n in numbers], b"list %d" % version)


class Lane:
    """What one device writes to one account."""

    def __init__(self, parts: dict[int, int]) -> None:
        self.written: list[bytes] = []
        self.packed: dict[int, bytes] = {}
        """Each message as it was first sent: it is repeated with the same bytes."""
        self.sent = self.offered = 0
        self.parts = parts
        """The devices it is addressed to, as far as this one knows."""


class Device:
    """A client by the letter of PROTOCOL.md."""

    def __init__(self, name: str, number: int, incarnation: int, token: Secret) -> None:
        self.account = ACCOUNTS[name]
        self.number, self.incarnation, self.token = number, incarnation, token
        friend = ACCOUNTS[NAMES[1 - NAMES.index(name)]]
        sibling = 3 - number
        self.lanes = {friend: Lane({1: 1}), self.account: Lane({sibling: 1})}
        self.marks: dict[tuple[int, int, AccountId], Ranges] = {}
        self.shown: dict[Source, list[int]] = {}
        self.seen = self.revision = 0
        self.fresh = True
        """It starts counting where the first welcome says."""
        self.cut_off = False
        self.session: Session | None = None
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.welcome = False

    def source(self) -> Source:
        return self.account, self.number, self.incarnation

    def lose_connection(self) -> None:
        self.session, self.welcome = None, False
        self.up.clear()
        self.down.clear()

    def hello(self) -> bytes:
        who = (1, self.account, DeviceId(self.number), self.token)
        return frames.pack_hello(frames.Hello(*who, InboxNumber(self.seen), [], self.revision))

    def send_on(self) -> None:
        for to, lane in self.lanes.items():
            last = min(len(lane.written), lane.sent + limits.ID_WINDOW)
            first = max(lane.offered, lane.sent) + 1
            lane.offered = max(lane.offered, last)
            for number in range(first, last + 1):
                if number not in lane.packed:
                    body = lane.written[number - 1]
                    parts = [Part(DeviceId(n), i, 2, body) for n, i in lane.parts.items()]
                    send = frames.Send(to, MessageId(number), parts)
                    lane.packed[number] = frames.pack_send(send)
                self.up.append(lane.packed[number])

    def take(self, data: bytes) -> bool:
        """One WebSocket message. False if the connection is over."""
        acked = self.seen
        for frame in frames.to_device(data):
            match frame:
                case frames.Welcome():
                    self.welcome = True
                    if self.fresh:
                        self.fresh, self.seen = False, frame.cursor
                        # Of a registration that was asked for twice the last one counts.
                        self.incarnation = frame.incarnation
                    assert frame.incarnation == self.incarnation
                    for lane in self.lanes.values():
                        lane.offered = 0
                    self.send_on()
                case frames.Sent(to, message, _):
                    lane = self.lanes[to]
                    lane.sent = max(lane.sent, message)
                    self.send_on()
                case frames.Refused():
                    self.refused(frame)
                case frames.Envelope():
                    if frame.number > self.seen:
                        assert frame.number == self.seen + 1, "a gap in the inbox"
                        self.seen = frame.number
                        source = (frame.sender, frame.device, frame.incarnation)
                        self.shown.setdefault(source, []).append(frame.id)
                case frames.Receipt(revision, peer, _, ranges, device, incarnation):
                    self.revision = max(self.revision, revision)
                    marks = self.marks.setdefault((device, incarnation, peer), Ranges())
                    for lo, hi in zip(ranges[::2], ranges[1::2], strict=True):
                        marks.add(lo, hi)
                case frames.Goodbye():
                    return False
        if self.seen > acked:
            self.up.append(frames.pack_ack(self.seen))
        return True

    def refused(self, frame: frames.Refused) -> None:
        lane = self.lanes[frame.to]
        if frame.code == "id-gap":
            return
        assert frame.code == "device-list", frame.code
        if frame.id != lane.sent + 1:
            return  # of a connection before, and settled since
        lane.parts = dict(frame.devices)
        lane.packed = {n: packed for n, packed in lane.packed.items() if n < frame.id}
        if not lane.parts:
            lane.written = lane.written[: lane.sent]  # nobody there to write to: given up
        lane.offered = min(lane.offered, frame.id - 1)
        self.send_on()


class Account:
    """What a person wants of their devices, and asks for until it is answered."""

    def __init__(self, name: str) -> None:
        self.account = ACCOUNTS[name]
        self.version = 1
        self.wanted: str | None = None
        self.token = Secret(b"")
        self.tokens = 0


numbers = st.sampled_from(NUMBERS)


class ManyDevices(Traffic):
    @initialize()
    def build(self) -> None:
        self.begin()
        self.accounts = {name: Account(name) for name in NAMES}
        self.devices: dict[tuple[str, int], Device] = {}
        self.gone: list[Device] = []
        for name, account in ACCOUNTS.items():
            writes = Writes()
            for number in NUMBERS:
                token = Secret(sha256(f"{name} {number}".encode()).digest())
                writes.add(PutDevice(account, number, 1, sha256(token).digest()))
                self.devices[name, number] = Device(name, number, 1, token)
            writes.add(PutList(account, 1, b"key", listed(1, 1, 2).data))
            run(self.hosts[LAYOUT.host_of(account)].store.commit(writes))
        for name, number in list(self.devices):
            self.connect(name, number)
        self.flow(3)

    def everyone(self) -> Sequence[Device]:
        return [*self.devices.values(), *self.gone]

    # -- what can happen -------------------------------------------------------------------

    @rule(name=names, number=numbers, to=names, count=st.integers(1, 3))
    def write(self, name: str, number: int, to: str, count: int) -> None:
        device = self.devices.get((name, number))
        if device is None:
            return
        lane = device.lanes[ACCOUNTS[to]]
        if name == to and (name, 3 - number) not in self.devices:
            return
        lane.written += [b"%d" % n for n in range(count)]
        if device.welcome:
            device.send_on()

    @rule(name=names, number=numbers)
    def connect(self, name: str, number: int) -> None:
        device = self.devices.get((name, number))
        if device is not None:
            self.open(device)

    @rule(name=names, number=numbers)
    def hang_up(self, name: str, number: int) -> None:
        device = self.devices.get((name, number))
        if device is not None:
            self.cut(device)

    @rule(name=names)
    def change(self, name: str) -> None:
        """The second device is to be removed if it is there, else to be linked."""
        account = self.accounts[name]
        if account.wanted is None:
            account.version += 1
            account.wanted = "remove" if (name, 2) in self.devices else "link"
            account.tokens += 1
            account.token = Secret(sha256(f"{name} new {account.tokens}".encode()).digest())
        self.ask(name)

    def ask(self, name: str) -> None:
        """Ask for it, perhaps again: the answer may have been lost."""
        account = self.accounts[name]
        host = self.host(account.account)
        wanted, version = account.wanted, account.version

        def answered(result: Any) -> None:
            if account.wanted != wanted or account.version != version:
                return
            account.wanted = None
            if wanted == "remove":
                assert result is None, result
                self.removed(name)
            else:
                assert type(result) is int, result
                self.devices[name, 2] = Device(name, 2, result, account.token)
                self.devices[name, 2].lanes[account.account].parts = {1: 1}

        if wanted == "remove":
            host.host.turns.add(NewList(account.account, listed(version, 1), answered))
        elif wanted == "link":
            token_hash = sha256(account.token).digest()
            record = listed(version, 1, 2)
            entry = (account.account, DeviceId(2), token_hash, record, None)
            box = host.store.next_box()
            host.host.turns.add(Register(*entry, box, answered))

    def removed(self, name: str) -> None:
        device = self.devices.pop((name, 2), None)
        if device is not None:
            device.cut_off = True
            self.gone.append(device)

    @rule(name=names, number=numbers)
    def up(self, name: str, number: int) -> None:
        device = self.devices.get((name, number))
        if device is not None:
            self.reach(device)

    @rule(name=names, crash=st.sampled_from(["before", "after"]), left=st.booleans())
    def die_of_a_change(self, name: str, crash: str, left: bool) -> None:
        self.change(name)
        self.turn(LAYOUT.host_of(ACCOUNTS[name]), crash, left)

    @rule(name=names, number=numbers)
    def down(self, name: str, number: int) -> None:
        device = self.devices.get((name, number))
        if device is not None and device.down and not device.take(device.down.popleft()):
            self.hang_up(name, number)

    @rule(rounds=st.integers(1, 2))
    def flow(self, rounds: int) -> None:
        """All goes well for a while."""
        for _ in range(rounds):
            for device in list(self.devices.values()):
                while device.up and device.session is not None:
                    self.reach(device)
            for name in HOSTS:
                self.turn(name, None)
                self.from_host(name, 1_000)
            for name, number in list(self.devices):
                while (name, number) in self.devices and self.devices[name, number].down:
                    self.down(name, number)

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def what_is_shown_is_what_was_written_once_and_in_order(self) -> None:
        for device in self.everyone():
            for source, ids in device.shown.items():
                assert ids == list(range(ids[0], ids[0] + len(ids)))
                writer = self.writer(source)
                if writer is not None:
                    assert ids[-1] <= len(writer.lanes[device.account].written)

    def writer(self, source: Source) -> Device | None:
        every = self.everyone()
        return next((device for device in every if device.source() == source), None)

    @invariant()
    def a_mark_is_never_early(self) -> None:
        every = self.everyone()
        for device in every:
            for (number, incarnation, peer), marks in device.marks.items():
                shown = {
                    message
                    for other in every
                    if other.account == peer
                    for message in other.shown.get((device.account, number, incarnation), ())
                }
                assert all(set(range(lo, hi + 1)) <= shown for lo, hi in marks)

    def heal(self) -> None:
        """What is wanted is done, everybody connects, everything on its way arrives."""
        for _ in range(80):
            for name, account in self.accounts.items():
                if account.wanted is not None:
                    self.ask(name)
            for device in self.devices.values():
                if device.session is None:
                    self.open(device)
                elif device.welcome:
                    device.send_on()
            self.flow(1)
            if self.settled():
                break
        assert not any(account.wanted for account in self.accounts.values())
        for device in self.devices.values():
            for to, lane in device.lanes.items():
                assert lane.sent == len(lane.written), "no ✓"
                self.check_arrived(device, to, lane)
        for host in self.hosts.values():
            assert run(host.store.owed(0, 99)) == []
            assert run(host.store.depth())[0] == 0
        self.check_cut_off()

    def check_arrived(self, device: Device, to: AccountId, lane: Lane) -> None:
        for (name, number), other in self.devices.items():
            if ACCOUNTS[name] != to or other is device:
                continue
            ids = other.shown.get(device.source(), [])
            if number == 1 and to != device.account:
                assert ids == list(range(1, lane.sent + 1)), "a device misses something"
            elif ids:
                assert ids[-1] == lane.sent, "a device misses the last"
        if to != device.account and lane.sent:
            for (name, _), sibling in self.devices.items():
                if ACCOUNTS[name] == device.account:
                    marks = sibling.marks.get((device.number, device.incarnation, to))
                    assert marks is not None
                    assert marks.flat == [1, lane.sent], "no ✓✓"

    def check_cut_off(self) -> None:
        """Nobody lets a removed device in, nor is it connected still."""
        for device in self.gone:
            assert device.session is None or device.session.state is not State.ADMITTED
            self.open(device)
            self.reach(device)
            for _ in range(3):
                self.flow(1)
            assert device.session is None
            assert not device.welcome

    def settled(self) -> bool:
        return (
            not any(account.wanted for account in self.accounts.values())
            and all(
                device.welcome
                and not device.up
                and not device.down
                and all(lane.sent == len(lane.written) for lane in device.lanes.values())
                for device in self.devices.values()
            )
            and self.is_quiet()
            and not any(host.host.turns.waiting for host in self.hosts.values())
        )


ManyDevices.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestManyDevices = ManyDevices.TestCase
