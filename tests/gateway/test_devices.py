"""Accounts of several devices: linked, removed and deleted while messages travel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raychat import limits
from raychat.crypto.device_list import ListedDevice
from raychat.crypto.prekeys import IdentityKeyPair
from raychat.errors import Malformed, StoreError
from raychat.ids import AccountId, DeviceId, account_id, account_text
from raychat.store.protocol import Writes
from raychat.users.registry import DAY_MS
from raychat.wire import frames
from raychat.wire.frames import Close
from tests.gateway.phones import AT, Link, Phone, send, text
from tests.stack import Stack, Wire, until

ANN, BOB = "+15550001111", "+15550002222"


async def pair(stack: Stack) -> tuple[Phone, Phone]:
    """Two people with a primary each."""
    return await Phone(stack).register(ANN), await Phone(stack).register(BOB)


async def devices(phone: Phone, path: str = "/v1/devices") -> dict[int, int]:
    """Each device and its incarnation, as the server says."""
    answer = await phone.ok("GET", path)
    return {each["device"]: each["incarnation"] for each in answer["devices"]}


async def cut_off(wire: Wire) -> bool:
    """Whether it was told that its token is void. (aiohttp forgets the close code of a connection
    that ends while nobody reads.)"""
    return (await wire.end())[1] == "bad-token"


async def refused(wire: Wire, count: int = 1) -> frames.Refused:
    return (await wire.hear(frames.Refused, count))[-1]


# -- registering -----------------------------------------------------------------------------


async def test_a_primary_registers_with_the_list_it_has_signed(stack: Stack) -> None:
    ann, bob = await pair(stack)
    answer = await ann.ok("GET", "/v1/devices")
    assert answer["list"] == text(ann.signed())
    assert answer["devices"] == [
        {"device": 1, "incarnation": 1, "seen_day": answer["devices"][0]["seen_day"]}
    ]
    others = await bob.ok("GET", f"/v1/devices/{account_text(ann.account)}")
    assert others == {"list": text(ann.signed()), "devices": [{"device": 1, "incarnation": 1}]}
    bundles = await bob.ok("GET", f"/v1/keys/{account_text(ann.account)}")
    assert bundles["list"] == text(ann.signed())


async def test_a_registration_without_a_proper_list_changes_nothing(stack: Stack) -> None:
    ann, phone = await Phone(stack).register(ANN), Phone(stack)
    path = await phone.prove(ANN)
    phone.sign(ann.account, 1)
    good = phone.registration()
    stranger = IdentityKeyPair.generate()
    phone.sign(ann.account, 1, ListedDevice(DeviceId(2), stranger.public, AT))
    with_two = text(phone.signed())
    phone.sign(AccountId(b"o" * 16), 1)
    for wrong in (
        {"keys": good["keys"]},
        {**good, "list": text(ann.signed())},
        {**good, "list": with_two},
        {**good, "list": text(phone.signed())},
        {**good, "list": "!"},
        {**good, "list": ""},
    ):
        assert (await phone.error("POST", f"{path}/device", wrong))[0] == 400
    assert await devices(ann) == {1: 1}


async def test_a_new_install_drops_all_other_devices_and_their_connections(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await ann.link(2)
    wires = [await ann.wire(), await tablet.wire()]
    again = await Phone(stack).register(ANN)
    for wire in wires:
        assert await cut_off(wire)
    assert await devices(bob, f"/v1/devices/{account_text(ann.account)}") == {1: 2}
    assert again.account == ann.account
    assert await ann.error("GET", "/v1/devices") == (401, "bad-token")
    assert await tablet.error("GET", "/v1/devices") == (401, "bad-token")
    assert await again.link(2)
    assert await devices(again) == {1: 2, 2: 2}


async def test_a_registration_may_be_repeated(stack: Stack) -> None:
    phone = Phone(stack)
    path = await phone.prove(ANN)
    account = (await phone.ok("POST", f"{path}/account", {}))["account"]
    phone.sign(account_id(account), 1)
    for incarnation in (1, 2):
        phone.take(await phone.ok("POST", f"{path}/device", phone.registration()))
        assert phone.incarnation == incarnation
    assert await devices(phone) == {1: 2}


# -- linking ---------------------------------------------------------------------------------


async def test_a_device_is_linked_and_everybody_is_told(stack: Stack) -> None:
    ann, bob = await pair(stack)
    wire = await ann.wire()
    tablet = await ann.link(2)
    assert await wire.hear(frames.Devices) == [frames.Devices(2)]
    assert (tablet.account, tablet.device, tablet.incarnation) == (ann.account, 2, 1)
    bundles = await bob.ok("GET", f"/v1/keys/{account_text(ann.account)}")
    assert [bundle["device"] for bundle in bundles["devices"]] == [1, 2]
    assert [bundle["device_signature"] is None for bundle in bundles["devices"]] == [True, False]
    assert (await (await tablet.wire()).hear(frames.Welcome))[0].list_version == 2


async def test_the_new_device_waits_for_the_primary(stack: Stack) -> None:
    ann, link = await Phone(stack).register(ANN), Link(Phone(stack))
    await link.open()
    assert await link.message() is None
    waiting = asyncio.create_task(link.message(wait=20))
    await asyncio.sleep(0.05)
    assert await ann.error("GET", "/v1/links/0000000000") == (410, "link-expired")
    await ann.answer(link, 2)
    assert await waiting == b"message"
    assert await link.message() == b"message"


async def test_who_waits_twice_for_a_link_waits_once(stack: Stack) -> None:
    link = Link(Phone(stack))
    await link.open()
    first = asyncio.create_task(link.message(wait=20))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(link.message(wait=20))
    assert await first is None
    second.cancel()


async def test_a_linking_may_be_repeated_until_it_succeeds(stack: Stack) -> None:
    ann, link = await Phone(stack).register(ANN), Link(Phone(stack))
    await link.open()
    await ann.answer(link, 2)
    for incarnation in (1, 2):
        await link.finish()
        assert link.phone.incarnation == incarnation
    assert await link.phone.wire()


async def test_a_link_is_refused_to_all_but_those_it_is_for(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await ann.link(2)
    link = Link(Phone(stack))
    await link.open()
    path = f"/v1/links/{link.id}"
    assert await tablet.error("GET", path) == (403, "denied")
    assert await link.phone.error("GET", path) == (401, "bad-token")
    no = {"id": link.id, "request": ""}
    assert await Phone(stack).error("POST", "/v1/links", no) == (400, "link-taken")
    await ann.answer(link, 3)
    assert await ann.error("GET", path) == (410, "link-expired"), "used"
    wrong = "Link " + "A" * 43
    assert await bob.error("GET", f"{path}/message", authorization=wrong) == (401, "bad-token")
    body = link.membership()
    assert await bob.error("POST", f"{path}/device", body, wrong) == (401, "bad-token")
    stolen = Link(bob)
    stolen.id, stolen.token, stolen.listed = link.id, link.token, link.listed
    body = {**body, "device_signature": text(bytes(64))}
    assert (await bob.error("POST", f"{path}/device", body, link.authorization))[0] == 400
    assert await devices(ann) == {1: 1, 2: 1}


async def test_only_a_primary_with_a_newer_list_of_a_free_number_links(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    tablet, link = await ann.link(2), Link(Phone(stack))
    await link.open()
    assert ann.listed is not None
    path = f"/v1/links/{link.id}"
    entry = ListedDevice(DeviceId(3), link.phone.identity.public, AT)
    link.listed = ann.listed.with_device(entry, AT)
    offer = ann.offer(link, 3)
    assert await tablet.error("PUT", path, offer) == (403, "denied")
    assert (await ann.error("PUT", path, {**offer, "device": 2}))[0] == 400
    assert (await ann.error("PUT", path, {**offer, "device": 1}))[0] == 400
    assert (await ann.error("PUT", path, {**offer, "device": 4}))[0] == 400
    too_old = {**offer, "list": text(ann.signed())}
    assert (await ann.error("PUT", path, {**too_old, "device": 3}))[0] == 400
    await ann.ok("PUT", path, offer)
    await ann.ok("PUT", path, offer)


async def test_a_link_whose_list_is_overtaken_fails_and_adds_nobody(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    await ann.link(2)
    link = Link(Phone(stack))
    await link.open()
    await ann.answer(link, 3)
    await ann.remove(2)
    path = f"/v1/links/{link.id}/device"
    answer = await link.phone.error("POST", path, link.membership(), link.authorization)
    assert answer == (400, "list-stale")
    assert await devices(ann) == {1: 1}


async def test_links_are_begun_within_a_budget(stack: Stack) -> None:
    for _ in range(limits.LINK_BEGINS):
        await Link(Phone(stack)).open()
    body = {"id": "00" * 5, "request": ""}
    assert await Phone(stack).error("POST", "/v1/links", body) == (429, "rate-limited")


async def test_a_host_that_dies_while_a_device_is_linked_leaves_all_or_nothing(
    stack: Stack,
) -> None:
    ann, link = await Phone(stack).register(ANN), Link(Phone(stack))
    await link.open()
    await ann.answer(link, 2)
    name = stack.layout.host_of(ann.account)
    store = stack.hosts[name]._store

    async def fail(_writes: Writes) -> None:
        raise StoreError("The disk is full.")

    store.commit = fail  # type: ignore[method-assign]
    finishing = asyncio.create_task(link.finish())
    await until(lambda: stack.hosts[name].failed)
    (user,) = await store.load([ann.account])
    assert [device.device for device in user.devices] == [1]
    assert user.list_version == 1
    assert await store.lasting_keys(ann.account, DeviceId(2)) is None
    await stack.restart_host(name)
    await finishing  # what the dead host had not dealt with, the new one was told again
    assert await devices(ann) == {1: 1, 2: 1}
    await stack.restart_host(name)
    assert await link.phone.wire()
    bundles = await ann.ok("GET", f"/v1/keys/{account_text(ann.account)}?devices=2")
    assert len(bundles["devices"]) == 1


# -- messages --------------------------------------------------------------------------------


async def test_a_message_goes_to_all_devices_and_a_wrong_list_is_put_right(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await bob.link(2)
    wire = await ann.wire()
    await wire.say(send(bob.account, 1, [(1, 1)]))
    refusal = await refused(wire)
    assert (refusal.code, refusal.devices, refusal.list_version) == (
        "device-list",
        ((1, 1), (2, 1)),
        2,
    )
    await wire.say(send(bob.account, 1, list(refusal.devices)))
    for phone in (bob, tablet):
        assert (await (await phone.wire()).hear(frames.Envelope))[0].id == 1


async def test_ones_own_other_devices_are_written_to_like_anybody(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    tablet = await ann.link(2)
    wire, other = await ann.wire(), await tablet.wire()
    await wire.say(send(ann.account, 1, [(1, 1), (2, 1)]))
    assert (await refused(wire)).devices == ((2, 1),)
    await wire.say(send(ann.account, 1, [(2, 1)], b"sent"))
    await other.say(send(ann.account, 1, [(1, 1)], b"read"))
    assert [(e.device, e.body) for e in await other.hear(frames.Envelope)] == [(1, b"sent")]
    assert [(e.device, e.body) for e in await wire.hear(frames.Envelope)] == [(2, b"read")]


async def test_all_devices_of_the_sender_see_what_became_of_it(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await ann.link(2)
    wire, other, his = await ann.wire(), await tablet.wire(), await bob.wire()
    await wire.say(send(bob.account, 1, [(1, 1)]))
    await other.say(send(bob.account, 1, [(1, 1)]))
    await his.hear(frames.Envelope, 2)
    await his.say(frames.pack_ack(2))
    for heard in (wire, other):
        receipts = await heard.hear(frames.Receipt, 2)
        assert {(r.device, r.incarnation, *r.ranges) for r in receipts} == {
            (1, 1, 1, 1),
            (2, 1, 1, 1),
        }
    await other.hang_up()
    await wire.say(send(bob.account, 2, [(1, 1)]))
    await his.hear(frames.Envelope, 3)
    await his.say(frames.pack_ack(3))
    await wire.hear(frames.Receipt, 3)
    back = await tablet.wire(revision=2)
    assert [(r.revision, r.device, *r.ranges) for r in await back.hear(frames.Receipt)] == [
        (3, 1, 1, 2)
    ]


async def test_an_envelope_that_shows_nothing_is_acknowledged_without_a_mark(
    stack: Stack,
) -> None:
    ann, bob = await pair(stack)
    wire, his = await ann.wire(), await bob.wire()
    await wire.say(b"".join(send(bob.account, n, [(1, 1)]) for n in (1, 2, 3)))
    await his.hear(frames.Envelope, 3)
    await his.say(frames.pack_ack(3, [2]))
    receipts = await wire.hear(frames.Receipt, 2)
    assert [r.ranges for r in receipts] == [[1, 1], [3, 3]]


async def test_a_device_linked_in_the_middle_of_traffic_gets_all_that_is_written_since(
    stack: Stack,
) -> None:
    """As the sender sees it: refused once, put right, and not one message lost or doubled."""
    ann, bob = await pair(stack)
    wire = await ann.wire()
    count, sent = 60, 0
    parts = [(1, 1)]

    async def write() -> None:
        nonlocal parts, sent
        refusals = 0
        while sent < count:
            await wire.say(send(bob.account, sent + 1, parts, b"%d" % (sent + 1)))
            while True:
                answers = [f for f in wire.heard if isinstance(f, frames.Refused)]
                if len(answers) > refusals:
                    refusals = len(answers)
                    assert answers[-1].code == "device-list"
                    parts = list(answers[-1].devices)
                    break
                if any(f.id > sent for f in wire.heard if isinstance(f, frames.Sent)):
                    sent += 1
                    break
                await wire._read()

    writing = asyncio.create_task(write())
    await until(lambda: sent > 10)
    tablet = await bob.link(2)
    await writing
    assert len(parts) == 2
    heard = await (await bob.wire()).hear(frames.Envelope, count)
    assert [e.id for e in heard] == list(range(1, count + 1))
    on_tablet = await (await tablet.wire()).hear(frames.Envelope)
    ids = [e.id for e in on_tablet]
    assert ids == list(range(ids[0], count + 1))
    assert ids[0] > 10


# -- removing --------------------------------------------------------------------------------


async def test_a_device_removed_under_load_is_cut_off_and_nobody_else_loses_anything(
    stack: Stack,
) -> None:
    ann, bob = await pair(stack)
    tablet = await bob.link(2)
    lost, his, wire = await tablet.wire(), await bob.wire(), await ann.wire()
    for number in range(1, 31):
        await wire.say(send(bob.account, number, [(1, 1), (2, 1)]))
    await bob.remove(2)
    assert await cut_off(lost)
    again = await stack.wire()
    await again.say(tablet.hello())
    assert await cut_off(again)
    assert await tablet.error("GET", "/v1/keys") == (401, "bad-token")
    assert await his.hear(frames.Devices) == [frames.Devices(3)]
    await his.hear(frames.Envelope, 30)
    await his.say(frames.pack_ack(30))
    receipts = await wire.hear(frames.Receipt)
    assert receipts[-1].ranges[-1] <= 30
    await wire.say(send(bob.account, 31, [(1, 1), (2, 1)]))
    assert (await refused(wire)).devices == ((1, 1),)
    await wire.say(send(bob.account, 31, [(1, 1)]))
    assert [e.number for e in await his.hear(frames.Envelope, 31)] == list(range(1, 32))
    bundles = await ann.ok("GET", f"/v1/keys/{account_text(bob.account)}")
    assert [bundle["device"] for bundle in bundles["devices"]] == [1]
    store = stack.hosts[stack.layout.host_of(bob.account)]._store
    await his.say(frames.pack_ack(31))
    await until(lambda: store._depth == 0)


async def test_a_number_used_again_counts_on_and_gets_only_what_is_new(stack: Stack) -> None:
    ann, bob = await pair(stack)
    await bob.link(2)
    wire = await ann.wire()
    await wire.say(send(bob.account, 1, [(1, 1), (2, 1)], b"before"))
    await wire.hear(frames.Sent)
    await bob.remove(2)
    laptop = await bob.link(2)
    assert laptop.incarnation == 2
    await wire.say(send(bob.account, 2, [(1, 1), (2, 2)], b"after"))
    welcomed = await laptop.wire(seen=1)
    assert (await welcomed.hear(frames.Welcome))[0].cursor == 1
    assert [e.body for e in await welcomed.hear(frames.Envelope)] == [b"after"]


async def test_a_linked_device_leaves_by_itself_and_the_primary_signs_anew(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    tablet = await ann.link(2)
    wire, leaving = await ann.wire(), await tablet.wire()
    await tablet.ok("DELETE", "/v1/devices/self")
    assert await cut_off(leaving)
    assert await wire.hear(frames.Devices) == [frames.Devices(2)]
    await ann.remove(2)
    assert (await wire.hear(frames.Devices, 2))[-1] == frames.Devices(3)
    assert await ann.error("DELETE", "/v1/devices/self") == (403, "denied")


async def test_only_the_primary_changes_the_list_and_only_forwards(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await ann.link(2)
    assert ann.listed is not None
    newer = text(ann.signed(ann.listed.without(DeviceId(2), AT)))
    assert await tablet.error("PUT", "/v1/devices", {"list": newer}) == (403, "denied")
    assert await bob.error("PUT", "/v1/devices", {"list": newer}) == (400, "malformed")
    current = text(ann.signed())
    await ann.ok("PUT", "/v1/devices", {"list": current})
    await ann.ok("PUT", "/v1/devices", {"list": newer})
    await ann.ok("PUT", "/v1/devices", {"list": newer})
    for old in (current, text(ann.signed(ann.listed.without(DeviceId(2), AT + 1)))):
        assert await ann.error("PUT", "/v1/devices", {"list": old}) == (400, "list-stale")
    forger = Phone(stack)
    forger.sign(ann.account, 9)
    body = {"list": text(forger.signed())}
    assert await ann.error("PUT", "/v1/devices", body) == (403, "denied")


async def test_a_linked_device_nobody_uses_is_removed_in_time(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    tablet = await ann.link(2)
    laptop = await ann.link(3)
    wire, kept = await ann.wire(), await laptop.wire()
    host = stack.hosts[stack.layout.host_of(ann.account)]
    clock, later = host._clock, (limits.IDLE_DEVICE_DAYS + 1) * DAY_MS
    host._clock = host.turns._clock = lambda: clock() + later
    await host.remove_unseen()
    assert await wire.hear(frames.Devices) == [frames.Devices(3)]
    assert await devices(ann) == {1: 1, 3: 1}
    assert await tablet.error("GET", "/v1/devices") == (401, "bad-token")
    await kept.hang_up()


# -- tokens, blocks, deletion ----------------------------------------------------------------


async def test_a_token_is_renewed_and_the_old_one_works_until_the_new_one_is_used(
    stack: Stack,
) -> None:
    ann, _ = await pair(stack)
    old = ann.token
    fresh = (await ann.ok("POST", "/v1/token"))["token"]
    await stack.restart_host(stack.layout.host_of(ann.account))
    await ann.ok("GET", "/v1/devices")
    ann.set_token(fresh)
    await ann.ok("GET", "/v1/devices")
    new, ann.token = ann.token, old
    assert await ann.error("GET", "/v1/devices") == (401, "bad-token")
    ann.token = new
    assert await ann.wire()


async def test_a_connection_of_before_the_new_token_survives_a_restart_of_its_host(
    stack: Stack,
) -> None:
    """It has to come back, but it isn't told to register anew."""
    ann, _ = await pair(stack)
    wire = await ann.wire()
    ann.set_token((await ann.ok("POST", "/v1/token"))["token"])
    await ann.ok("GET", "/v1/devices")
    await stack.restart_host(stack.layout.host_of(ann.account))
    assert (await wire.end())[0] == Close.GOING_AWAY
    assert await ann.wire()


