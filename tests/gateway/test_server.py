"""The gateway with hosts behind it: whatever a device says, whatever dies, nothing is lost."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.cluster import host as host_module
from raychat.config import Placement
from raychat.errors import BY_CODE, StoreError
from raychat.gateway import server as gateway_server
from raychat.gateway.session import Budget
from raychat.gateway.socket import DeviceSocket
from raychat.ids import PRIMARY, account_text
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import Effect, Event, Incoming
from raychat.users.user import User
from raychat.wire import frames
from raychat.wire.frames import Close, Goodbye, Kind, Part
from tests.faults.checker import check
from tests.people import Person, people
from tests.stack import GATEWAY, Stack, Wire, hello, send, until

ANN, CAY, BOB, DAN = people(4)
"""With two hosts, Bob lives on host-0 and the others on host-1."""


async def works(stack: Stack) -> None:
    """Two devices that have done nothing so far exchange messages."""
    cay, dan = stack.device(CAY), stack.device(DAN)
    cay.write(DAN.account)
    dan.write(CAY.account)
    await check({CAY.account: cay, DAN.account: dan}, 10)


def pack(*fields: object) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def hello_fields(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "type": 1,
        "version": 1,
        "account": ANN.account,
        "device": 1,
        "token": bytes(ANN.token),
        "seen": 0,
        "failed": [],
        "revision": 0,
    }
    return pack(*(fields | changes).values())


def send_parts(*parts: object, to: object = BOB.account, number: object = 1) -> bytes:
    return pack(2, to, number, parts)


# -- what cannot be understood ---------------------------------------------------------------

WRONG_FIRST = {
    "noise": (b"\xc1\xc1\xc1", Close.MALFORMED, "malformed"),
    "a number": (b"\x07", Close.MALFORMED, "malformed"),
    "an empty array": (b"\x90", Close.MALFORMED, "malformed"),
    "a map": (b"\x80", Close.MALFORMED, "malformed"),
    "a frame cut short": (hello(ANN)[:-3], Close.MALFORMED, "malformed"),
    "a frame with a field missing": (pack(1, 1, ANN.account), Close.MALFORMED, "malformed"),
    "an account of 15 bytes": (hello_fields(account=b"a" * 15), Close.MALFORMED, "malformed"),
    "device 0": (hello_fields(device=0), Close.MALFORMED, "malformed"),
    "device 128": (hello_fields(device=128), Close.MALFORMED, "malformed"),
    "a device that is true": (hello_fields(device=True), Close.MALFORMED, "malformed"),
    "a token of text": (hello_fields(token="t" * 32), Close.MALFORMED, "malformed"),
    "a number below 0": (hello_fields(seen=-1), Close.MALFORMED, "malformed"),
    "a number of 2^64-1": (hello_fields(seen=2**64 - 1), Close.MALFORMED, "malformed"),
    "too many failed": (hello_fields(failed=[1] * 1025), Close.MALFORMED, "malformed"),
    "nested for ever": (b"\x91" * 5_000, Close.MALFORMED, "malformed"),
    "an array of 2^32-1": (b"\xdd\xff\xff\xff\xff", Close.MALFORMED, "malformed"),
    "version 2": (hello_fields(version=2), Close.UNSUPPORTED, "unsupported"),
    "an unknown type": (pack(9, 1), Close.UNSUPPORTED, "unsupported"),
    "a type of the server": (pack(16, 1, 1, 1, 0, 0, 0), Close.UNSUPPORTED, "unsupported"),
    "a type of text": (pack("hello"), Close.UNSUPPORTED, "unsupported"),
    "a send": (send(BOB, 1), Close.MALFORMED, "out-of-order"),
    "an ack": (frames.pack_ack(0), Close.MALFORMED, "out-of-order"),
    "hello twice": (hello(ANN) * 2, Close.MALFORMED, "out-of-order"),
    "a send before the welcome": (hello(ANN) + send(BOB, 1), Close.MALFORMED, "out-of-order"),
    "a frame too many": (pack(3, 0, []) * 1025, Close.MALFORMED, "too-large"),
}


@pytest.mark.parametrize("wrong", WRONG_FIRST)
async def test_a_first_message_that_is_wrong_ends_in_a_typed_goodbye(
    stack: Stack, wrong: str
) -> None:
    data, close, code = WRONG_FIRST[wrong]
    wire = await stack.wire()
    await wire.say(data)
    assert await wire.end() == (close, code)
    await works(stack)


PART = (1, 1, 2, b"hi")
WRONG_LATER = {
    "hello again": (hello(ANN), Close.MALFORMED, "out-of-order"),
    "an unknown type": (pack(4), Close.UNSUPPORTED, "unsupported"),
    "id 0": (send_parts(PART, number=0), Close.MALFORMED, "malformed"),
    "an id of 2^40": (send_parts(PART, number=2**40), Close.MALFORMED, "malformed"),
    "a recipient of text": (send_parts(PART, to="b" * 16), Close.MALFORMED, "malformed"),
    "no parts": (send_parts(), Close.MALFORMED, "malformed"),
    "too many parts": (send_parts(*[PART] * 128), Close.MALFORMED, "malformed"),
    "a part that is a number": (send_parts(1), Close.MALFORMED, "malformed"),
    "a part with a field more": (send_parts((*PART, 0)), Close.MALFORMED, "malformed"),
    "a body of text": (send_parts((1, 1, 2, "hi")), Close.MALFORMED, "malformed"),
    "a body too large": (send_parts((1, 1, 2, bytes(98_305))), Close.MALFORMED, "too-large"),
    "an ack of text": (pack(3, "all", []), Close.MALFORMED, "malformed"),
    "an ack of what never came": (frames.pack_ack(1), Close.MALFORMED, "ack-ahead"),
    "a frame cut short": (send(BOB, 1)[:-1], Close.MALFORMED, "malformed"),
}


@pytest.mark.parametrize("wrong", WRONG_LATER)
async def test_a_later_message_that_is_wrong_ends_in_a_typed_goodbye(
    stack: Stack, wrong: str
) -> None:
    data, close, code = WRONG_LATER[wrong]
    wire = await stack.welcomed(ANN)
    await wire.say(data)
    assert await wire.end() == (close, code)
    await works(stack)


async def test_the_frames_before_a_wrong_one_count(stack: Stack) -> None:
    wire = await stack.welcomed(ANN)
    await wire.say(send(BOB, 1, b"first") + send_parts(PART, number=0))
    assert await wire.end() == (Close.MALFORMED, "malformed")
    bob = await stack.welcomed(BOB)
    assert [e.body for e in await bob.hear(frames.Envelope)] == [b"first"]
    again = await stack.welcomed(ANN)
    await again.say(send(BOB, 1, b"first"))
    assert (await again.hear(frames.Sent))[0].id == 1


async def test_fields_that_a_later_version_adds_are_ignored(stack: Stack) -> None:
    wire = await stack.wire()
    await wire.say(pack(*msgpack.unpackb(hello(ANN)), "more"))
    await wire.hear(frames.Welcome)
    await wire.say(pack(*msgpack.unpackb(send(BOB, 1)), "more"))
    await wire.hear(frames.Sent)


async def test_text_is_refused(stack: Stack) -> None:
    wire = await stack.wire()
    await wire.say_text("hello")
    assert await wire.end() == (Close.MALFORMED, "malformed")


async def test_a_socket_without_the_subprotocol_is_refused(stack: Stack) -> None:
    for protocol in (None, "raychat.v2"):
        wire = await stack.wire(protocol)
        assert await wire.end() == (Close.UNSUPPORTED, "unsupported")


async def test_a_message_far_over_the_limit_is_refused_before_it_is_read(stack: Stack) -> None:
    for size in (limits.FRAME_BYTES + 1, limits.FRAME_BYTES * 4):
        wire = await stack.welcomed(ANN)
        await wire.say(bytes(size))
        assert await wire.end() == (aiohttp.WSCloseCode.MESSAGE_TOO_BIG, "")
    await works(stack)


async def test_a_message_of_just_the_limit_is_taken(stack: Stack) -> None:
    wire = await stack.welcomed(ANN)
    data = b"".join(send(BOB, number, bytes(70_000)) for number in (1, 2, 3))
    head = len(send(BOB, 4, bytes(50_000))) - 50_000
    await wire.say(data + send(BOB, 4, bytes(limits.FRAME_BYTES - len(data) - head)))
    await wire.hear(frames.Sent, 4)


# -- who is there ----------------------------------------------------------------------------


async def test_a_bad_token_and_an_unknown_account_get_the_same_answer(stack: Stack) -> None:
    for person, token in ((ANN, b"x" * 32), (Person("nobody"), None)):
        wire = await stack.wire()
        await wire.say(hello(person, token=token))
        assert await wire.end() == (Close.BAD_TOKEN, "bad-token")


@pytest.fixture
async def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A stack whose gateway looks after its sockets often, and waits a short time for hello."""
    monkeypatch.setattr(gateway_server, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(limits, "HELLO_SECONDS", 0.3)
    async with Stack(tmp_path, people(4), hosts=2) as stack:
        yield stack


async def test_a_socket_that_does_not_say_hello_is_closed(hasty: Stack) -> None:
    wire = await hasty.wire()
    assert await wire.end() == (Close.NO_HELLO, "timeout")


async def test_pings_do_not_stand_in_for_hello(hasty: Stack) -> None:
    wire = await hasty.wire()
    ended = asyncio.create_task(wire.end())
    async with asyncio.timeout(3):
        while not ended.done():
            await wire.ping()
            await asyncio.sleep(0.05)
    assert await ended == (Close.NO_HELLO, "timeout")


async def test_hello_to_a_host_that_is_down_says_come_back(hasty: Stack) -> None:
    await hasty.kill_host(hasty.host_of(ANN))
    wire = await hasty.wire()
    await wire.say(hello(ANN))
    assert await wire.end() == (Close.OVERLOADED, "unavailable")
    await hasty.start_host(hasty.host_of(ANN))
    await works(hasty)


async def test_a_second_connection_replaces_the_first_which_is_told(stack: Stack) -> None:
    first = await stack.welcomed(BOB)
    second = await stack.welcomed(BOB)
    assert await first.end() == (Close.REPLACED, "replaced")
    ann = await stack.welcomed(ANN)
    await ann.say(send(BOB, 1))
    assert (await second.hear(frames.Envelope))[0].id == 1


async def test_a_welcome_says_what_waits_and_what_was_acknowledged(stack: Stack) -> None:
    ann = await stack.welcomed(ANN)
    await ann.say(b"".join(send(BOB, number) for number in (1, 2, 3)))
    await until(lambda: stack.host_metrics[stack.host_of(BOB)].accepted == 3)
    bob = await stack.welcomed(BOB)
    await bob.hear(frames.Envelope, 3)
    await bob.say(frames.pack_ack(2))
    receipts = await ann.hear(frames.Receipt)
    assert receipts[0].ranges == [1, 2]
    again = await stack.welcomed(BOB, seen=2)
    welcome = (await again.hear(frames.Welcome))[0]
    assert (welcome.cursor, welcome.head) == (2, 3)
    assert [e.number for e in await again.hear(frames.Envelope)] == [3]


# -- message ids -----------------------------------------------------------------------------


async def test_what_is_wrong_with_a_message_is_said_and_the_connection_goes_on(
    stack: Stack,
) -> None:
    wire = await stack.welcomed(ANN)
    stranger = Person("nobody")
    two_parts = [Part(PRIMARY, 1, Kind.MESSAGE, b"hi")] * 2
    await wire.say(send(BOB, 1, b"one"))
    await wire.say(send(BOB, 1, b"another"))
    await wire.say(send(BOB, 3, b"three"))
    await wire.say(send(stranger, 1))
    await wire.say(frames.pack_send(frames.Send(CAY.account, frames.MessageId(1), two_parts)))
    refused = await wire.hear(frames.Refused, 4)
    assert {(r.to, r.id, r.code, r.retryable) for r in refused} == {
        (BOB.account, 1, "id-conflict", False),
        (BOB.account, 3, "id-gap", True),
        (stranger.account, 1, "not-found", False),
        (CAY.account, 1, "device-list", True),
    }
    bob = await stack.welcomed(BOB)
    assert [e.body for e in await bob.hear(frames.Envelope)] == [b"one"]
    await wire.say(send(BOB, 2, b"two"))
    assert [e.body for e in await bob.hear(frames.Envelope, 2)] == [b"one", b"two"]


async def test_a_repeated_message_is_acknowledged_again_and_shown_once(stack: Stack) -> None:
    wire = await stack.welcomed(ANN)
    for _ in range(3):
        await wire.say(send(BOB, 1))
    assert [sent.id for sent in await wire.hear(frames.Sent, 3)] == [1, 1, 1]
    bob = await stack.welcomed(BOB)
    await wire.say(send(BOB, 2))
    assert [e.id for e in await bob.hear(frames.Envelope, 2)] == [1, 2]


async def test_an_id_of_long_ago_is_refused(stack: Stack) -> None:
    wire = await stack.welcomed(ANN)
    await wire.say(b"".join(send(BOB, number) for number in range(1, 34)))
    await wire.say(send(BOB, 1))
    assert (await wire.hear(frames.Refused))[0].code == "id-stale"


async def test_an_ack_ahead_in_hello_loses_nothing(stack: Stack) -> None:
    ann = await stack.welcomed(ANN)
    await ann.say(send(BOB, 1))
    await ann.hear(frames.Sent)
    wire = await stack.wire()
    await wire.say(hello(BOB, seen=2))
    assert await wire.end() == (Close.MALFORMED, "ack-ahead")
    bob = await stack.welcomed(BOB)
    assert (await bob.hear(frames.Envelope))[0].number == 1


# -- much at once ----------------------------------------------------------------------------


async def test_a_large_inbox_comes_in_messages_within_the_limit(stack: Stack) -> None:
    ann = await stack.welcomed(ANN)
    for number in range(1, 31):
        await ann.say(send(BOB, number, bytes(30_000)))
    await until(lambda: stack.host_metrics[stack.host_of(BOB)].accepted == 30)
    bob = await stack.welcomed(BOB)
    assert [e.id for e in await bob.hear(frames.Envelope, 30)] == list(range(1, 31))
    assert bob.largest <= limits.FRAME_BYTES


async def test_a_rate_limited_sender_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    async with Stack(tmp_path, [ANN, BOB], budget=Budget(5, 50)) as stack:
        ann, bob = stack.device(ANN), stack.device(BOB)
        for _ in range(40):
            ann.write(BOB.account)
        await check({ANN.account: ann, BOB.account: bob}, 20)
        assert "rate-limited" in ann.refusals
        assert stack.gateway_metrics.refused > 0


def newest(stack: Stack) -> DeviceSocket:
    """The gateway's side of the latest connection."""
    return stack.gateway._sockets[max(stack.gateway._sockets)]


async def deaf(stack: Stack, person: Person) -> tuple[aiohttp.ClientSession, Wire]:
    """A device that reads nothing more than its kernel's smallest buffer takes."""

    def small(address: Any) -> socket.socket:
        made = socket.socket(address[0], address[1], address[2])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        return made

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=small))
    wire = Wire(
        await session.ws_connect(
            f"{stack.url}/v1/socket",
            protocols=(frames.SUBPROTOCOL,),
            compress=0,
            max_msg_size=0,
            autoping=False,
        )
    )
    await wire.say(hello(person))
    await wire.hear(frames.Welcome)
    device = newest(stack)
    device.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return session, wire


