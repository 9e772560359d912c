"""Linking over real sockets: both sides, what may go wrong, and the history that follows."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raychat.client.client import Client
from raychat.client.events import DeviceAdded, Feed, HistoryMoved
from raychat.client.model import State
from raychat.crypto import KeyPair
from raychat.crypto.linking import LinkCode, LinkRequest
from raychat.errors import (
    BadCode,
    BadMac,
    BadToken,
    Denied,
    LinkExpired,
    NotFound,
    NotRegistered,
    StoreError,
)
from tests.client.conftest import People
from tests.client.service import Service

ALICE, BOB = "+15550001111", "+15550002222"


@pytest.fixture
async def phone(people: People) -> AsyncIterator[Client]:
    async with await people.register(ALICE, "phone") as phone:
        yield phone


async def yes(request: LinkRequest) -> bool:
    return True


async def link(
    phone: Client,
    people: People,
    profile: str = "laptop",
    *,
    name: str = "Alice's laptop",
    history: bool = True,
) -> Client:
    """Link a device to the phone, as people do; the client is to be opened."""
    shown: asyncio.Queue[LinkCode] = asyncio.Queue()

    async def show(code: LinkCode, seconds: int) -> None:
        assert seconds == 60
        shown.put_nowait(code)

    async def primary() -> None:
        code = await shown.get()
        assert await phone.link(code.text, yes, history=history, delay=0) is not None

    answer = asyncio.create_task(primary())
    linked = await Client.link_this(
        show=show,
        name=name,
        platform="Linux",
        server=people.service.url,
        profile=profile,
        home=people.home,
    )
    await answer
    return linked


async def until(feed: Feed, kind: type) -> object:
    async with asyncio.timeout(10):
        async for event in feed:
            if isinstance(event, kind):
                return event
    raise AssertionError("the feed ended")


async def test_a_linked_device_sends_and_gets_as_the_account(people: People, phone: Client) -> None:
    bob = await people.register(BOB, "bob")
    feed = phone.events()
    laptop = await link(phone, people)
    assert isinstance(await until(feed, DeviceAdded), DeviceAdded)
    async with laptop, bob:
        assert (laptop.account, laptop.number) == (phone.account, ALICE)
        await bob.accept(phone.account)
        message = await laptop.send(BOB, "from the laptop")
        await message.delivered(10)
        answer = await bob.send(ALICE, "hello")
        await answer.sent(10)
        for _ in range(100):
            both = [[m.text for m in device.history()] for device in (phone, laptop)]
            if both == [["from the laptop", "hello"]] * 2:
                break
            await asyncio.sleep(0.05)
        assert both == [["from the laptop", "hello"]] * 2
        assert phone.account_key() == laptop.account_key() == bob.account_key(ALICE)


async def test_the_history_comes_along(people: People, phone: Client) -> None:
    bob = await people.register(BOB, "bob")
    async with bob:
        await bob.accept(phone.account)
        for number in range(30):
            message = await phone.send(BOB, f"{number} " + "x" * 2_000)
        await message.delivered(10)
        await phone.react(message, "👍")
        laptop = await link(phone, people)
        async with laptop:
            feed = laptop.events()
            while True:
                moved = await until(feed, HistoryMoved)
                assert isinstance(moved, HistoryMoved)
                if moved.done == moved.parts:
                    break
            assert moved.parts > 3
            mine, theirs = phone.history(limit=100), laptop.history(limit=100)
            assert [m.text for m in theirs] == [m.text for m in mine]
            assert [m.name for m in theirs] == [m.name for m in mine]
            assert [m.reactions for m in theirs] == [m.reactions for m in mine]
            assert {m.state for m in theirs} == {State.DELIVERED}
            conversation = laptop.conversation(BOB)
            assert conversation is not None
            assert conversation.accepted


async def test_the_person_may_say_no(people: People, phone: Client, tmp_path: Path) -> None:
    asked: list[LinkRequest] = []

    async def no(request: LinkRequest) -> bool:
        asked.append(request)
        return False

    async def show(code: LinkCode, seconds: int) -> None:
        assert await phone.link(code.text, no) is None
        people.service.links.clear()

    with pytest.raises(LinkExpired):
        await Client.link_this(
            show=show, name="Laptop", platform="Linux", server=people.service.url, home=tmp_path
        )
    assert (asked[0].name, asked[0].platform) == ("Laptop", "Linux")
    assert [device.device for device in await phone.devices()] == [1]
    with pytest.raises(NotRegistered):
        await Client("default", home=tmp_path).__aenter__()


async def test_a_request_the_server_has_put_in_its_place_is_refused(
    people: People, phone: Client, tmp_path: Path
) -> None:
    """The server knows the id of a link, and not its key."""

    async def show(code: LinkCode, seconds: int) -> None:
        link = people.service.links[code.id.hex()]
        other = LinkCode(code.id, LinkCode.generate().key)
        theirs = LinkRequest(KeyPair.generate().public, KeyPair.generate().public, "x", "y", 1)
        link.request = base64.b64encode(theirs.seal(other)).decode()
        with pytest.raises(BadMac):
            await phone.link(code.text, yes)
        people.service.links.clear()

    with pytest.raises(LinkExpired):
        await Client.link_this(
            show=show, name="Laptop", platform="Linux", server=people.service.url, home=tmp_path
        )


async def test_what_is_no_link_code_links_nothing(people: People, phone: Client) -> None:
    with pytest.raises(BadCode):
        await phone.link("https://example.org/group/ABCD", yes)
    with pytest.raises(LinkExpired):
        await phone.link(LinkCode.generate().text, yes)


async def test_only_the_primary_links_and_revokes(people: People, phone: Client) -> None:
    laptop = await link(phone, people)
    async with laptop:
        with pytest.raises(Denied):
            await laptop.link(LinkCode.generate().text, yes)
        with pytest.raises(Denied):
            await laptop.revoke(1)
    with pytest.raises(Denied):
        await phone.revoke(1)
    with pytest.raises(Denied):
        await phone.leave()
    with pytest.raises(NotFound):
        await phone.revoke(5)


async def test_devices_are_named_and_revoked(people: People, phone: Client) -> None:
    feed = phone.events()
    laptop = await link(phone, people)
    await until(feed, DeviceAdded)
    one, two = await phone.devices()
    assert (one.is_this, one.is_primary, two.is_this) == (True, True, False)
    assert (two.device, two.name, two.seen) == (2, "Alice's laptop", 20_000)
    async with laptop:
        await laptop.connected(10)
        await phone.revoke(2)
        for _ in range(100):
            if laptop.stopped is not None:
                break
            await asyncio.sleep(0.05)
        assert isinstance(laptop.stopped, BadToken)
    assert [device.device for device in await phone.devices()] == [1]


async def test_a_device_that_has_left_is_linked_again_as_another(
    people: People, phone: Client, service: Service
) -> None:
    feed = phone.events()
    laptop = await link(phone, people)
    await until(feed, DeviceAdded)
    async with laptop:
        await laptop.leave()
    again = await link(phone, people)
    async with again:
        await again.connected(10)
        assert sorted(service.model.users[phone.account].devices)[0] == 1
        assert len(service.model.users[phone.account].devices) == 2


async def test_a_profile_of_another_number_is_not_linked(people: People, phone: Client) -> None:
    await people.register(BOB, "bob")
    with pytest.raises(StoreError):
        await asyncio.wait_for(link(phone, people, "bob"), 10)


async def test_an_account_has_so_many_devices_and_no_more(
    people: People, phone: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raychat.limits.DEVICES", 1)

    async def show(code: LinkCode, seconds: int) -> None:
        with pytest.raises(Denied, match="revoke one"):
            await phone.link(code.text, yes)
        people.service.links.clear()

    with pytest.raises(LinkExpired):
        await Client.link_this(
            show=show,
            name="Laptop",
            platform="Linux",
            server=people.service.url,
            profile="laptop",
            home=people.home,
        )


async def test_a_new_token_takes_the_place_of_the_old(
    people: People, phone: Client, service: Service
) -> None:
    await phone.connected(10)
    before = phone._store.own().token
    await phone.rotate_token()
    after = phone._store.own().token
    assert after != before
    await service.drop(phone.account)
    await asyncio.sleep(0)
    for _ in range(100):
        if service.model.users[phone.account].devices[1].tokens == [after]:
            break
        await asyncio.sleep(0.05)
    assert service.model.users[phone.account].devices[1].tokens == [after]
    assert len(await phone.devices()) == 1
