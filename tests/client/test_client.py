"""The SDK over real sockets: sending, receiving, marks, losing the server and finding it again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raychat import limits
from raychat.client.client import Client
from raychat.client.events import (
    Connected,
    Delivered,
    Disconnected,
    Feed,
    Lagged,
    MessageReceived,
    Read,
    Sent,
    Stopped,
)
from raychat.client.http import Registration
from raychat.client.model import Message, State
from raychat.errors import (
    BadCode,
    BadNumber,
    BadRequest,
    BadToken,
    NotFound,
    NotRegistered,
    OutOfOrder,
    Replaced,
    StoreError,
    StoreInUse,
    Timeout,
    TooLarge,
    Unavailable,
)
from raychat.wire.content import MAX_BYTES
from raychat.wire.frames import Close, Goodbye
from tests.client.conftest import People
from tests.client.service import Service

ALICE, BOB = "+15550001111", "+15550002222"


async def received(feed: Feed) -> Message:
    async with asyncio.timeout(10):
        async for event in feed:
            if isinstance(event, MessageReceived):
                return event.message
    raise AssertionError("the feed ended")


async def test_two_people_write_and_see_their_marks(people: People) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        message = await alice.send(BOB, "hi")
        assert (await message.sent(10)).state >= State.SENT
        arrived = await received(bob.events())
        assert arrived.text == "hi"
        await message.delivered(10)
        answer = await bob.send(arrived.conversation, "hello")
        await answer.delivered(10)
        assert await bob.mark_read(arrived.conversation) == 1
        assert (await message.read(10)).read_at is not None
        assert [m.text for m in alice.history(BOB)] == ["hi", "hello"]
        assert bob.conversation(ALICE) is not None
        assert alice.unread(BOB) == 1
        kinds = [type(event) for event in alice.events()._events]
        assert [k for k in kinds if k in (Connected, Sent, Delivered, Read)] == [
            Connected,
            Sent,
            Delivered,
            Read,
        ]


async def test_what_is_sent_offline_goes_out_later(people: People, service: Service) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    await service.stop()
    async with alice:
        message = await alice.send(BOB, "later")
        assert message.state is State.QUEUED
        with pytest.raises(Timeout):
            await message.sent(0.2)
        assert not alice.is_connected
    await service.start()
    async with Client("alice", home=people.home) as again, bob:
        await bob.accept(again.account)
        assert (await received(bob.events())).text == "later"
        (kept,) = again.history(BOB)
        await again.wait(kept, State.DELIVERED, 10)


async def test_a_lost_connection_comes_back_and_nothing_is_lost(
    people: People, service: Service
) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        feed = alice.events()
        await alice.connected(10)
        for number in range(20):
            message = await alice.send(BOB, str(number))
            if number % 5 == 0:
                await service.drop(alice.account)
                await service.drop(bob.account)
        await message.delivered(20)
        assert [m.text for m in bob.history()] == [str(number) for number in range(20)]
        assert Disconnected in [type(event) for event in feed._events]


async def test_a_goodbye_is_waited_for(people: People, service: Service) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        await alice.connected(10)
        goodbye = Goodbye("overloaded", "later", 600, 700)
        began = asyncio.get_running_loop().time()
        await service.say_goodbye(alice.account, goodbye, Close.OVERLOADED)
        async for event in alice.events():
            if isinstance(event, Connected) and service.hellos == 2:
                break
        assert asyncio.get_running_loop().time() - began > 0.55


async def test_a_device_that_is_replaced_stops(people: People, service: Service) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        await alice.connected(10)
        goodbye = Goodbye("replaced", "elsewhere", 0, 0)
        await service.say_goodbye(alice.account, goodbye, Close.REPLACED)
        events = [event async for event in alice.events()]
        assert isinstance(events[-1], Stopped)
        assert isinstance(alice.stopped, Replaced)
        with pytest.raises(Replaced):
            await alice.connected(1)
        message = await alice.send(BOB, "kept all the same")
        assert message.state is State.QUEUED
        assert not await alice.flush(5)
        await asyncio.sleep(0.5)
        assert service.hellos == 1


async def test_registering_again_stops_the_other_device(people: People, tmp_path: Path) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        await alice.connected(10)
        other = People(people.service, tmp_path / "other")
        async with await other.register(ALICE, "alice"):
            [_ async for _ in alice.events()]
            assert isinstance(alice.stopped, BadToken)


async def test_a_message_to_an_unknown_number_fails(people: People) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        message = await alice.send("+15559999999", "anyone?")
        with pytest.raises(NotFound):
            await message.sent(10)
        with pytest.raises(NotFound):
            await alice.wait(message)
        assert alice.history()[0].state is State.FAILED


async def test_what_cannot_be_sent_is_refused_at_once(people: People) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        for to, text, kind in (
            ("hello", "hi", BadNumber),
            (ALICE, "hi", BadRequest),
            (alice.account, "hi", BadRequest),
            (BOB, "x" * MAX_BYTES, TooLarge),
        ):
            with pytest.raises(kind):
                await alice.send(to, text)
        assert alice.history() == []
        assert alice.history(BOB) == []
        assert await alice.mark_read(BOB) == 0
    with pytest.raises(StoreError):
        await alice.send(BOB, "closed")
    await alice.close()


async def test_one_process_at_a_time(people: People) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        with pytest.raises(StoreInUse, match="profile alice"):
            await Client("alice", home=people.home).__aenter__()
    async with Client("alice", home=people.home):
        pass


async def test_a_profile_without_a_device_is_not_registered(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered):
        await Client("nobody", home=tmp_path).__aenter__()


async def test_a_wrong_code_may_be_corrected(people: People, service: Service) -> None:
    asked: list[BadCode | None] = []

    async def code(registration: Registration, wrong: BadCode | None) -> str:
        asked.append(wrong)
        return "123456" if len(asked) == 3 else "000000"

    await Client.register(ALICE, code=code, server=service.url, home=people.home)
    assert [wrong is not None for wrong in asked] == [False, True, True]

    async def guess(registration: Registration, wrong: BadCode | None) -> str:
        return "000000"

    with pytest.raises(BadCode):
        await Client.register(BOB, code=guess, server=service.url, home=people.home, profile="b")


async def test_a_profile_keeps_to_its_number(people: People) -> None:
    await people.register(ALICE, "alice")
    with pytest.raises(StoreError, match="another number"):
        await people.register(BOB, "alice")


async def test_registering_again_keeps_history_and_identity(people: People) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        await (await alice.send(BOB, "one")).delivered(10)
    alice = await people.register(ALICE, "alice")
    bob = Client("bob", home=people.home)
    async with alice, bob:
        await bob.accept(alice.account)
        await (await alice.send(BOB, "two")).delivered(10)
        await (await bob.send(ALICE, "three")).delivered(10)
        assert [m.text for m in alice.history()] == ["one", "two", "three"]
        assert [m.text for m in bob.history()] == ["one", "two", "three"]


async def test_keys_are_refilled_when_few_are_left(people: People, service: Service) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        await alice.refill_keys()
        keys = service.keys[alice.account, 1]
        assert len(keys["pre_keys"]) == limits.PRE_KEY_UPLOAD
        del keys["pre_keys"][: limits.PRE_KEY_UPLOAD - limits.PRE_KEY_REFILL + 1]
        service.error = Unavailable()
        with pytest.raises(Unavailable):
            await alice.refill_keys()
        service.error = None
        await alice.refill_keys()
        assert len(keys["pre_keys"]) == 24 + limits.PRE_KEY_UPLOAD
        assert len(keys["kyber_pre_keys"]) == limits.PRE_KEY_UPLOAD
        assert alice._store.keys.unpublished(100) == ([], [])


async def test_a_turn_that_fails_starts_anew_from_the_file(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        await (await alice.send(BOB, "one")).delivered(10)

        def broken(*_: object) -> None:
            raise StoreError("The disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(alice._store.outbox, "owe", broken)
            with pytest.raises(StoreError, match="disk is full"):
                await alice.send(BOB, "lost, and said so")
        await (await alice.send(BOB, "two")).delivered(10)
        assert [m.text for m in bob.history()] == ["one", "two"]


async def test_only_what_was_sent_can_be_waited_for(people: People) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        await alice.send(BOB, "hi")
        (message,) = alice.history()
        with pytest.raises(OutOfOrder):
            await message.sent()


async def test_a_slow_reader_of_events_learns_what_it_missed() -> None:
    feed = Feed(3)
    for waiting in range(5):
        feed.put(Connected(waiting))
    feed.close()
    assert [event async for event in feed] == [
        Lagged(2),
        Connected(2),
        Connected(3),
        Connected(4),
    ]


async def test_nothing_private_is_in_a_repr(people: People) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await bob.accept(alice.account)
        await (await alice.send(BOB, "a secret")).delivered(10)
        event = await received(bob.events())
        shown = repr([alice.history(), event, alice.conversations(), alice._store.own()])
        for secret in ("secret", ALICE, BOB):
            assert secret not in shown
