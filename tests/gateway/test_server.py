"""The gateway with hosts behind it: whatever a device says and however much, nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from raychat import limits
from raychat.cluster import host as host_module
from raychat.gateway import server as gateway_server
from raychat.gateway.session import Budget
from raychat.gateway.socket import DeviceSocket
from raychat.ids import PRIMARY
from raychat.wire import frames
from raychat.wire.frames import Close, Kind, Part
from tests.faults.checker import check
from tests.gateway.talk import ANN, BOB, CAY, hello_fields, pack, send_parts, works
from tests.people import Person, people
from tests.stack import GATEWAY, Stack, Wire, hello, send, until

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
    "too many failed": (hello_fields(untold=[1] * 1025), Close.MALFORMED, "malformed"),
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
