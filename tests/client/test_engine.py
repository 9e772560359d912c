"""The engine's rules, each against the model server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raychat.client.engine import UNDER_WAY, Engine
from raychat.client.events import (
    Connected,
    Delivered,
    Disconnected,
    Expired,
    Failed,
    IdentityChanged,
    InboxGap,
    MessageReceived,
    NumberFound,
    Read,
    Sent,
    SettingChanged,
    Stopped,
    Undecryptable,
)
from raychat.client.history import Received
from raychat.client.model import State
from raychat.client.reading import read_marks
from raychat.client.signals import Arrived, Greet, Opened, Reconnect, Tell, Tick, Transmit
from raychat.client.store import DeviceStore
from raychat.errors import (
    BadToken,
    DeviceList,
    Malformed,
    NotFound,
    Overloaded,
    RateLimited,
    Replaced,
    TooLarge,
    Unavailable,
    Unsupported,
)
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.wire import content, frames
from raychat.wire.frames import Close, Goodbye, Outcome, Welcome
from tests.client.world import NOW, Device, World


def test_a_message_goes_from_one_to_the_other(world: World, alice: Device, bob: Device) -> None:
    bob.accept(alice)
    message = alice.say(bob, "hi")
    assert message.state is State.QUEUED
    world.settle()
    assert bob.texts(outgoing=False) == ["hi"]
    assert [m.state for m in alice.history()] == [State.DELIVERED]
    kinds = [type(event) for event in alice.events]
    assert kinds == [SettingChanged, Connected, NumberFound, Sent, Delivered]


def test_the_answer_needs_no_keys_from_the_server(world: World, alice: Device, bob: Device) -> None:
    alice.say(bob, "hi")
    world.settle()
    world.http_error = Unavailable()
    bob.say(alice, "hello")
    world.settle()
    assert alice.texts(outgoing=False) == ["hello"]


def test_the_senders_number_is_shown_once_the_server_confirms_it(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    (conversation,) = bob.store.history.conversations()
    assert conversation.number == alice.number
    assert conversation.account == alice.account


def test_a_false_claim_of_a_number_is_not_shown(world: World, alice: Device, bob: Device) -> None:
    carol = world.device("+15550003333")
    alice.number = carol.number
    alice.say(bob, "it is carol")
    world.settle()
    (conversation,) = bob.store.history.conversations()
    assert conversation.number is None


def test_reading_is_told_to_the_sender(world: World, alice: Device, bob: Device) -> None:
    bob.accept(alice)
    for text in ("one", "two"):
        alice.say(bob, text)
    world.settle()
    bob.read(alice)
    world.settle()
    assert [m.state for m in alice.history()] == [State.READ, State.READ]
    assert [event.key for event in alice.events if isinstance(event, Read)] == [1, 2]
    bob.read(alice)
    world.settle()
    assert bob.store.outbox.owing() == []


def test_marks_from_a_peer_touch_the_messages_to_that_peer_only(
    world: World, alice: Device, bob: Device
) -> None:
    carol = world.device("+15550003333")
    alice.say(bob, "for bob")
    alice.say(carol, "for carol")
    with bob.store.transaction():
        to = bob.store.history.open_conversation(alice.account)
        claim = content.Read(NOW, [content.Mark(DeviceId(1), 1, [1, 2**39])])
        bob.store.outbox.owe(to.id, content.encode(claim))
    world.settle()
    assert {m.text: m.state for m in alice.history()}["for carol"] < State.READ


def test_at_most_a_window_is_under_way_to_one_account(
    world: World, alice: Device, bob: Device
) -> None:
    for number in range(100):
        alice.say(bob, str(number))
    alice.connect()
    alice.to_server()
    alice.to_device()
    alice.call()
    alice.call()
    assert len(alice.outgoing) == 32
    world.settle()
    assert bob.texts(outgoing=False) == [str(number) for number in range(100)]


def test_all_lanes_together_are_bounded_and_none_starves(world: World, alice: Device) -> None:
    others = [world.device(f"+1555100{number:04}") for number in range(12)]
    for other in others:
        for number in range(40):
            alice.say(other, str(number))
    alice.connect()
    alice.to_server()
    alice.to_device()
    while alice.call():
        pass
    assert len(alice.outgoing) <= UNDER_WAY
    for _ in range(200):
        alice.to_server()
        alice.to_device()
        alice.call()
    assert alice.store.outbox.owing() == []


def test_the_same_bytes_are_sent_again_after_a_new_connection(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    alice.say(bob, "again")
    before = list(alice.outgoing)
    alice.disconnect()
    alice.connect()
    alice.to_server()
    alice.to_device()
    assert list(alice.outgoing) == before
    alice.crash()
    alice.connect()
    alice.to_server()
    alice.to_device()
    assert list(alice.outgoing)[-1:] == before
    world.settle()
    assert bob.texts(outgoing=False) == ["hi", "again"]


def test_a_duplicate_is_acknowledged_and_not_shown(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    stored = frames.pack_envelope(2, alice.account, 1, 1, 1, NOW, 3, b"whatever")
    bob.box.head = 2
    effects = bob.turn(Arrived(list(frames.to_device(stored))))
    assert effects == [Transmit(frames.pack_ack(2, [2]))]


def test_a_known_number_is_dropped_and_a_gap_means_a_new_connection(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    known = frames.pack_envelope(1, alice.account, 1, 1, 9, NOW, 3, b"whatever")
    assert bob.turn(Arrived(list(frames.to_device(known)))) == [Transmit(frames.pack_ack(1))]
    after = frames.pack_envelope(3, alice.account, 1, 1, 2, NOW, 3, b"whatever")
    later = frames.pack_envelope(2, alice.account, 1, 1, 2, NOW, 3, b"whatever")
    effects = bob.engine.turn([Arrived(list(frames.to_device(after + later)))], NOW)
    assert [type(effect) for effect in effects] == [Reconnect]
    assert bob.store.own().seen == 1


def test_what_cannot_be_opened_gets_its_second_mark_only_when_it_has_come_again(
    world: World, alice: Device, bob: Device
) -> None:
    bob.accept(alice)
    alice.say(bob, "hi")
    alice.connect()
    for _ in range(8):
        alice.to_server()
        alice.to_device()
        alice.call()
    bob.box.inbox[0].body = bob.box.inbox[0].body[:-1] + b"?"
    bob.connect()
    for _ in range(4):
        bob.to_server()
        bob.to_device()
        bob.call()
    (event,) = [event for event in bob.events if isinstance(event, Undecryptable)]
    assert event.account == alice.account
    assert bob.history() == []
    assert [m.state for m in alice.history()] == [State.SENT]
    world.settle()
    assert bob.texts(outgoing=False) == ["hi"]
    assert [m.state for m in alice.history()] == [State.DELIVERED]


def test_untold_numbers_are_said_until_they_are_settled(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.settle()
    bad = frames.pack_envelope(2, alice.account, 1, 1, 2, NOW, 2, b"damaged")
    bob.box.head = 2
    tell, *_, ack = bob.turn(Arrived(list(frames.to_device(bad))))
    assert isinstance(tell, Tell)
    assert ack == Transmit(frames.pack_ack(2, [2]))
    bob.outgoing.clear()
    bob.crash()
    bob.connect()
    (hello,) = frames.split(bob.outgoing[0])
    assert hello[6] == [1, 2]
    welcome = Welcome(1, NOW, 1, InboxNumber(2), InboxNumber(2), 0)
    bob.turn(Arrived([welcome]))
    assert bob.store.failed() == []


@pytest.mark.parametrize("kind", [0, 1, 7, 8, 2**30])
def test_kinds_of_later_versions_fail(world: World, alice: Device, bob: Device, kind: int) -> None:
    alice.say(bob, "hi")
    world.settle()
    frame = frames.pack_envelope(2, alice.account, 1, 1, 2, NOW, kind, b"x")
    bob.turn(Arrived(list(frames.to_device(frame))))
    assert [e for e in bob.events if isinstance(e, Undecryptable)]


def test_a_content_of_a_later_version_is_kept_and_shown_as_such(
    world: World, alice: Device, bob: Device
) -> None:
    import msgpack

    with alice.store.transaction():
        peer = alice.store.history.open_conversation(bob.number)
        alice.store.outbox.owe(peer.id, msgpack.packb([2, 77, NOW, {"poll": "?"}]))
    world.settle()
    (message,) = bob.history()
    assert message.text is None
    assert isinstance(bob.events[-2], MessageReceived | Connected)


def test_a_damaged_content_gets_no_second_mark(world: World, alice: Device, bob: Device) -> None:
    with alice.store.transaction():
        peer = alice.store.history.open_conversation(bob.number)
        alice.store.outbox.owe(peer.id, b"no msgpack\xc1")
    world.settle()
    (event,) = [event for event in bob.events if isinstance(event, Undecryptable)]
    assert isinstance(event.error, Malformed)
    assert bob.box.cursor == 1
    assert alice.user.receipts == []


@pytest.mark.parametrize("error", [RateLimited(), Overloaded(), Unavailable()])
def test_a_refusal_for_now_is_tried_again_with_the_same_bytes(
    world: World, alice: Device, bob: Device, error: Exception
) -> None:
    alice.say(bob, "zero")
    world.settle()
    for text in ("one", "two", "three"):
        alice.say(bob, text)
    before = list(alice.outgoing)
    world.server.refusals.append(error)  # type: ignore[arg-type]
    alice.to_server()
    alice.to_device()
    assert not alice.outgoing
    deadline = alice.engine.deadline()
    assert deadline is not None
    assert deadline > world.server.now
    world.server.now = deadline
    alice.turn(Tick())
    assert alice.outgoing
    assert before[: len(alice.outgoing)] == list(alice.outgoing)
    world.settle()
    assert bob.texts(outgoing=False) == ["zero", "one", "two", "three"]


def test_a_refusal_for_good_fails_one_message_and_the_rest_moves_up(
    world: World, alice: Device, bob: Device
) -> None:
    bob.accept(alice)
    alice.say(bob, "zero")
    world.settle()
    for text in ("one", "two", "three"):
        alice.say(bob, text)
    world.server.refusals.append(TooLarge())
    world.settle()
    assert bob.texts(outgoing=False) == ["zero", "two", "three"]
    states = {m.text: m.state for m in alice.history()}
    assert states["one"] is State.FAILED
    assert states["three"] is State.DELIVERED
    (event,) = [event for event in alice.events if isinstance(event, Failed)]
    assert isinstance(event.error, TooLarge)


def test_a_device_registered_anew_gets_the_message_encrypted_for_it(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "zero")
    world.settle()
    bob.begin_anew()
    for text in ("one", "two"):
        alice.say(bob, text)
    world.settle()
    assert bob.texts(outgoing=False) == ["one", "two"]
    assert [m.state for m in alice.history()] == [State.SENT] * 3
    (event,) = [event for event in alice.events if isinstance(event, IdentityChanged)]
    assert event.account == bob.account


def test_a_device_registered_anew_with_its_file_sends_from_one(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "zero")
    world.settle()
    alice.disconnect()
    alice.say(bob, "one")
    with alice.store.transaction():
        pass
    alice.register()
    alice.engine = Engine(alice.store)
    world.settle()
    assert bob.texts(outgoing=False) == ["zero", "one"]
    assert not [e for e in bob.events if isinstance(e, IdentityChanged)]
    bob.say(alice, "welcome back")
    world.settle()
    assert alice.texts(outgoing=False) == ["welcome back"]


def test_a_server_that_begins_anew_is_written_to_as_before(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "before")
    world.settle()
    for device in (alice, bob):
        device.disconnect()
    world.server.users.clear()
    for device in (alice, bob):
        device.register()
        device.engine = Engine(device.store, lambda: 1.0)
    alice.say(bob, "to nobody")
    world.settle()
    assert alice.history()[-1].state is State.FAILED
    for text in ("one", "two"):
        alice.say(bob, text)
    world.settle()
    bob.say(alice, "three")
    world.settle()
    assert bob.texts(outgoing=False) == ["before", "one", "two"]
    assert alice.texts(outgoing=False) == ["three"]
    assert [m.state for m in alice.history()][2:4] == [State.SENT] * 2
    (old, new) = sorted(alice.store.history.conversations(), key=lambda each: each.id)
    assert (old.number, new.number) == (None, bob.number)
    assert [m.text for m in alice.history()][2:] == ["one", "two", "three"]


def test_a_damaged_session_does_not_block_the_inbox(
    world: World, alice: Device, bob: Device
) -> None:
    bob.accept(alice)
    alice.say(bob, "one")
    world.settle()
    bob.say(alice, "two")
    world.settle()
    bob.store._db.execute("UPDATE session SET record = x'0100'")
    bob.crash()
    alice.say(bob, "three")
    world.settle()
    assert [e for e in bob.events if isinstance(e, Undecryptable)]
    assert bob.texts(outgoing=False) == ["one", "three"]
    assert alice.history()[-1].state is State.DELIVERED


def test_a_wrong_device_list_that_stays_is_tried_ever_slower(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hi")
    world.server.refusals.extend(DeviceList() for _ in range(5))
    world.settle()
    assert world.server.now - NOW > 2_000
    assert bob.texts(outgoing=False) == ["hi"]


def test_an_unknown_number_fails_the_message(world: World, alice: Device) -> None:
    alice.say("+15559999999", "anyone?")
    world.settle()
    (event,) = [event for event in alice.events if isinstance(event, Failed)]
    assert isinstance(event.error, NotFound)
    assert [m.state for m in alice.history()] == [State.FAILED]
    assert alice.store.outbox.owing() == []


def test_a_call_that_fails_for_now_is_made_again(world: World, alice: Device, bob: Device) -> None:
    alice.say(bob, "hi")
    world.http_error = Unavailable()
    alice.connect()
    for _ in range(6):
        alice.to_server()
        alice.to_device()
        alice.call()
    assert alice.engine.deadline() is not None
    world.http_error = None
    world.settle()
    assert bob.texts(outgoing=False) == ["hi"]


def test_writing_by_number_joins_what_came_by_account(
    world: World, alice: Device, bob: Device
) -> None:
    alice.number = alice.number.__class__("+1")  # a claim that is not confirmed
    alice.say(bob, "hi")
    world.settle()
    alice.number = alice.user.number
    bob.say(alice, "hello")
    assert len(bob.store.history.conversations()) == 2
    world.settle()
    (conversation,) = bob.store.history.conversations()
    assert conversation.number == alice.user.number
    assert [m.text for m in bob.history()] == ["hi", "hello"]
    assert alice.texts(outgoing=False) == ["hello"]


def test_an_older_copy_of_the_file_skips_ids_and_tells_of_the_gap(
    world: World, alice: Device, bob: Device, tmp_path: Path
) -> None:
    alice.say(bob, "first")
    world.settle()
    alice.disconnect()
    alice.store.close()
    shutil.copytree(alice.home, tmp_path / "copy")
    alice.store = DeviceStore(alice.home)
    alice.engine = Engine(alice.store)
    for number in range(3):
        alice.say(bob, f"lost {number}")
        bob.say(alice, f"back {number}")
    world.settle()
    alice.go_back(tmp_path / "copy")
    alice.say(bob, "from the copy")
    world.settle()
    assert [e for e in alice.events if isinstance(e, InboxGap)] == [InboxGap(1, 3)]
    # The session's keys have been used once, so that the message cannot be opened; but its id
    # is a new one, so that it is not taken for another, and it comes again.
    assert alice.store.outbox.owing() == []
    assert [e for e in bob.events if isinstance(e, Undecryptable)]
    assert bob.texts(outgoing=False)[-1] == "from the copy"
    assert alice.history()[-1].state is State.DELIVERED


def test_an_expired_message_is_marked_unless_it_was_delivered(
    world: World, alice: Device, bob: Device
) -> None:
    bob.accept(alice)
    alice.say(bob, "one")
    alice.say(bob, "two")
    world.settle()
    own = alice.store.own()
    with alice.store.transaction():
        alice.store._db.execute("UPDATE message SET state = 2 WHERE text = 'two'")
    receipt = frames.pack_receipt(9, bob.account, Outcome.EXPIRED, (1, 2), 1, 1)
    alice.turn(Arrived(list(frames.to_device(receipt))))
    assert [m.state for m in alice.history()] == [State.DELIVERED, State.EXPIRED]
    assert isinstance(alice.events[-1], Expired)
    assert own.revision < alice.store.own().revision == 9


@pytest.mark.parametrize(
    ("close", "code", "kind"),
    [
        (Close.REPLACED, "replaced", Replaced),
        (Close.BAD_TOKEN, "bad-token", BadToken),
        (Close.UNSUPPORTED, "unsupported", Unsupported),
        (None, "replaced", Replaced),
        (Close.REPLACED, "", Replaced),
    ],
)
def test_some_ends_are_final(
    world: World, alice: Device, close: int | None, code: str, kind: type[Exception]
) -> None:
    world.settle()
    if code:
        alice.engine.turn([Arrived([Goodbye(code, "go", 0, 0)])], NOW)
    alice.disconnect(close)
    assert isinstance(alice.stopped, kind)
    assert isinstance(alice.events[-1], Stopped)


def test_a_goodbye_says_when_to_come_back(world: World, alice: Device) -> None:
    world.settle()
    effects = alice.engine.turn([Arrived([Goodbye("overloaded", "wait", 100, 900)])], NOW)
    assert effects == [Reconnect(100, 900)]
    alice.disconnect(Close.OVERLOADED)
    event = alice.events[-1]
    assert isinstance(event, Disconnected)
    assert isinstance(event.error, Overloaded)


def test_nothing_counts_before_the_welcome(world: World, alice: Device, bob: Device) -> None:
    alice.connect()
    frame = frames.pack_envelope(1, bob.account, 1, 1, 1, NOW, 3, b"x")
    assert alice.turn(Arrived(list(frames.to_device(frame)))) == []
    assert [type(effect) for effect in alice.turn(Opened())] == [Greet]


def test_read_marks_are_packed_into_few_ranges() -> None:
    account = AccountId(b"a" * 16)

    def name(device: int, message: int) -> Received:
        return Received(account, DeviceId(device), 1, MessageId(message))

    names = [name(1, 1), name(1, 2), name(1, 3), name(1, 7), name(2, 1)]
    ((first, second),) = read_marks(names)
    assert first == (1, 1, [1, 3, 7, 7])
    assert second == (2, 1, [1, 1])
    scattered = [name(1, number) for number in range(1, 60_000, 2)]
    contents = [content.Read(NOW, marks) for marks in read_marks(scattered)]
    assert sum(len(r) // 2 for c in contents for _, _, r in c.marks) == len(scattered)
    for each in contents:
        assert content.decode(content.encode(each)) == each
