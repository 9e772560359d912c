"""Whatever dies, nothing is lost, and what lives goes on."""

from __future__ import annotations

import asyncio

import pytest

from raychat.errors import StoreError
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import Effect, Event, Incoming
from raychat.users.user import User
from raychat.wire import frames
from raychat.wire.frames import Close, Goodbye
from tests.faults.checker import check
from tests.gateway.talk import ANN, BOB, CAY, DAN, works
from tests.stack import Stack, send, until


@pytest.fixture(params=["fast", "slow"])
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow disk a host thinks on while a commit is on its way to it."""
    if request.param == "slow":
        monkeypatch.setattr(SqliteStore, "commits_at_once", False)


@pytest.mark.usefixtures("any_disk")
async def test_devices_do_not_notice_that_hosts_are_restarted(stack: Stack) -> None:
    devices = {person.account: stack.device(person) for person in stack.persons}
    for device in devices.values():
        await device.welcome.wait()
    for round_ in range(3):
        for name in list(stack.hosts):
            for device in devices.values():
                for account in devices:
                    if account != device.person.account:
                        device.write(account, bytes(100 * round_))
            await asyncio.sleep(0.01 * round_)
            await stack.restart_host(name)
    await until(lambda: not any(d.unsettled or d.undelivered for d in devices.values()))
    assert {device.connections for device in devices.values()} == {1}
    await check(devices)


async def test_receipts_of_while_the_senders_host_was_down_arrive(stack: Stack) -> None:
    ann, bob = stack.device(ANN), stack.device(BOB)
    assert stack.host_of(ANN) != stack.host_of(BOB)
    await ann.welcome.wait()
    await bob.welcome.wait()
    await stack.kill_host(stack.host_of(ANN))
    ann.write(BOB.account)
    await until(lambda: bob.shown)
    await stack.start_host(stack.host_of(ANN))
    await until(lambda: not ann.undelivered)
    assert ann.connections == 1


async def test_a_device_that_came_back_while_its_host_was_down_is_not_sent_away_for_good(
    stack: Stack,
) -> None:
    """Its old connection is silently dead, and the gateway does not know yet."""
    old = await stack.welcomed(BOB)
    await stack.kill_host(stack.host_of(BOB))
    bob = stack.device(BOB)
    await until(lambda: len(stack.gateway._sockets) == 2)
    await stack.start_host(stack.host_of(BOB))
    ann = stack.device(ANN)
    ann.write(BOB.account)
    await check({ANN.account: ann, BOB.account: bob})
    assert (await old.end())[1] == "replaced"


@pytest.mark.usefixtures("any_disk")
async def test_a_killed_gateway_loses_nothing(stack: Stack) -> None:
    devices = {person.account: stack.device(person) for person in stack.persons[:3]}
    for device in devices.values():
        await device.welcome.wait()
    for _ in range(3):
        for device in devices.values():
            for account in devices:
                if account != device.person.account:
                    for _ in range(20):
                        device.write(account)
        await asyncio.sleep(0.01)
        await stack.kill_gateway()
        await stack.start_gateway()
    await check(devices)


async def test_an_answer_for_a_dead_gateway_reaches_no_session_of_the_next(stack: Stack) -> None:
    """A turn that takes long is answered to the gateway that has come in the meantime."""
    host = stack.hosts[stack.host_of(BOB)]
    commit = host._store.commit
    full = True

    async def failing(writes: Writes) -> None:
        if full:
            raise StoreError("The disk is full.")
        await commit(writes)

    ann = await stack.welcomed(ANN)
    host._store.commit = failing  # type: ignore[method-assign]
    await ann.say(send(BOB, 1))
    await until(lambda: host.failed)
    await stack.kill_gateway()
    await stack.start_gateway()
    cay = stack.device(CAY)
    await cay.welcome.wait()
    full = False
    await until(lambda: stack.host_metrics[stack.host_of(BOB)].accepted == 1)
    cay.write(BOB.account)
    await until(lambda: not cay.unsettled)
    assert cay.complaints == []


async def test_a_full_disk_delays_and_loses_nothing(stack: Stack) -> None:
    host = stack.hosts[stack.host_of(BOB)]
    commit = host._store.commit
    fails = 3

    async def failing(writes: Writes) -> None:
        nonlocal fails
        if fails:
            fails -= 1
            raise StoreError("The disk is full.")
        await commit(writes)

    devices = {person.account: stack.device(person) for person in (ANN, BOB)}
    for device in devices.values():
        await device.welcome.wait()
    host._store.commit = failing  # type: ignore[method-assign]
    for _ in range(10):
        devices[ANN.account].write(BOB.account)
        devices[BOB.account].write(ANN.account)
    await until(lambda: not fails)
    await check(devices)


async def test_an_event_the_rules_cannot_bear_stops_nobody_else(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when the store fails as well."""
    host = stack.hosts[stack.host_of(BOB)]
    handle, commit = User.handle, host._store.commit
    fails = 1

    def unbearable(user: User, event: Event, now: int) -> list[Effect]:
        if isinstance(event, Incoming) and event.id == 2 and event.sender == CAY.account:
            raise RuntimeError("a fault in the rules")
        return handle(user, event, now)

    async def failing(writes: Writes) -> None:
        nonlocal fails
        if fails:
            fails -= 1
            raise StoreError("The disk is full.")
        await commit(writes)

    cay, dan = stack.device(CAY), stack.device(DAN)
    for device in (cay, dan):
        await device.welcome.wait()
    with monkeypatch.context() as patch:
        patch.setattr(User, "handle", unbearable)
        patch.setattr(host._store, "commit", failing)
        for _ in range(5):
            cay.write(BOB.account)
            dan.write(BOB.account)
        await until(lambda: not dan.unsettled and not fails and host._metrics.failed_turns)
    await cay.break_connection()
    bob = stack.device(BOB)
    await check({device.person.account: device for device in (bob, cay, dan)})


