"""Typed, frozen names of everything that has a name.

An account is named by a random UUID (16 bytes), never by its phone number. A device is a
small number under its account; an address is the pair of both. On the wire and in the
stores an account is its 16 raw bytes; people and logs see the hyphenated form.
"""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple, NewType, Self

AccountId = NewType("AccountId", bytes)
"""16 raw bytes of a random UUID."""

DeviceId = NewType("DeviceId", int)
"""1..127; 1 is the primary device of its account."""

SessionId = NewType("SessionId", int)
"""One authenticated connection, unique in its gateway's lifetime."""

MessageId = NewType("MessageId", int)
"""1, 2, 3… for each (sending device, receiving account): the client message id."""

InboxNumber = NewType("InboxNumber", int)
"""1, 2, 3… for each device: the place of an envelope in that device's inbox."""

ShardId = NewType("ShardId", int)
"""0..SHARDS-1."""

Epoch = NewType("Epoch", int)
"""How many times the ownership of a shard has been granted."""

PRIMARY: Final = DeviceId(1)
MAX_DEVICE: Final = 127
SHARDS: Final = 64
"""Users are spread over this many shards, for good: changing it moves users."""


class Address(NamedTuple):
    """One device of one account."""

    account: AccountId
    device: DeviceId

    def __str__(self) -> str:
        return f"{account_text(self.account)}.{self.device}"


class PhoneNumber(str):
    """A number in E.164 form (`+15550001111`). Its repr shows the last two digits only."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"PhoneNumber(…{self[-2:]})"


class Secret(bytes):
    """Bytes that must not be shown: tokens, keys, codes. Redacts itself in repr and str."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({len(self)} bytes)"

    __str__ = __repr__

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(data)


def new_account_id() -> AccountId:
    return AccountId(uuid.uuid4().bytes)


def account_id(text: str) -> AccountId:
    """The account named by a hyphenated UUID. Raises ValueError."""
    return AccountId(uuid.UUID(text).bytes)


def account_text(account: AccountId) -> str:
    return str(uuid.UUID(bytes=account))


def shard_of(account: AccountId) -> ShardId:
    """The shard an account belongs to: account ids are random, so their bytes are the hash."""
    return ShardId(int.from_bytes(account[-4:], "big") % SHARDS)
