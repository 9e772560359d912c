"""Whom the gateway's tests let talk, and frames that are wrong in a chosen way."""

from __future__ import annotations

import msgpack

from tests.faults.checker import check
from tests.people import people
from tests.stack import Stack

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
        "untold": [],
        "revision": 0,
    }
    return pack(*(fields | changes).values())


def send_parts(*parts: object, to: object = BOB.account, number: object = 1) -> bytes:
    return pack(2, to, number, parts)
