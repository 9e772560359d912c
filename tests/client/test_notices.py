"""Events that a person in a chat is told of, and those they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from raychat.client.client import Client
from raychat.client.events import (
    Connected,
    DeviceAdded,
    DeviceRefused,
    DeviceRemoved,
    Expired,
    Failed,
    IdentityChanged,
    InboxGap,
    Stopped,
    TransparencyAlarm,
    Undecryptable,
)
from raychat.client.notices import notice
from raychat.errors import BadMac, BadToken, GhostDevice, NotFound
from raychat.ids import AccountId, DeviceId
from raychat.transparency.watch import Reason
from tests.client.conftest import People

ALICE, BOB = "+15550001111", "+15550002222"
STRANGER = AccountId(b"s" * 16)


@pytest.fixture
async def alice(people: People) -> AsyncIterator[Client]:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await (await alice.send(BOB, "hello")).sent(10)
        yield alice


async def test_what_concerns_this_chat_is_said(alice: Client) -> None:
    here = alice.conversation(BOB)
    assert here is not None
    assert here.account is not None
    bob = here.account
    said = {
        Failed(1, here.id, NotFound()): "not sent",
        Expired(1, here.id, 0): "expired",
        Undecryptable(bob, DeviceId(1), BadMac()): "could not be opened",
        IdentityChanged(bob, here.id): "has changed",
        DeviceRefused(bob, DeviceId(9), GhostDevice()): "Device 9",
        DeviceRefused(bob, None, GhostDevice()): "A list of devices",
        TransparencyAlarm(bob, Reason.MISSING): "this contact's",
        TransparencyAlarm(alice.account, Reason.GHOST): "your own",
        DeviceAdded(DeviceId(2)): "raychat revoke 2",
        DeviceRemoved(DeviceId(2)): "no device",
        InboxGap(3, 5): "3 messages",
        Stopped(BadToken()): "[bad-token]",
    }
    for event, words in said.items():
        assert words in (notice(event, alice, BOB) or ""), event


async def test_what_concerns_others_is_not(alice: Client) -> None:
    for event in (
        Failed(1, 77, NotFound()),
        Undecryptable(STRANGER, DeviceId(1), BadMac()),
        IdentityChanged(STRANGER, None),
        TransparencyAlarm(STRANGER, Reason.FORK),
        DeviceRefused(STRANGER, None, GhostDevice()),
        Connected(0),
    ):
        assert notice(event, alice, BOB) is None


async def test_a_key_that_was_compared_and_changes_is_said_louder(alice: Client) -> None:
    await alice.set_verified(BOB, True)
    here = alice.conversation(BOB)
    assert here is not None
    assert here.account is not None
    said = notice(IdentityChanged(here.account, here.id), alice, BOB)
    assert said is not None
    assert "CHANGED" in said
    await alice.set_verified(BOB, False)
    with pytest.raises(NotFound):
        await alice.set_verified("+15559999999", True)
