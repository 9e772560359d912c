"""Several devices: whom a message is for, what a server cannot invent, and one's own list."""

from __future__ import annotations

import pytest

from raychat import limits
from raychat.client.events import (
    DeviceAdded,
    DeviceRefused,
    DeviceRemoved,
    IdentityChanged,
    MessageReceived,
    SentElsewhere,
    Stopped,
)
from raychat.client.model import State
from raychat.client.signals import Arrived, NewToken, Reconnect
from raychat.client.store import DeviceStore
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import BadSignature, GhostDevice, ListRolledBack, Unavailable
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId, Secret
from raychat.wire import content, frames
from tests.client.model import NOW
from tests.client.world import Device, World


@pytest.fixture
def laptop(world: World, alice: Device, bob: Device) -> Device:
    """A second device of alice, who knows bob."""
    alice.accept(bob)
    bob.accept(alice)
    laptop = world.link(alice)
    world.settle()
    return laptop


def refused(device: Device) -> list[type[Exception]]:
    return [type(e.error) for e in device.events if isinstance(e, DeviceRefused)]


def test_a_message_reaches_all_devices_of_the_recipient(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    bob.say(alice, "hi")
    world.settle()
    for device in (alice, laptop):
        assert device.texts(outgoing=False) == ["hi"]
    assert [m.state for m in bob.history()] == [State.DELIVERED]


def test_what_one_device_sends_the_others_show_with_the_same_marks(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    laptop.say(bob, "from the laptop")
    world.settle()
    (event,) = [e for e in alice.events if isinstance(e, SentElsewhere)]
    assert event.message.text == "from the laptop"
    bob.read(alice)
    world.settle()
    for device in (alice, laptop):
        assert [(m.text, m.state) for m in device.history()] == [("from the laptop", State.READ)]


def test_a_message_with_a_timer_goes_from_every_device_of_its_sender_in_time(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    alice.tell(bob, content.Text(world.server.now, "for a minute", expires=60))
    world.settle()  # as long as a device has something to wait for
    assert alice.texts(outgoing=True) == laptop.texts(outgoing=True) == []
    assert bob.texts(outgoing=False) == ["for a minute"]  # till a minute after it was read


def test_a_message_with_a_timer_that_was_read_elsewhere_goes_here_too(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    bob.tell(alice, content.Text(world.server.now, "for a minute", expires=60))
    world.settle()
    laptop.read(bob)
    world.settle()
    assert alice.texts(outgoing=False) == laptop.texts(outgoing=False) == []


def test_what_was_read_on_one_device_is_read_on_the_others(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    bob.say(alice, "hi")
    world.settle()
    laptop.read(bob)
    world.settle()
    assert [m.state for m in alice.history()] == [State.READ]
    assert [m.state for m in bob.history()] == [State.READ]
    alice.read(bob)
    assert alice.store.outbox.owing() == []


def test_a_change_by_one_device_holds_on_all(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    alice.say(bob, "typo")
    world.settle()
    (message,) = laptop.history()
    assert message.name is not None
    laptop.tell(bob, content.Edit(world.server.now, message.name, "fixed"))
    world.settle()
    for device in (alice, laptop, bob):
        assert [m.text for m in device.history()] == ["fixed"]


def test_settings_are_the_same_on_all_devices(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    laptop.choose(bob, "name", "Bobby")
    laptop.choose(None, "read_receipts", False)
    world.settle()
    peer = alice.store.history.conversation_with(bob.account)
    assert peer is not None
    assert peer.name == "Bobby"
    bob.say(alice, "hi")
    world.settle()
    alice.read(bob)
    world.settle()
    assert [m.state for m in bob.history()] == [State.DELIVERED]


def test_a_single_device_owes_itself_nothing(world: World, alice: Device, bob: Device) -> None:
    alice.say(bob, "hi")
    world.settle()
    assert alice.user.taken == {} or all(key[0] != alice.account for key in alice.user.taken)


def test_a_device_linked_in_between_costs_one_repair(
    world: World, alice: Device, bob: Device
) -> None:
    bob.say(alice, "before")
    world.settle()
    world.link(alice)
    bob.say(alice, "after")
    calls = 0
    for _ in range(30):
        for device in world.devices:
            device.connect()
            device.to_server()
            device.to_device()
            while device is bob and bob.calls:
                calls += 1
                bob.call()
            device.call()
    assert calls == 1
    world.settle()
    assert alice.texts(outgoing=False) == ["before", "after"]


def test_a_ghost_is_never_encrypted_to_and_the_person_is_told(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "before")
    world.settle()
    ghost = world.device("+15550009999")
    bundle = ghost.box
    user = bob.user
    user.ghosts[2] = 1
    there = world.bundles

    def invented(account: bytes, some: object) -> list[object]:
        fake = world.server.bundles(ghost.account, None)[0]._replace(device=DeviceId(2))
        return [*there(account, None), fake] if account == bob.account else there(account, None)

    world.bundles = invented  # type: ignore[method-assign,assignment]
    alice.say(bob, "secret")
    for _ in range(20):
        alice.to_server()
        alice.to_device()
        alice.call()
    assert bundle is not None
    assert GhostDevice in refused(alice)
    for taken in user.taken.values():
        assert all(2 not in addressed for addressed, _ in taken)
    user.ghosts.clear()
    world.settle()
    assert bob.texts(outgoing=False) == ["before", "secret"]


def test_a_device_that_has_not_signed_its_account_is_refused(
    world: World, alice: Device, bob: Device
) -> None:
    """Nobody can claim another's device as their own."""
    phone = world.link(bob)
    phone.box.signature = bytes(64)
    alice.say(bob, "hi")
    for _ in range(20):
        alice.connect()
        alice.to_server()
        alice.to_device()
        alice.call()
    assert GhostDevice in refused(alice)
    assert not bob.user.taken


def test_a_list_that_is_missing_forged_or_rolled_back_is_refused(
    world: World, alice: Device, bob: Device
) -> None:
    old = bob.user.signed
    assert old is not None
    world.lists[bob.account] = None
    alice.say(bob, "hi")
    for _ in range(8):
        alice.connect()
        alice.to_server()
        alice.to_device()
        alice.call()
    assert refused(alice) == [GhostDevice]
    del world.lists[bob.account]
    world.settle()
    phone = world.link(bob)
    alice.say(bob, "to both")
    world.settle()
    phone.say(alice, "from the phone")
    world.lists[bob.account] = old
    world.link(bob)
    alice.say(bob, "to three")
    for _ in range(8):
        alice.to_server()
        alice.to_device()
        alice.call()
    assert refused(alice)[1:] == [ListRolledBack]
    forged = bytearray(old)
    forged[-1] ^= 1
    world.lists[bob.account] = bytes(forged)
    world.server.now += 60_000
    for _ in range(8):
        alice.turn()
        alice.to_server()
        alice.to_device()
        alice.call()
    assert BadSignature in refused(alice)
    world.lists.clear()
    world.settle()
    assert phone.texts(outgoing=False)[-1] == "to three"


def test_a_message_of_a_device_nobody_signed_is_not_shown(
    world: World, alice: Device, bob: Device
) -> None:
    """The server gives an envelope of another account as one of bob's devices."""
    alice.say(bob, "hi")
    world.settle()
    mallory = world.device("+15550006666")
    mallory.say(alice, "I am bob")
    for _ in range(8):
        mallory.connect()
        mallory.to_server()
        mallory.to_device()
        mallory.call()
    (stored,) = alice.box.inbox
    forged = frames.pack_envelope(stored.number, bob.account, 2, 1, 1, NOW, 3, stored.body)
    alice.turn(Arrived(list(frames.to_device(forged))))
    while alice.call():
        pass
    assert refused(alice) == [GhostDevice]
    assert not [e for e in alice.events if isinstance(e, MessageReceived)]
    # Nor in the place of a device bob does have.
    again = frames.pack_envelope(stored.number + 1, bob.account, 1, 1, 5, NOW, 3, stored.body)
    alice.box.head += 1
    alice.turn(Arrived(list(frames.to_device(again))))
    while alice.call():
        pass
    assert not [e for e in alice.events if isinstance(e, MessageReceived)]


def test_the_first_message_of_a_new_device_waits_for_the_list(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    phone = world.link(bob)
    phone.say(alice, "from the phone")
    bob.say(alice, "and after it")
    world.http_error = None
    for _ in range(10):
        phone.connect()
        phone.to_server()
        phone.to_device()
        phone.call()
    bob.to_server()
    world.http_error = Unavailable()
    for _ in range(4):
        alice.to_device()
        alice.call()
    assert alice.texts(outgoing=False) == []
    world.http_error = None
    world.settle()
    assert sorted(alice.texts(outgoing=False)) == ["and after it", "from the phone"]


def test_an_account_registered_anew_is_told_once(world: World, alice: Device, bob: Device) -> None:
    phone = world.link(bob)
    alice.say(bob, "before")
    world.settle()
    bob.begin_anew()
    alice.say(bob, "one")
    alice.say(bob, "two")
    world.settle()
    changes = [event for event in alice.events if isinstance(event, IdentityChanged)]
    assert len(changes) == 1
    assert bob.texts(outgoing=False) == ["one", "two"]
    assert phone.stopped is not None
    assert phone.texts(outgoing=False) == ["before"]


def test_every_device_is_told_of_a_new_one_and_of_one_that_is_gone(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    tablet = world.link(alice)
    world.settle()
    for device in (alice, laptop):
        assert DeviceAdded(tablet.device) in device.events
    alice.revoke(tablet)
    world.settle()
    assert DeviceRemoved(tablet.device) in laptop.events
    assert isinstance(tablet.events[-1], Stopped)


def test_a_revoked_device_gets_nothing_more_and_is_not_listened_to(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    bob.say(alice, "before")
    world.settle()
    alice.revoke(laptop)
    bob.say(alice, "after")
    world.settle()
    assert laptop.texts(outgoing=False) == ["before"]
    assert alice.texts(outgoing=False) == ["before", "after"]
    world.server.now += limits.FORMER_DEVICE_MINUTES * 60_000 + 1
    laptop.stopped = None
    with laptop.store.transaction():
        kind, body = laptop.engine._cipher.encrypt(
            bob.store.own().address, content.pad(content.encode(content.Text(NOW, "still"))), NOW
        )
    number = bob.box.head = bob.box.head + 1
    late = frames.pack_envelope(number, alice.account, laptop.device, 1, 99, NOW, int(kind), body)
    bob.turn()
    bob.turn(Arrived(list(frames.to_device(late))))
    while bob.call():
        pass
    assert "still" not in bob.texts(outgoing=False)
    assert GhostDevice in refused(bob)


def test_after_a_device_has_left_the_primary_signs_a_list_without_it(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    version = alice.user.version
    world.server.leave(alice.user, laptop.device)
    world.settle()
    assert alice.user.version > version
    assert alice.user.listed.numbers() == (1,)


def test_a_list_the_server_has_lost_is_signed_anew(
    world: World, alice: Device, laptop: Device
) -> None:
    before = alice.user.version
    for device in (alice, laptop):
        device.disconnect()
    alice.user.signed = None
    # A server that has no list takes any.
    world.server.put_list = lambda user, listed: setattr(user, "signed", listed)  # type: ignore[method-assign,assignment]
    world.settle()
    assert alice.user.version > before
    assert alice.user.listed.numbers() == (1, 2)


def test_no_version_is_signed_twice(world: World, alice: Device) -> None:
    """Not even if a link was begun and never finished."""
    versions = []
    for name in ("one", "two"):
        device = Device.__new__(Device)
        device.world, device.store = world, DeviceStore(world.home / name)
        listed = device.invited_by(alice).list
        versions.append(SignedDeviceList.parse(listed).unverified.version)
        device.store.close()
    assert versions == [2, 3]


def test_blocks_reach_the_server_and_the_other_devices(
    world: World, alice: Device, bob: Device, laptop: Device
) -> None:
    laptop.choose(bob, "blocked", True)
    bob.say(alice, "are you there?")
    world.settle()
    assert alice.user.blocked == {bob.account}
    assert alice.texts(outgoing=False) == laptop.texts(outgoing=False) == []
    bob.say(alice, "hello?")
    world.settle()
    assert [m.state for m in bob.history()] == [State.SENT] * 2
    alice.choose(bob, "blocked", False)
    world.settle()
    assert alice.user.blocked == frozenset()
    bob.say(alice, "again")
    world.settle()
    assert alice.texts(outgoing=False) == ["again"]


def test_a_stranger_learns_nothing_until_accepted(world: World, alice: Device, bob: Device) -> None:
    alice.say(bob, "hi, you don't know me")
    world.settle()
    bob.read(alice)
    world.settle()
    assert [m.state for m in alice.history()] == [State.SENT]
    assert alice.user.receipts == []
    (request,) = bob.store.history.requests()
    assert request.account == alice.account
    bob.say(alice, "hello")  # who answers, accepts
    alice.say(bob, "glad to hear")
    world.settle()
    bob.read(alice)
    world.settle()
    states = [m.state for m in alice.history() if m.outgoing]
    assert states == [State.SENT, State.READ]


def test_silent_contents_draw_no_receipts(world: World, alice: Device, bob: Device) -> None:
    alice.accept(bob)
    bob.accept(alice)
    alice.say(bob, "hi")
    world.settle()
    (message,) = bob.history()
    assert message.name is not None
    before = len(alice.user.receipts)
    alice.tell(bob, content.Reaction(NOW, message.name, "👍"))
    alice.tell(bob, content.Reaction(NOW, message.name._replace(id=99), "👍"))
    alice.tell(bob, content.Typing(NOW, True))
    world.settle()
    assert len(alice.user.receipts) == before


def test_a_new_token_is_used_from_the_next_connection_on(
    world: World, alice: Device, bob: Device
) -> None:
    world.settle()
    token = Secret(b"n" * 32)
    alice.box.tokens.append(token)
    alice.turn(NewToken(1, token))
    alice.disconnect()
    alice.say(bob, "hi")
    world.settle()
    assert alice.box.tokens == [token]
    assert bob.texts(outgoing=False) == ["hi"]


def test_what_waits_for_a_device_list_is_bounded(world: World, alice: Device) -> None:
    alice.say("+15550009999", "to be connected")
    world.settle()
    seen, stranger = alice.store.own().seen or 0, AccountId(b"stranger" * 2)
    number = 0
    for number in range(1, limits.PUSH_WINDOW + 1):
        who = (stranger, DeviceId(1), 1, MessageId(number))
        envelope = frames.Envelope(InboxNumber(seen + number), *who, NOW, 2, b"sealed")
        effects = alice.engine.turn([Arrived([envelope])], NOW)
        assert not any(isinstance(effect, Reconnect) for effect in effects)
    envelope = envelope._replace(number=InboxNumber(seen + number + 1))
    effects = alice.engine.turn([Arrived([envelope])], NOW)
    assert [type(effect) for effect in effects] == [Reconnect]
    assert (alice.store.own().seen or 0) == seen  # it all comes again


def test_what_was_deleted_is_to_be_overwritten_in_the_log_of_the_file_too(
    world: World, alice: Device, bob: Device
) -> None:
    bob.accept(alice)
    message = alice.say(bob, "a word too many")
    world.settle()
    named = alice.store.history.message(message.key)
    assert named is not None
    assert named.name is not None
    assert not bob.engine.scrub
    alice.tell(bob, content.Delete(world.server.now, named.name))
    assert alice.engine.scrub
    world.settle()
    assert bob.engine.scrub
