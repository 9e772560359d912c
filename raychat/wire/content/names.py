"""What messages are called in contents.

Among all messages between two accounts, one is named by the account, device and incarnation
that sent it and its message id. Ids count for each recipient, so a name means something only
together with the conversation it is used in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from raychat.errors import Malformed
from raychat.ids import AccountId, DeviceId, MessageId
from raychat.wire.content import fields
from raychat.wire.frames import MAX_COUNT

MAX_MARKS: Final = 8
MAX_RANGES: Final = 128


class MessageName(NamedTuple):
    """One message of a conversation. `account` has written it."""

    account: AccountId
    device: DeviceId
    incarnation: int
    id: MessageId


class DeviceMessage(NamedTuple):
    """One message of a conversation and of an account that is known from elsewhere."""

    device: DeviceId
    incarnation: int
    id: MessageId

    def of(self, account: AccountId) -> MessageName:
        return MessageName(account, *self)


class Mark(NamedTuple):
    """Messages of one sending device: `ranges` of their ids are lo, hi, lo, hi…"""

    device: DeviceId
    incarnation: int
    ranges: Sequence[int]


def message_name(value: object) -> MessageName:
    account, device, incarnation, id_ = fields.record(value, 4)[:4]
    return MessageName(fields.account(account), *device_message([device, incarnation, id_]))


def device_message(value: object) -> DeviceMessage:
    device, incarnation, id_ = fields.record(value, 3)[:3]
    return DeviceMessage(
        fields.device(device),
        fields.count(incarnation),
        MessageId(fields.positive(id_, MAX_COUNT)),
    )


def marks(value: object) -> list[Mark]:
    return list(fields.items(value, 1, MAX_MARKS, mark))


def mark(value: object) -> Mark:
    device, incarnation, raw = fields.record(value, 3)[:3]
    if type(raw) is not list or not 0 < len(raw) <= 2 * MAX_RANGES or len(raw) % 2:
        raise Malformed(f"A mark has 1 to {MAX_RANGES} ranges of a device's messages.")
    ranges = [fields.positive(item, MAX_COUNT) for item in raw]
    if any(lo > hi for lo, hi in zip(ranges[::2], ranges[1::2], strict=True)):
        raise Malformed("A range is a first and a last message id.")
    return Mark(fields.device(device), fields.count(incarnation), ranges)