async def test_a_user_with_a_fault_waits_for_what_is_on_its_way_to_the_disk(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded anew, and so must know what it said before: else ids seem to be missing."""
    host = stack.hosts[stack.host_of(BOB)]
    handle, commit = User.handle, host._store.commit
    gate = asyncio.Event()
    commits = 0

    def unbearable(user: User, event: Event, now: int) -> list[Effect]:
        if isinstance(event, Incoming) and event.id == 2 and event.sender == CAY.account:
            raise RuntimeError("a fault in the rules")
        return handle(user, event, now)

    async def slow(writes: Writes) -> None:
        nonlocal commits
        commits += 1
        await gate.wait()
        gate.clear()
        await commit(writes)

    cay, dan = await stack.welcomed(CAY), await stack.welcomed(DAN)
    with monkeypatch.context() as patch:
        patch.setattr(User, "handle", unbearable)
        patch.setattr(host._store, "commit", slow)
        await cay.say(send(BOB, 1) + send(BOB, 2))
        await until(lambda: commits == 1)
        before = host.turns.waiting
        await dan.say(send(BOB, 1))
        await until(lambda: host.turns.waiting > before)
        gate.set()
        await until(lambda: commits == 2)
        await dan.say(send(BOB, 2))
        await asyncio.sleep(0.05)
        for _ in range(3):
            gate.set()
            await asyncio.sleep(0.05)
        gate.set()
    await dan.hear(frames.Sent, 2)
    assert not [frame for frame in dan.heard if isinstance(frame, frames.Refused)]


async def test_a_drained_gateway_says_goodbye(stack: Stack) -> None:
    wire = await stack.welcomed(ANN)
    draining = asyncio.create_task(stack.gateway.drain())
    assert await wire.end() == (Close.GOING_AWAY, "going-away")
    goodbye = next(frame for frame in wire.heard if isinstance(frame, Goodbye))
    assert 0 < goodbye.min_ms < goodbye.max_ms
    await draining
    await stack.start_gateway()
    await works(stack)
