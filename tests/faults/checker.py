"""What must be true when everything is well again, whatever happened before.

Every message that was written has its ✓, is shown exactly once and in order, and has its ✓✓;
nothing is shown that nobody wrote; no inbox holds anything; and no device has seen the server
break the protocol in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from raychat.ids import AccountId
from tests.faults.device import Device

HEAL_SECONDS = 45.0

Devices = Mapping[AccountId, Device]


async def check(devices: Devices, seconds: float = HEAL_SECONDS) -> int:
    """Wait until everything has arrived, then prove it. Returns how many messages there were."""
    try:
        async with asyncio.timeout(seconds):
            while not all(_settled(device) for device in devices.values()):
                _no_complaints(devices)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass  # what is missing is said below
    _no_complaints(devices)
    _all_arrived(devices)
    await _inboxes_are_empty(devices, seconds)
    _no_complaints(devices)
    return sum(len(box.written) for d in devices.values() for box in d.outboxes.values())


def _settled(device: Device) -> bool:
    return device.welcome.is_set() and not device.unsettled and not device.undelivered


def _no_complaints(devices: Devices) -> None:
    complaints = [what for device in devices.values() for what in device.complaints]
    assert not complaints, complaints[:10]


def _all_arrived(devices: Devices) -> None:
    for device in devices.values():
        assert device.welcome.is_set(), f"{device.person} has no connection"
        for account, outbox in device.outboxes.items():
            friend = devices[account]
            shown = friend.shown.get(device.person.account, [])
            road = f"{device.person} to {friend.person}"
            written = len(outbox.written)
            assert shown == outbox.written, f"{road}: {len(shown)} of {written} are shown"
            assert outbox.settled == written, f"{road}: {outbox.settled} of {written} have ✓"
            expected = [1, written] if written else []
            assert outbox.delivered.flat == expected, f"{road}: ✓✓ {outbox.delivered} of {written}"
        for sender in device.shown:
            assert device.person.account in devices[sender].outboxes, "an invented message"


async def _inboxes_are_empty(devices: Devices, seconds: float) -> None:
    """A new connection's welcome says what the inbox holds after the last number seen."""
    for device in devices.values():
        await device.stop()
        device.start()
    async with asyncio.timeout(seconds):
        for device in devices.values():
            await device.welcome.wait()
    full = {d.person.name: d.head - d.seen for d in devices.values() if d.head != d.seen}
    assert not full, f"inboxes that are not empty: {full}"
