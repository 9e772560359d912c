"""What could not be opened comes again, within limits, and only to whom it was sent."""

from __future__ import annotations

import pytest

from raychat import limits
from raychat.client.events import Undecryptable
from raychat.client.model import State
from raychat.crypto import CiphertextMessage
from raychat.errors import BadMac
from raychat.wire import content
from raychat.wire.content import DeviceMessage
from tests.client.world import Device, World


@pytest.fixture
def friends(world: World, alice: Device, bob: Device) -> World:
    """Alice and bob have written to each other."""
    alice.say(bob, "hi")
    bob.say(alice, "hello")
    world.settle()
    return world


def never(address: object, message: CiphertextMessage) -> bytes:
    """In the place of decrypting."""
    raise BadMac


def lose_sessions(device: Device) -> None:
    device._cut()
    with device.store.transaction():
        device.store.connection.execute("DELETE FROM session")
    device.crash()


def owe(device: Device, to: Device, said: content.Content) -> None:
    with device.store.transaction():
        peer = device.store.history.open_conversation(to.account)
        device.store.outbox.owe(peer.id, content.encode(said))
    device.crash()


def retries(world: World, device: Device) -> int:
    """How many requests a device has sent."""
    return sum(
        1
        for user in world.server.users.values()
        for sender, taken in user.taken.items()
        if sender[0] == device.account
        for _ in taken
    )


def test_a_lost_session_heals_and_the_marks_are_true(
    friends: World, alice: Device, bob: Device
) -> None:
    lose_sessions(bob)
    for text in ("one", "two", "three"):
        alice.say(bob, text)
    friends.settle()
    assert bob.texts(outgoing=False) == ["hi", "one", "two", "three"]
    assert [m.state for m in alice.history() if m.outgoing][1:] == [State.DELIVERED] * 3
    assert len([e for e in bob.events if isinstance(e, Undecryptable)]) == 3
    bob.read(alice)
    friends.settle()
    assert {m.state for m in alice.history() if m.outgoing} == {State.READ}


def test_a_fresh_session_is_begun_at_most_once_an_hour(
    friends: World, alice: Device, bob: Device
) -> None:
    begun = alice.engine.key_messages
    for number in range(4):
        alice.say(bob, f"message {number}")
        alice.to_server()
        stored = bob.box.inbox[-1]
        stored.body = stored.body[:-1] + bytes((stored.body[-1] ^ 1,))
        bob.disconnect()
        friends.settle()
        friends.server.now += 300_000
    assert len(bob.texts(outgoing=False)) == 5
    assert alice.engine.key_messages == begun + 1
    friends.server.now += limits.FRESH_SESSION_SECONDS * 1000
    alice.say(bob, "later")
    alice.to_server()
    bob.box.inbox[-1].body = bob.box.inbox[-1].body[:-1] + b"?"
    bob.disconnect()
    friends.settle()
    assert alice.engine.key_messages == begun + 2


def test_each_message_is_asked_for_a_few_times_only(
    friends: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "lost for ever")
    bob.engine._cipher.decrypt = never  # type: ignore[method-assign,assignment]
    friends.settle()
    assert bob.store._rows("SELECT max(tries) FROM unopened")[0][0] <= limits.RETRY_TRIES
    kept = alice.store._rows("SELECT max(tries) FROM recent")
    assert kept[0][0] <= limits.RETRY_TRIES
    assert bob.texts(outgoing=False) == ["hi"]
    assert alice.history()[-1].state is State.SENT


def test_two_that_cannot_read_each_other_fall_silent(
    friends: World, alice: Device, bob: Device
) -> None:
    for device in (alice, bob):
        device.engine._cipher.decrypt = never  # type: ignore[method-assign,assignment]
    alice.say(bob, "one")
    bob.say(alice, "two")
    friends.settle()  # comes to rest
    assert retries(friends, alice) + retries(friends, bob) < 30


def test_who_was_not_sent_a_message_does_not_get_it(
    friends: World, alice: Device, bob: Device
) -> None:
    """Not a device linked since, and not who has the number now."""
    alice.say(bob, "for the phone")
    friends.settle()
    (message,) = [m for m in alice.history() if m.text == "for the phone"]
    assert message.name is not None
    wanted = DeviceMessage(*message.name[1:])
    laptop = friends.link(bob)
    friends.settle()
    owe(laptop, alice, content.Retry(friends.server.now, (wanted,)))
    before = len(alice.store._rows("SELECT 1 FROM recent WHERE tries > 0"))
    friends.settle()
    assert len(alice.store._rows("SELECT 1 FROM recent WHERE tries > 0")) == before == 0
    bob.begin_anew()
    alice.say(bob, "who are you?")
    friends.settle()
    owe(bob, alice, content.Retry(friends.server.now, (wanted,)))
    friends.settle()
    assert bob.texts(outgoing=False) == ["who are you?"]
    assert alice.store._rows("SELECT 1 FROM recent WHERE tries > 0") == []


def test_what_was_not_waited_for_is_not_taken_in_again(
    friends: World, alice: Device, bob: Device
) -> None:
    text = content.encode(content.Text(1, "never sent before"))
    owe(alice, bob, content.Resend(1, DeviceMessage(alice.device, 1, 77), text))  # type: ignore[arg-type]
    owe(alice, bob, content.Resend(1, DeviceMessage(9, 1, 1), text))  # type: ignore[arg-type]
    friends.settle()
    assert bob.texts(outgoing=False) == ["hi"]


def test_what_was_deleted_is_not_sent_again(friends: World, alice: Device, bob: Device) -> None:
    message = alice.say(bob, "better not")
    friends.settle()
    name = alice.store.history.name_of(message.key)
    assert name is not None
    alice.tell(bob, content.Delete(friends.server.now, name))
    friends.settle()
    owe(bob, alice, content.Retry(1, (DeviceMessage(*name[1:]),)))
    friends.settle()
    assert alice.store._rows("SELECT 1 FROM recent WHERE tries > 0") == []


def test_a_stranger_is_asked_once_an_hour(world: World, alice: Device, bob: Device) -> None:
    alice.say(bob, "hi")
    world.settle()
    for number in range(3):
        lose_sessions(bob)
        alice.say(bob, f"message {number}")
        for _ in range(30):
            for device in (alice, bob):
                device.connect()
                device.to_server()
                device.to_device()
                device.call()
        world.server.now += 60_000
    assert bob.texts(outgoing=False) == ["hi", "message 0"]
    world.settle()
    assert bob.texts(outgoing=False) == ["hi", "message 0", "message 1", "message 2"]


def test_only_the_latest_messages_are_kept_for_it(
    friends: World, alice: Device, bob: Device
) -> None:
    for number in range(limits.RETRY_MESSAGES + 20):
        alice.say(bob, str(number))
    friends.settle()
    (count,) = alice.store._row("SELECT count(*) FROM recent")
    assert count == limits.RETRY_MESSAGES
