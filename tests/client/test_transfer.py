"""The history's way to a new device: whole, in order, once, and for nobody else."""

from __future__ import annotations

import zlib
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.client.events import HistoryMoved
from raychat.client.model import Message
from raychat.client.past import Past
from raychat.client.signals import Effect, Tick
from raychat.client.transfer import Transfers, transfer_id
from raychat.errors import Malformed, RaychatError
from raychat.ids import Address
from raychat.wire import content
from raychat.wire.content import Step, Transfer
from tests.client.world import Device, World


@pytest.fixture
def told(world: World, alice: Device, bob: Device) -> World:
    """Alice and bob have a history of several parts."""
    alice.accept(bob)
    bob.accept(alice)
    for number in range(40):
        one, other = (alice, bob) if number % 2 else (bob, alice)
        one.say(other, f"{number} " + "x" * 3_000)
    world.settle()
    bob.read(alice)
    world.settle()
    return world


def shown(device: Device) -> list[tuple[object, ...]]:
    def facts(m: Message) -> tuple[object, ...]:
        return m.text, m.outgoing, m.name, m.state, m.at, m.edited_at, m.reactions

    return [facts(message) for message in device.history()]


def progress(device: Device) -> list[tuple[int, int]]:
    return [(e.done, e.parts) for e in device.events if isinstance(e, HistoryMoved)]


def step(world: World, times: int = 1) -> None:
    for _ in range(times):
        for device in world.devices:
            device.connect()
            device.to_server()
            device.to_device(1)
            device.call()
            device.turn(Tick())
        world.server.now += 1


def test_all_of_it_comes_in_order_with_its_marks(told: World, alice: Device, bob: Device) -> None:
    (message, *_) = [m for m in alice.history() if m.outgoing]
    assert message.name is not None
    bob.tell(alice, content.Reaction(1, message.name, "👍"))
    alice.tell(bob, content.Edit(told.server.now, message.name, "edited"))
    told.settle()
    laptop = told.link(alice)
    told.settle()
    assert shown(laptop) == shown(alice)
    assert len(progress(laptop)) > 3
    assert progress(laptop)[-1][0] == progress(laptop)[-1][1]
    assert alice.store._rows("SELECT 1 FROM transfer") == []
    assert laptop.store._rows("SELECT 1 FROM transfer") == []


def test_what_is_said_meanwhile_stands_after_it_and_is_there_once(
    told: World, alice: Device, bob: Device
) -> None:
    laptop = told.link(alice)
    for number in range(30):
        bob.say(alice, f"new {number}")
        laptop.say(bob, f"back {number}")
        step(told)
    told.settle()
    texts = [m.text for m in laptop.history()]
    assert sorted(texts, key=str) == sorted((m.text for m in alice.history()), key=str)
    old = [text for text in texts if text is not None and "x" in text]
    assert texts[: len(old)] == old


def test_it_goes_on_after_any_break(told: World, alice: Device) -> None:
    laptop = told.link(alice)
    for number in range(60):
        step(told)
        if number % 5 == 2:
            laptop.crash()
        if number % 7 == 3:
            alice.crash()
        if number % 11 == 4:
            laptop.disconnect()
    told.settle()
    assert shown(laptop) == shown(alice)


def test_what_does_not_come_is_asked_for_again(told: World, alice: Device) -> None:
    laptop = told.link(alice)
    step(told, 12)
    alice._cut()
    with alice.store.transaction():
        alice.store.connection.execute("DELETE FROM outbox")
        alice.store.connection.execute("DELETE FROM recent")
    alice.crash()
    told.settle()
    assert shown(laptop) == shown(alice)


def test_live_messages_do_not_wait_behind_it(told: World, alice: Device) -> None:
    laptop = told.link(alice)
    for _ in range(200):
        step(told)
        (owed,) = alice.store._row(
            "SELECT count(*) FROM outbox JOIN conversation ON conversation.id = conversation"
            " WHERE account = ?",
            alice.account,
        )
        assert owed <= limits.TRANSFER_WINDOW + 4
    assert shown(laptop) == shown(alice)


def test_another_device_of_ones_own_cannot_read_it(
    told: World, alice: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    tablet = told.link(alice)
    told.settle()
    seen: list[Transfer] = []
    take = Transfers.step

    def look(self: Transfers, address: Address, said: Transfer, now: int) -> list[Effect]:
        if self._own.device == tablet.device:
            seen.append(said)
        return take(self, address, said, now)

    monkeypatch.setattr(Transfers, "step", look)
    told.link(alice)
    told.settle()
    parts = [said for said in seen if said.step is Step.PART]
    assert parts
    for part in parts:
        assert b"xxxx" not in part.data
        with pytest.raises(zlib.error):
            zlib.decompress(part.data)


def test_without_the_history_only_contacts_come(told: World, alice: Device, bob: Device) -> None:
    alice.choose(bob, "name", "Bobby")
    laptop = Device(told, told.home / "tablet", alice.number, alice)
    with alice.store.transaction():
        alice.store.connection.execute("UPDATE transfer SET whole = 0")
    told.devices.append(laptop)
    told.settle()
    assert laptop.history() == []
    peer = laptop.store.history.conversation_with(bob.account)
    assert peer is not None
    assert (peer.name, peer.number, peer.accepted) == ("Bobby", bob.number, True)
    assert laptop.store.lists.account_key(bob.account) == bob.store.keys.identity_key_pair().public


def test_nothing_is_offered_before_its_time(told: World, alice: Device) -> None:
    tablet = Device(told, told.home / "tablet", alice.number, alice)
    told.devices.append(tablet)
    with alice.store.transaction():
        alice.store.connection.execute(
            "UPDATE transfer SET due = ?", (told.server.now + limits.TRANSFER_DELAY_SECONDS * 1000,)
        )
    step(told, 30)
    assert progress(tablet) == []
    alice.revoke(tablet)
    told.settle()
    assert tablet.history() == []


def test_a_part_of_another_transfer_or_place_is_refused(told: World, alice: Device) -> None:
    laptop = told.link(alice)
    step(told, 8)
    (key, place) = laptop.store._row("SELECT key, next FROM transfer")
    with laptop.store.transaction(), pytest.raises(Malformed):
        laptop.store.connection.execute("UPDATE transfer SET parts = 9")
        laptop.engine._transfers.step(
            alice.store.own().address,
            Transfer(1, transfer_id(key), Step.PART, place, data=bytes(60)),
            told.server.now,
        )


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**64 - 1) | st.binary(max_size=20) | st.text(),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=12,
)


def test_hostile_parts_raise_only_our_errors(world: World, alice: Device) -> None:
    past = Past(alice.store)

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 2), st.lists(st.lists(anything, min_size=4, max_size=9), max_size=3))
    def try_it(kind: int, items: object) -> None:
        for data in (zlib.compress(msgpack.packb([kind, items])), msgpack.packb([kind, items])):
            with suppress(RaychatError), alice.store.transaction():
                past.merge(data, 1)

    try_it()
    with pytest.raises(Malformed):
        past.merge(zlib.compress(bytes(3 * 1024 * 1024)), 1)
