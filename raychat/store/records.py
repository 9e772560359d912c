"""What every store reads back from what it keeps, and numbers that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.users.events import Row, Told
from raychat.wire.frames import Outcome

OWED_BITS: Final = 32
"""Low bits of an `owed` sequence that count; the epoch is above them."""

PAGE_BYTES: Final = 1024 * 1024
"""A page of an inbox stops growing here."""


def inbox_row(number: int, frame: bytes) -> Row:
    """An envelope of an inbox, from the frame its device gets."""
    _, _, sender, device, incarnation, message, at, *_ = msgpack.unpackb(frame)
    return Row(
        InboxNumber(number),
        at,
        AccountId(sender),
        DeviceId(device),
        incarnation,
        MessageId(message),
        frame,
    )


def told(fields: Sequence[Any]) -> Told:
    """News for an account, from its fields in order."""
    account, device, incarnation, peer, outcome, lo, hi = fields
    return Told(account, device, incarnation, peer, Outcome(outcome), lo, hi)