async def test_a_blocked_person_is_dropped_without_a_sign_and_over_restarts(stack: Stack) -> None:
    ann, bob = await pair(stack)
    body = {"accounts": [account_text(ann.account)]}
    await bob.ok("PUT", "/v1/blocks", body)
    await stack.restart_host(stack.layout.host_of(bob.account))
    wire, his = await ann.wire(), await bob.wire()
    await wire.say(send(bob.account, 1, [(1, 1)]))
    await wire.hear(frames.Sent)
    await bob.ok("PUT", "/v1/blocks", {"accounts": []})
    await wire.say(send(bob.account, 2, [(1, 1)]))
    assert [e.id for e in await his.hear(frames.Envelope)] == [2]


WRONG_BLOCKS: dict[str, Any] = {
    "no list": {"accounts": "all"},
    "no accounts": {},
    "something else": {"accounts": [1]},
    "too many": {"accounts": ["0" * 32] * (limits.BLOCKED + 1)},
}


@pytest.mark.parametrize("wrong", WRONG_BLOCKS)
async def test_blocks_that_cannot_be_are_refused(stack: Stack, wrong: str) -> None:
    ann = await Phone(stack).register(ANN)
    assert (await ann.error("PUT", "/v1/blocks", WRONG_BLOCKS[wrong]))[0] in (400, 413)


async def test_a_deleted_account_is_gone_for_everybody(stack: Stack) -> None:
    ann, bob = await pair(stack)
    tablet = await bob.link(2)
    wires = [await bob.wire(), await tablet.wire()]
    await stack.gateway.request(bob.account, "delete")
    for wire in wires:
        assert await cut_off(wire)
    wire = await ann.wire()
    await wire.say(send(bob.account, 1, [(1, 1), (2, 1)]))
    assert (await refused(wire)).code == "not-found"
    assert await ann.error("GET", f"/v1/keys/{account_text(bob.account)}") == (404, "no-keys")
    gone = await ann.ok("GET", f"/v1/devices/{account_text(bob.account)}")
    assert gone == {"list": None, "devices": []}
    await stack.gateway.request(bob.account, "delete")
    await stack.restart_host(stack.layout.host_of(bob.account))
    assert await bob.error("GET", "/v1/devices") == (401, "bad-token")


async def test_only_the_primary_registers_without_a_link(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    host = stack.hosts[stack.layout.host_of(ann.account)]
    with pytest.raises(Malformed):
        await host._register(ann.account, DeviceId(2), b"", b"", b"")