async def gone(device: DeviceSocket) -> None:
    """Its socket ends although what was said last has never been read."""
    assert device.transport.is_closing()
    made = device.transport.get_extra_info("socket")
    await until(lambda: made.fileno() == -1)


async def test_a_slow_reader_is_closed_and_its_inbox_is_intact(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_BUDGET_BYTES", 100_000)
    session, wire = await deaf(stack, BOB)
    ann = await stack.welcomed(ANN)
    for number in range(1, 31):
        await ann.say(send(BOB, number, bytes(30_000)))
    await ann.hear(frames.Sent, 30)
    assert (await wire.end())[0] == Close.SLOW_READER
    await session.close()
    bob = await stack.welcomed(BOB)
    assert [e.id for e in await bob.hear(frames.Envelope, 30)] == list(range(1, 31))


async def test_answers_to_a_device_that_does_not_read_are_bounded(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_BUDGET_BYTES", 20_000)
    monkeypatch.setattr(limits, "CLOSE_SECONDS", 0.2)
    session, wire = await deaf(stack, BOB)
    device = newest(stack)
    most = 0
    for _ in range(5_000):
        try:
            await wire.ping(bytes(125))
        except (ConnectionError, aiohttp.ClientError):
            break
        most = max(most, device.transport.get_write_buffer_size())
    assert most < 40_000
    await until(lambda: not device.open)
    await gone(device)
    await session.close()
    await works(stack)


async def test_refusals_to_a_device_that_does_not_read_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_BUDGET_BYTES", 20_000)
    monkeypatch.setattr(limits, "CLOSE_SECONDS", 0.2)
    async with Stack(tmp_path, people(4), budget=Budget(1, 0.001)) as stack:
        session, wire = await deaf(stack, BOB)
        device = newest(stack)
        most = 0
        for _ in range(200):
            try:
                await wire.say(send(ANN, 1, b"") * 100)
            except (ConnectionError, aiohttp.ClientError):
                break
            await asyncio.sleep(0)
            most = max(most, device.transport.get_write_buffer_size())
        assert most < 60_000
        await until(lambda: not device.open)
        await gone(device)
        await session.close()


async def test_a_full_link_stops_reading_of_its_senders(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINK_WINDOW_BYTES", 50_000)
    ann, bob = stack.device(ANN), stack.device(BOB)
    await ann.welcome.wait()
    link = stack.gateway._links.get(stack.host_of(BOB))
    assert link is not None
    await stack.kill_host(stack.host_of(BOB))
    for _ in range(32):
        ann.write(BOB.account, bytes(5_000))
    await until(lambda: link.full)
    await asyncio.sleep(0.2)
    assert link.unsettled < 50_000 + 2 * 5_200
    await stack.start_host(stack.host_of(BOB))
    await check({ANN.account: ann, BOB.account: bob})
    assert ann.connections == 2  # the checker's


async def test_a_gateway_that_does_not_take_what_it_is_sent_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host drops what it has sent; the gateway learns so and attaches its devices again."""
    monkeypatch.setattr(host_module, "SWEEP_SECONDS", 0.05)
    async with Stack(tmp_path, people(4), hosts=2) as stack:
        ann = stack.device(ANN)
        for _ in range(30):
            ann.write(BOB.account, bytes(20_000))
        await until(lambda: ann.outboxes and not ann.unsettled)
        monkeypatch.setattr(limits, "LINK_WINDOW_BYTES", 50_000)
        link = stack.gateway._links.get(stack.host_of(BOB))
        back = stack.hosts[stack.host_of(BOB)]._links.get(GATEWAY)
        assert link is not None
        assert link._connection is not None
        assert back is not None
        transport = link._connection._transport
        assert transport is not None
        transport.pause_reading()
        bob = stack.device(BOB)
        await until(lambda: back.incarnation)
        await check({ANN.account: ann, BOB.account: bob}, 20)


# -- what dies -------------------------------------------------------------------------------


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


# -- HTTP ------------------------------------------------------------------------------------


def bearer(account: str, device: object, token: bytes) -> dict[str, str]:
    encoded = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    return {"Authorization": f"Bearer {account}.{device}.{encoded}"}


def own(person: Person) -> dict[str, str]:
    return bearer(account_text(person.account), 1, person.token)


async def typed(response: aiohttp.ClientResponse) -> str:
    """The code of a typed error."""
    body = await response.json()
    assert body.keys() == {"error", "detail", "retryable"}, body
    assert body["error"] in BY_CODE
    assert isinstance(body["detail"], str)
    assert isinstance(body["retryable"], bool)
    return str(body["error"])


CODE, HALF = b'{"code":"1"}', b'{"code":"\\ud800"}'
WRONG_CALLS = {
    "an unknown path": ("GET", "/v1/nothing", None, 404, "not-found"),
    "a wrong method": ("DELETE", "/v1/keys", None, 404, "not-found"),
    "no JSON": ("POST", "/v1/registrations", b"{", 400, "malformed"),
    "JSON nested for ever": ("POST", "/v1/registrations", b"[" * 100_000, 400, "malformed"),
    "JSON that is a list": ("POST", "/v1/registrations", b"[]", 400, "malformed"),
    "no number": ("POST", "/v1/registrations", b"{}", 400, "malformed"),
    "half a character": ("POST", "/v1/registrations", b'{"number":"\\ud800"}', 400, "bad-number"),
    "no phone number": ("POST", "/v1/registrations", b'{"number":"123"}', 400, "bad-number"),
    "too much": ("POST", "/v1/registrations", bytes(1024 * 1024 + 1), 413, "too-large"),
    "no registration": ("POST", "/v1/registrations/x/code", CODE, 410, "code-expired"),
    "half a digit": ("POST", "/v1/registrations/x/code", HALF, 410, "code-expired"),
    "no keys": ("POST", "/v1/registrations/x/device", b"{}", 400, "malformed"),
    "no token": ("GET", "/v1/keys", None, 401, "bad-token"),
    "no token for a lookup": ("POST", "/v1/lookup", b"{}", 401, "bad-token"),
    "no token for a list": ("PUT", "/v1/devices", b"{}", 401, "bad-token"),
    "no token to leave": ("DELETE", "/v1/devices/self", None, 401, "bad-token"),
    "no token for blocks": ("PUT", "/v1/blocks", b"{}", 401, "bad-token"),
    "no token for another": ("POST", "/v1/token", None, 401, "bad-token"),
    "no token for a link": ("GET", "/v1/links/0011223344", None, 401, "bad-token"),
    "no link token": ("GET", "/v1/links/0011223344/message", None, 401, "bad-token"),
    "no id of a link": ("POST", "/v1/links", b'{"request":""}', 400, "malformed"),
    "no link request": ("POST", "/v1/links", b'{"id":"0011223344"}', 400, "malformed"),
}


@pytest.mark.parametrize("wrong", WRONG_CALLS)
async def test_a_wrong_call_gets_a_typed_error(stack: Stack, wrong: str) -> None:
    method, path, body, status, code = WRONG_CALLS[wrong]
    data = io.BytesIO(body) if body else None
    async with stack.http.request(method, stack.url + path, data=data) as response:
        assert (response.status, await typed(response)) == (status, code)


async def test_a_socket_that_is_no_websocket_is_a_bad_request(stack: Stack) -> None:
    async with stack.http.get(f"{stack.url}/v1/socket") as response:
        assert response.status == 400


async def test_an_unknown_character_set_is_malformed(stack: Stack) -> None:
    headers = {"Content-Type": "application/json; charset=klingon"}
    url = f"{stack.url}/v1/registrations"
    async with stack.http.post(url, data=b"{}", headers=headers) as response:
        assert (response.status, await typed(response)) == (400, "malformed")


@pytest.mark.parametrize("device", ["0", "128", "-1", "9" * 30, "1.1", "x", ""])
async def test_a_device_that_cannot_be_is_a_bad_token_and_harms_no_link(
    stack: Stack, device: str
) -> None:
    headers = bearer(account_text(ANN.account), device, ANN.token)
    async with stack.http.get(f"{stack.url}/v1/keys", headers=headers) as response:
        assert (response.status, await typed(response)) == (401, "bad-token")
    await works(stack)


async def test_health_says_whether_the_hosts_can_be_reached(stack: Stack) -> None:
    async with stack.http.get(f"{stack.url}/health") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "ok"
    await stack.kill_host("host-1")
    link = stack.gateway._links.get("host-1")
    assert link is not None
    await until(lambda: not link.connected)
    async with stack.http.get(f"{stack.url}/health") as response:
        assert response.status == 503
        assert await response.json() | {"status": "degraded", "hosts_connected": 1} == (
            await response.json()
        )


async def test_with_dedicated_placement_a_stranger_leaves_no_trace(tmp_path: Path) -> None:
    """Whoever asks for an account that has no host makes no link and spoils no health."""
    async with Stack(tmp_path, placement=Placement.DEDICATED) as stack:
        wire = await stack.wire()
        await wire.say(hello(ANN))
        assert await wire.end() == (Close.OVERLOADED, "unavailable")
        async with stack.http.get(f"{stack.url}/v1/keys", headers=own(ANN)) as response:
            assert (response.status, await typed(response)) == (503, "unavailable")
        assert stack.gateway._links.all() == []
        async with stack.http.get(f"{stack.url}/health") as response:
            assert response.status == 200


# -- noise -----------------------------------------------------------------------------------

BOUNDED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
    | st.floats(allow_nan=False)
)
flat = scalars | st.lists(scalars, max_size=5) | st.dictionaries(st.text(max_size=3), scalars)
values = flat | st.lists(flat, max_size=5)
almost_frames = st.lists(values, min_size=1, max_size=9).map(
    lambda fields: msgpack.packb([fields[0] if fields else 1, *fields[1:]])
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good message in which something is changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from([hello(ANN), send(BOB, 1), frames.pack_ack(0)])))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


noise = st.binary(max_size=300) | almost_frames | spoiled()


@BOUNDED
@given(first=st.lists(noise, max_size=3), later=st.lists(noise, max_size=4))
async def test_noise_on_the_socket_gets_typed_errors_only(
    stack: Stack, first: list[bytes], later: list[bytes]
) -> None:
    strange = await stack.wire()
    known = await stack.welcomed(ANN)
    for wire, said in ((strange, first), (known, later)):
        for data in (*said, b"\xc1"):
            try:
                await wire.say(data)
            except (ConnectionError, aiohttp.ClientError):
                break
        close, code = await wire.end()
        assert close in set(Close)
        assert code in BY_CODE
    welcome = await stack.welcomed(ANN)
    await welcome.hang_up()


@BOUNDED
@given(
    call=st.sampled_from(sorted({(method, path) for method, path, *_ in WRONG_CALLS.values()})),
    body=st.binary(max_size=100)
    | values.map(lambda value: json.dumps(value, default=str).encode()),
    authorization=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
)
@example(call=("GET", "/v1/keys"), body=b"", authorization="Bearer ..")
async def test_noise_on_the_api_gets_typed_errors_only(
    stack: Stack, call: tuple[str, str], body: bytes, authorization: str
) -> None:
    method, path = call
    headers = {"Authorization": authorization}
    async with stack.http.request(method, stack.url + path, data=body, headers=headers) as answer:
        assert 400 <= answer.status < 500
        await typed(answer)
