"""Links over real Unix sockets: order, resumption, proof, windows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raychat import limits
from raychat.cluster.link import Link, Links
from raychat.errors import Timeout
from raychat.ids import Secret

SECRET = Secret(b"s" * 32)


class End:
    """One process's end of its only link, and what came over it."""

    def __init__(self, name: str, folder: Path, secret: Secret = SECRET) -> None:
        self.links = Links(name, folder, secret)
        self.got: list[object] = []
        self.restarts = 0
        self.auto_done = True
        self.last = 0
        self.link: Link | None = None

    def make(self, name: str) -> Link:
        self.link = Link(name, self.on_items, self.on_restart)
        return self.link

    def on_items(self, link: Link, items: list, sequence: int) -> None:
        self.got += [item[0] for item in items]
        self.last = sequence
        if self.auto_done:
            link.done(sequence)

    def on_restart(self, _link: Link) -> None:
        self.restarts += 1


async def until(condition, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[End, End]]:
    host, gateway = End("host-0", tmp_path), End("gateway-0", tmp_path)
    await host.links.listen(host.make)
    gateway.links.dial("host-0", gateway.make)
    await until(lambda: gateway.link.connected)
    yield host, gateway
    await gateway.links.close()
    await host.links.close()


async def test_items_arrive_in_order_both_ways(pair) -> None:
    host, gateway = pair
    for number in range(100):
        gateway.link.send((number,))
    await until(lambda: len(host.got) == 100)
    host.link.send(("back",))
    await until(lambda: gateway.got == ["back"])
    assert host.got == list(range(100))
    await until(lambda: gateway.link.unsettled == 0)


async def test_what_one_turn_sends_is_one_batch(pair) -> None:
    host, gateway = pair
    for number in range(50):
        gateway.link.send((number,))
    await until(lambda: len(host.got) == 50)
    assert host.last == 1


async def test_a_broken_connection_loses_and_doubles_nothing(pair) -> None:
    host, gateway = pair
    for number in range(30):
        gateway.link.send((number,))
        if number % 7 == 3:
            gateway.link._connection.abort()
        if number % 7 == 5 and host.link is not None and host.link._connection:
            host.link._connection.abort()
        await asyncio.sleep(0.003)
    await until(lambda: len(host.got) >= 30)
    assert host.got == list(range(30))
    assert host.restarts == 0


async def test_what_is_not_done_is_sent_again_to_a_new_process(pair, tmp_path) -> None:
    host, gateway = pair
    host.auto_done = False
    gateway.link.send(("kept",))
    await until(lambda: host.got == ["kept"])
    await host.links.close()
    again = End("host-0", tmp_path)
    await again.links.listen(again.make)
    await until(lambda: again.got == ["kept"])
    assert gateway.restarts == 1
    await until(lambda: gateway.link.unsettled == 0)
    await again.links.close()


async def test_who_does_not_know_the_secret_is_not_heard(tmp_path) -> None:
    host, stranger = End("host-0", tmp_path), End("gateway-9", tmp_path, Secret(b"x" * 32))
    await host.links.listen(host.make)
    stranger.links.dial("host-0", stranger.make).send(("evil",))
    await asyncio.sleep(0.3)
    assert host.got == []
    assert host.link is None
    await stranger.links.close()
    await host.links.close()


async def test_a_full_window_pushes_back_until_the_other_side_is_done(pair) -> None:
    host, gateway = pair
    host.auto_done = False
    gateway.link.send((bytes(10),), limits.LINK_WINDOW_BYTES + 1)
    assert gateway.link.full
    with pytest.raises(Timeout):
        await gateway.link.room(0.05)
    await until(lambda: host.last == 1)
    host.link.done(1)
    await gateway.link.room(2)
    assert not gateway.link.full


async def test_closing_ends_connections_that_have_not_greeted_too(tmp_path) -> None:
    host = End("host-0", tmp_path)
    await host.links.listen(host.make)
    reader, writer = await asyncio.open_unix_connection(str(host.links.socket("host-0")))
    await until(lambda: host.links.connections)
    await host.links.close()
    assert not host.links.connections
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    await writer.wait_closed()


async def test_garbage_on_the_socket_ends_that_connection_only(pair) -> None:
    host, gateway = pair
    _, writer = await asyncio.open_unix_connection(str(host.links.socket("host-0")))
    writer.write(b"\x00\x00\x00\x05garbage" * 100)
    await asyncio.sleep(0.1)
    gateway.link.send(("fine",))
    await until(lambda: host.got == ["fine"])
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_two_processes_that_dial_each_other_settle_on_one_connection(tmp_path) -> None:
    one, two = End("host-0", tmp_path), End("host-1", tmp_path)
    await one.links.listen(one.make)
    await two.links.listen(two.make)
    one.links.dial("host-1", one.make)
    two.links.dial("host-0", two.make)
    await until(lambda: one.link.connected and two.link.connected)
    await asyncio.sleep(0.1)  # the two may have met half-way
    connections = set()
    for number in range(50):
        connections.add(one.link._connection)
        one.link.send((number,))
        two.link.send((number,))
        await asyncio.sleep(0.005)
    assert len(connections) == 1
    await until(lambda: len(one.got) == len(two.got) == 50)
    assert one.got == two.got == list(range(50))
    await one.links.close()
    await two.links.close()


@pytest.mark.parametrize(
    "item", [(2**80,), ("\ud800",), (object(),)], ids=["large", "half", "object"]
)
async def test_what_cannot_be_packed_is_left_out_and_stops_nothing(pair, item) -> None:
    host, gateway = pair
    gateway.link.send(("before",))
    gateway.link.send(item)
    gateway.link.send(("behind",))
    await until(lambda: host.got == ["before", "behind"])
    gateway.link._connection.abort()
    gateway.link.send(("later",))
    await until(lambda: host.got == ["before", "behind", "later"])
    await until(lambda: gateway.link.unsettled == 0)


async def test_a_link_that_begins_anew_is_a_new_process_to_the_other_side(pair) -> None:
    host, gateway = pair
    host.link.send(("first",))
    await until(lambda: gateway.got == ["first"])
    gateway.link._connection._transport.pause_reading()
    host.link.send(("dropped",))
    await asyncio.sleep(0)
    host.link.begin_anew()
    host.link.send(("second",))
    gateway.link.send(("up",))
    await until(lambda: gateway.got[-1] == "second")
    assert gateway.restarts == 1
    assert host.restarts == 0
    await until(lambda: host.got == ["up"])


async def test_a_replaced_connection_is_not_heard(pair) -> None:
    host, gateway = pair
    gateway.link.send(("first",))
    await until(lambda: host.got == ["first"])
    old = host.link._connection
    gateway.link._connection.abort()
    await until(lambda: host.link.connected and host.link._connection is not old)
    host.link._receive(old, [40, 0, [["from the dead"]]])
    gateway.link.send(("second",))
    await until(lambda: len(host.got) == 2)
    assert host.got == ["first", "second"]
