"""The delivery contract in virtual time, whatever happens on the way.

Two devices with real files and real crypto write to each other through the model server, while
connections break with bytes under way, processes die before or after a commit, and the server
refuses. At every moment each shows a beginning of what the other wrote, once and in order, and
no mark says more than is true or less than before. When all is healed, everything is there.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raychat.client.events import InboxGap, Undecryptable
from raychat.client.model import State
from raychat.client.signals import Arrived, Opened
from raychat.errors import DeviceList, InboxFull, RateLimited, RaychatError, TooLarge, Unavailable
from raychat.wire import frames
from tests.client.world import Device, World

who = st.integers(0, 1)
few = st.integers(1, 40)


class Died(Exception):
    """The process was killed."""


class Delivery(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="raychat-test-"))
        self.world = World(self.folder)
        self.said = 0
        self.marks: dict[tuple[int, int], State] = {}

    @initialize(know=st.booleans())
    def begin(self, know: bool) -> None:
        """If they know each other, what follows need not begin with looking up keys."""
        self.devices = [self.world.device(f"+1555000{n}111") for n in (1, 2)]
        for one, other in (self.devices, self.devices[::-1]):
            one.accept(other)
        if know:
            for who in (0, 1):
                self.say(who, 1)
                self.world.settle()

    @rule(who=who, count=st.integers(1, 6))
    def say(self, who: int, count: int) -> None:
        for _ in range(count):
            self.said += 1
            self.devices[who].say(self.devices[1 - who], f"message {self.said}")

    @rule(who=who, count=st.integers(30, 80))
    def say_more_than_a_window(self, who: int, count: int) -> None:
        self.say(who, count)

    @rule(who=who)
    def read(self, who: int) -> None:
        self.devices[who].read(self.devices[1 - who])

    @rule(who=who)
    def connect(self, who: int) -> None:
        self.devices[who].connect()

    @rule(who=who, count=few)
    def to_server(self, who: int, count: int) -> None:
        self.devices[who].to_server(count)

    @rule(who=who, count=few)
    def to_device(self, who: int, count: int) -> None:
        self.devices[who].to_device(count)

    @rule(who=who)
    def under_way(self, who: int) -> None:
        """The server has taken what was sent, and its answer is still to come."""
        self.say(who, 2)
        self.devices[who].connect()
        self.devices[who].to_server()
        self.devices[who].to_device()
        self.devices[who].to_server()

    @rule(who=who)
    def call(self, who: int) -> None:
        self.devices[who].call()

    @rule(who=who)
    def disconnect(self, who: int) -> None:
        self.devices[who].disconnect()

    @rule(who=who)
    def die(self, who: int) -> None:
        self.devices[who].crash()

    @rule(who=who, count=few, committed=st.booleans())
    def die_while_receiving(self, who: int, count: int, committed: bool) -> None:
        """After the commit nothing was acknowledged yet; before it, it is as if nothing came."""
        device = self.devices[who]
        if not device.incoming:
            return
        count = min(count, len(device.incoming))
        data = b"".join(device.incoming.popleft() for _ in range(count))
        self.last_turn(device, committed, Arrived(list(frames.to_device(data))))

    @rule(who=who, committed=st.booleans())
    def die_while_sending(self, who: int, committed: bool) -> None:
        """What was encrypted is in the file before it is sent, or was never encrypted."""
        device = self.devices[who]
        device.connect()
        device.to_server()
        self.last_turn(device, committed, Opened())

    def last_turn(self, device: Device, committed: bool, *inputs: Arrived | Opened) -> None:
        if not committed:

            def killed(now: int) -> list[object]:
                raise Died

            device.engine._pump = killed  # type: ignore[method-assign,assignment]
        with suppress(Died):
            device.engine.turn(inputs, self.world.server.now)
        device.crash()

    @rule(
        errors=st.lists(
            st.sampled_from([Unavailable(), RateLimited(), InboxFull(), DeviceList(), TooLarge()]),
            min_size=1,
            max_size=4,
        )
    )
    def refuse(self, errors: list[RaychatError]) -> None:
        self.world.server.refusals.extend(errors)

    @rule(error=st.sampled_from([None, Unavailable()]))
    def break_calls(self, error: RaychatError | None) -> None:
        self.world.http_error = error

    @precondition(lambda self: self.said > 0)
    @rule()
    def heal(self) -> None:
        self.world.http_error = None
        self.world.settle()
        self.is_complete()

    @invariant()
    def what_is_shown_is_a_beginning_of_what_was_said(self) -> None:
        for one, other in (self.devices, self.devices[::-1]):
            said = [m.text for m in one.history() if m.outgoing and m.state is not State.FAILED]
            shown = other.texts(outgoing=False)
            assert shown == said[: len(shown)]

    @invariant()
    def marks_are_true_and_only_grow(self) -> None:
        for place, (one, other) in enumerate((self.devices, self.devices[::-1])):
            shown = {m.text: m.state for m in other.history() if not m.outgoing}
            for message in one.history():
                if not message.outgoing:
                    continue
                assert message.state >= self.marks.get((place, message.key), State.QUEUED)
                self.marks[place, message.key] = message.state
                if message.state >= State.DELIVERED:
                    assert message.text in shown
                if message.state is State.READ:
                    assert shown[message.text] is State.READ
                if message.state is State.FAILED:
                    assert message.text not in shown

    @invariant()
    def nothing_is_missing_or_damaged(self) -> None:
        for device in self.devices:
            assert not [e for e in device.events if isinstance(e, InboxGap | Undecryptable)]

    def is_complete(self) -> None:
        for one, other in (self.devices, self.devices[::-1]):
            kept = [m for m in one.history() if m.outgoing and m.state is not State.FAILED]
            assert other.texts(outgoing=False) == [m.text for m in kept]
            assert all(m.state >= State.DELIVERED for m in kept)
            assert one.store.outbox.owing() == []
            assert one.box.cursor == one.box.head

    def teardown(self) -> None:
        if hasattr(self, "devices"):
            self.world.http_error = None
            self.world.settle()
            self.is_complete()
            self.what_is_shown_is_a_beginning_of_what_was_said()
            self.marks_are_true_and_only_grow()
        self.world.close()
        shutil.rmtree(self.folder)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
