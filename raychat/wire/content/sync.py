"""Contents between devices: what keeps one's own in step, and what heals a lost message.

`Sent`, `Marks`, `Settings`, `Erase` and `Transfer` count only from a device of one's own
account; from anyone else they are to be ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, Self

from raychat import limits
from raychat.errors import Malformed
from raychat.ids import AccountId
from raychat.wire.content import fields, names
from raychat.wire.content.fields import Fields
from raychat.wire.content.names import DeviceMessage, Mark, MessageName

MAX_BYTES: Final = 32 * 1024
"""A content's size before padding: six devices' parts of it fit into one WebSocket message."""

MAX_PEERS: Final = 64


class Sent(NamedTuple):
    """This account has sent `content` (unpadded bytes) to `peer`, under `name`.

    `sent` is the server's time (ms): a disappearing message counts from there. `number` is the
    peer's, if the sending device knows it; show it only after a lookup.
    """

    at: int
    peer: AccountId
    name: MessageName
    sent: int
    content: bytes
    number: str | None = None

    def __repr__(self) -> str:
        return f"Sent(at={self.at}, {len(self.content)} bytes)"

    def fields(self) -> dict[str, object]:
        held = {"peer": self.peer, "name": self.name, "sent": self.sent, "content": self.content}
        return {**held, **fields.given(number=str(self.number) if self.number else None)}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.account(raw.get("peer")),
            names.message_name(raw.get("name")),
            fields.count(raw.get("sent")),
            fields.data(raw.get("content"), 1, MAX_BYTES),
            fields.claim(raw.get("number")),
        )


class Retry(NamedTuple):
    """The sender could not open these messages of yours: send them again as `Resend`."""

    at: int
    messages: tuple[DeviceMessage, ...]

    def fields(self) -> dict[str, object]:
        return {"messages": self.messages}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        most = limits.RETRY_NAMES
        return cls(at, fields.items(raw.get("messages"), 1, most, names.device_message))


class Resend(NamedTuple):
    """A message of the sender's account once more: `content` (unpadded) is what it held."""

    at: int
    message: DeviceMessage
    content: bytes

    def __repr__(self) -> str:
        return f"Resend(at={self.at}, {len(self.content)} bytes)"

    def fields(self) -> dict[str, object]:
        return {"message": self.message, "content": self.content}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            names.device_message(raw.get("message")),
            fields.data(raw.get("content"), 1, MAX_BYTES),
        )


class Devices(NamedTuple):
    """The sender's device list has this version now; fetch it if the known one is older."""

    at: int
    version: int

    def fields(self) -> dict[str, object]:
        return {"version": self.version}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, fields.positive(raw.get("version")))


Value = bool | int | str | bytes


class Setting(NamedTuple):
    """One setting of the conversation with an account, or of one's own (`peer` None)."""

    peer: AccountId | None
    name: str
    value: Value

    def __repr__(self) -> str:
        return f"Setting({self.name!r})"


class Settings(NamedTuple):
    """Settings that were made at `at`. Names that are not known are to be ignored."""

    at: int
    settings: tuple[Setting, ...]

    def fields(self) -> dict[str, object]:
        return {"settings": self.settings}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, fields.items(raw.get("settings"), 1, limits.SETTINGS, _setting))


class PeerMarks(NamedTuple):
    """Messages of the devices of one peer."""

    peer: AccountId
    marks: Sequence[Mark]


class Marks(NamedTuple):
    """This account has read these messages of others, the last of them at `at` (ms)."""

    at: int
    read_messages: tuple[PeerMarks, ...]

    def fields(self) -> dict[str, object]:
        return {"read": self.read_messages}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, fields.items(raw.get("read"), 1, MAX_PEERS, _peer_marks))


class Erase(NamedTuple):
    """This account has deleted messages of the conversation with `peer` for itself only."""

    at: int
    peer: AccountId
    messages: tuple[MessageName, ...]

    def fields(self) -> dict[str, object]:
        return {"peer": self.peer, "messages": self.messages}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.account(raw.get("peer")),
            fields.items(raw.get("messages"), 1, limits.ERASE_NAMES, names.message_name),
        )


class Step(IntEnum):
    """A step of a history transfer."""

    OFFER = 0
    WANT = 1
    PART = 2
    DONE = 3


class Transfer(NamedTuple):
    """A step of the history's way to a new device of one's own.

    OFFER (old device): `parts` parts are there, `data` describes them. WANT (new device): send
    from part `first` on, at most `parts`. PART: part `first`, its bytes in `data`. DONE (new
    device): all is there, or not wanted.
    """

    at: int
    transfer: bytes
    step: Step
    first: int = 0
    parts: int = 0
    data: bytes = b""

    def __repr__(self) -> str:
        return f"Transfer({self.step.name}, {self.first}, {self.parts}, {len(self.data)} bytes)"

    def fields(self) -> dict[str, object]:
        return {
            "transfer": self.transfer,
            "step": int(self.step),
            **fields.given(first=self.first, parts=self.parts, data=self.data),
        }

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.data(raw.get("transfer"), 16, 16),
            Step(fields.count(raw.get("step"), max(Step))),
            fields.count(raw.get("first", 0)),
            fields.count(raw.get("parts", 0)),
            fields.data(raw.get("data", b""), 0, MAX_BYTES),
        )


def _setting(value: Any) -> Setting:
    peer, name, content = fields.record(value, 3)[:3]
    return Setting(
        fields.optional(peer, fields.account), fields.words(name, 32), setting_value(content)
    )


def setting_value(value: object) -> Value:
    match value:
        case bool():
            return value
        case int():
            return fields.count(value)
        case str() if len(value.encode()) <= limits.SETTING_BYTES:
            return value
        case bytes() if len(value) <= limits.SETTING_BYTES:
            return value
    raise Malformed("A setting is a switch, a number, a short text or short bytes.")


def _peer_marks(value: Any) -> PeerMarks:
    peer, raw = fields.record(value, 2)[:2]
    return PeerMarks(fields.account(peer), names.marks(raw))
