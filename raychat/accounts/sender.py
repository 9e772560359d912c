"""What brings a code to a phone number: the protocol of providers."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

from raychat.errors import Malformed
from raychat.ids import PhoneNumber


class Channel(StrEnum):
    """How a code comes to a number."""

    SMS = "sms"
    VOICE = "voice"

    @classmethod
    def named(cls, name: str) -> Channel:
        """Raises Malformed."""
        try:
            return cls(name)
        except ValueError:
            raise Malformed(f"A code comes by {' or '.join(cls)}.") from None


class CodeMessage(NamedTuple):
    """A code on its way to a number. Shows neither."""

    number: PhoneNumber
    channel: Channel
    code: str
    seconds: int
    """How long the code is good for; to deliver it later is of no use."""

    @property
    def text(self) -> str:
        """What a text message says."""
        return f"your raychat code is {self.code}"

    @property
    def speech(self) -> list[str]:
        """What a call says, one breath after the other: a code is heard digit by digit."""
        digits = ", ".join(self.code)
        return [f"Your raychat code is: {digits}.", f"Again: {digits}."]

    def __repr__(self) -> str:
        return f"CodeMessage({self.channel})"


class Sender(Protocol):
    """A provider. It calls a web service, so sending may take a while."""

    async def send(self, message: CodeMessage) -> None:
        """Hand a code over for delivery. Raises Unavailable, after which it may be repeated, and
        BadNumber if the provider says that it reaches no such number."""

    async def close(self) -> None: ...
