"""Several devices of two people in virtual time, whatever happens on the way.

Devices are linked and revoked in the middle of traffic, connections break, processes die, whole
sessions are lost, and the server invents devices and rolls lists back. At every moment no device
shows anything twice, and nothing was ever encrypted for a device that its account has not signed.
When all is healed, every device that was linked when something was said shows it, once, with the
same marks as the others.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raychat.client.model import State
from raychat.errors import DeviceList, RaychatError, Unavailable
from tests.client.world import Device, World

GHOST = 99
which = st.integers(0, 7)
few = st.integers(1, 40)


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="raychat-test-"))
        self.world = World(self.folder)
        self.said: dict[str, tuple[Device, list[Device]]] = {}
        """By each text: the device that said it, and the others of its account then."""
        self.gone: list[Device] = []
        self.forgetful: list[Device] = []
        """Devices that have lost sessions."""
        self.first: dict[Device, set[str]] = {}
        """What each linked device is to get of the time before it."""

    # -- the world -------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        alice, bob = (self.world.device(f"+1555000{n}111") for n in (1, 2))
        self.primaries = [alice, bob]
        for one, other in (self.primaries, self.primaries[::-1]):
            one.accept(other)
            self.say_it(one, other)
        self.world.settle()

    @property
    def there(self) -> list[Device]:
        return [device for device in self.world.devices if device not in self.gone]

    def of(self, primary: Device) -> list[Device]:
        return [device for device in self.there if device.account == primary.account]

    def device(self, place: int) -> Device:
        return self.there[place % len(self.there)]

    def peer(self, device: Device) -> Device:
        alice, bob = self.primaries
        return bob if device.account == alice.account else alice

    def say_it(self, device: Device, to: Device) -> None:
        text = f"message {len(self.said) + 1}"
        self.said[text] = (device, [d for d in self.of(device) if d is not device])
        device.say(to, text)

    # -- what happens ----------------------------------------------------------------------

    @rule(place=which, count=st.integers(1, 4))
    def say(self, place: int, count: int) -> None:
        device = self.device(place)
        for _ in range(count):
            self.say_it(device, self.peer(device))

    @rule(place=which)
    def read(self, place: int) -> None:
        device = self.device(place)
        device.read(self.peer(device))

    @rule(place=which)
    def connect(self, place: int) -> None:
        self.device(place).connect()

    @rule(place=which, count=few)
    def to_server(self, place: int, count: int) -> None:
        self.device(place).to_server(count)

    @rule(place=which, count=few)
    def to_device(self, place: int, count: int) -> None:
        self.device(place).to_device(count)

    @rule(place=which)
    def call(self, place: int) -> None:
        self.device(place).call()

    @rule(place=which)
    def under_way(self, place: int) -> None:
        """The server has taken what was sent, and its answer is still to come."""
        self.say(place, 2)
        device = self.device(place)
        for _ in range(3):
            device.connect()
            device.to_server()
            device.to_device()
            device.call()
        device.to_server()

    @rule(place=which)
    def disconnect(self, place: int) -> None:
        self.device(place).disconnect()

    @rule(place=which)
    def die(self, place: int) -> None:
        self.device(place).crash()

    @rule(error=st.sampled_from([Unavailable(), DeviceList()]))
    def refuse(self, error: RaychatError) -> None:
        self.world.server.refusals.append(error)

    @rule(error=st.sampled_from([None, Unavailable()]))
    def break_calls(self, error: RaychatError | None) -> None:
        self.world.http_error = error

    @precondition(lambda self: len(self.there) < 6)
    @rule(side=st.integers(0, 1))
    def link(self, side: int) -> None:
        primary = self.primaries[side]
        if not primary.is_there or primary.user.version != self.known(primary):
            return
        before = {m.text for m in primary.history() if not m.outgoing or m.state >= State.SENT}
        device = self.world.link(primary)
        self.first[device] = {text for text in before if text is not None}

    def known(self, primary: Device) -> int:
        return primary.store.lists.version(primary.account)

    @precondition(lambda self: len(self.there) > 2)
    @rule(place=which, by_itself=st.booleans())
    def remove(self, place: int, by_itself: bool) -> None:
        linked = [device for device in self.there if device not in self.primaries]
        device = linked[place % len(linked)]
        (primary,) = [p for p in self.primaries if p.account == device.account]
        if by_itself:
            self.world.server.leave(device.user, device.device)
        elif self.known(primary) == primary.user.version and set(
            primary.user.listed.numbers()
        ) == set(primary.user.devices):
            primary.revoke(device)
        else:
            return
        self.gone.append(device)

    @rule(place=which, theirs=st.booleans())
    def lose_sessions(self, place: int, theirs: bool) -> None:
        """What a device knows of its sessions with one account is gone."""
        device = self.device(place)
        account = self.peer(device).account if theirs else device.account
        device._cut()
        with device.store.transaction():
            device.store.connection.execute("DELETE FROM session WHERE account = ?", (account,))
        device.crash()
        self.forgetful.append(device)

    @rule(side=st.integers(0, 1))
    def invent_a_device(self, side: int) -> None:
        self.primaries[side].user.ghosts[GHOST] = 1

    @rule(side=st.integers(0, 1))
    def roll_a_list_back(self, side: int) -> None:
        user = self.primaries[side].user
        self.world.lists.setdefault(user.account, user.signed)

    @rule(side=st.integers(0, 1))
    def hide_a_list(self, side: int) -> None:
        self.world.lists[self.primaries[side].account] = None

    @rule()
    def heal(self) -> None:
        self.world.http_error = None
        self.world.lists.clear()
        for primary in self.primaries:
            primary.user.ghosts.clear()
        self.world.settle()
        self.is_complete()

    # -- what holds ------------------------------------------------------------------------

    @invariant()
    def nothing_is_shown_twice(self) -> None:
        for device in self.there:
            shown = Counter(m.text for m in device.history())
            assert max(shown.values(), default=1) == 1

    @invariant()
    def nothing_is_encrypted_for_a_ghost(self) -> None:
        for user in self.world.server.users.values():
            for taken in user.taken.values():
                assert all(GHOST not in addressed for addressed, _ in taken)

    def is_complete(self) -> None:
        there = self.there
        shown = {device: {m.text: m for m in device.history()} for device in there}
        for text, (sender, siblings) in self.said.items():
            if sender in self.gone:
                continue
            message = shown[sender][text]
            assert message.name is not None, f"{text} was not sent"
            for sibling in siblings:
                if sibling in there:
                    assert shown[sibling][text].outgoing
                    assert shown[sibling][text].state is message.state
            name = message.name
            taken = self.peer(sender).user.taken[sender.account, name.device, name.incarnation]
            addressed, _ = taken[name.id - 1]
            for device in there:
                if device.account == sender.account:
                    continue
                if addressed.get(device.device) == device.store.own().incarnation:
                    assert not shown[device][text].outgoing
        for device, texts in self.first.items():
            if device in there:
                missing = texts - shown[device].keys()
                assert not missing, f"{missing} did not come with the history"
        for device in there:
            assert device.store.outbox.owing() == []
            assert device.box.cursor == device.box.head

    def teardown(self) -> None:
        if hasattr(self, "primaries"):
            self.heal()
            self.nothing_is_shown_twice()
            self.nothing_is_encrypted_for_a_ghost()
        self.world.close()
        shutil.rmtree(self.folder)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
