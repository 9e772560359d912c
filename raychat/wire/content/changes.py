"""Contents that change what is there: read, edit, delete, reaction, vote, timer.

A change names its message. The later one counts, by the sender's clock `at`; of two of the
same time that with the greater value, so that every device comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

from raychat import limits
from raychat.errors import Malformed
from raychat.wire.content import fields, names
from raychat.wire.content.fields import Fields
from raychat.wire.content.message import Mention, Preview, read_mentions, read_preview
from raychat.wire.content.names import Mark, MessageName


class Read(NamedTuple):
    """The sender of this has read these messages of yours, the last of them at `at` (ms)."""

    at: int
    marks: Sequence[Mark]

    def fields(self) -> dict[str, object]:
        return {"marks": self.marks}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, names.marks(raw.get("marks")))


class Edit(NamedTuple):
    """A text says this now. Only its author's counts."""

    at: int
    target: MessageName
    text: str
    mentions: tuple[Mention, ...] = ()
    preview: Preview | None = None

    def __repr__(self) -> str:
        return f"Edit(at={self.at}, {len(self.text)} characters)"

    def fields(self) -> dict[str, object]:
        details = fields.given(mentions=self.mentions, preview=self.preview)
        return {"target": self.target, "text": self.text, **details}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        text = fields.words(raw.get("text"))
        return cls(
            at,
            names.message_name(raw.get("target")),
            text,
            read_mentions(raw.get("mentions"), text),
            fields.optional(raw.get("preview"), read_preview),
        )


class Delete(NamedTuple):
    """A message is to be gone, for everyone. Only its author's counts."""

    at: int
    target: MessageName

    def __repr__(self) -> str:
        return f"Delete(at={self.at})"

    def fields(self) -> dict[str, object]:
        return {"target": self.target}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, names.message_name(raw.get("target")))


class Reaction(NamedTuple):
    """One person's answer to a message in one picture; an empty `emoji` takes it back."""

    at: int
    target: MessageName
    emoji: str

    def __repr__(self) -> str:
        return f"Reaction(at={self.at})"

    def fields(self) -> dict[str, object]:
        return {"target": self.target, "emoji": self.emoji}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        emoji = raw.get("emoji")
        if type(emoji) is not str or len(emoji.encode()) > limits.REACTION_BYTES:
            raise Malformed(f"A reaction is a text of at most {limits.REACTION_BYTES} bytes.")
        return cls(at, names.message_name(raw.get("target")), emoji)


class Vote(NamedTuple):
    """The options of a poll somebody chooses, by their places from 0 on; none takes it back."""

    at: int
    target: MessageName
    choices: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Vote(at={self.at})"

    def fields(self) -> dict[str, object]:
        return {"target": self.target, "choices": self.choices}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        most = limits.POLL_OPTIONS
        choices = fields.items(
            raw.get("choices"), 0, most, lambda choice: fields.count(choice, most - 1)
        )
        if any(a >= b for a, b in pairwise(choices)):
            raise Malformed("The choices of a vote are sorted, each once.")
        return cls(at, names.message_name(raw.get("target")), choices)


class Timer(NamedTuple):
    """New messages of the conversation disappear after so many seconds; 0: they stay."""

    at: int
    seconds: int

    def fields(self) -> dict[str, object]:
        return {"seconds": self.seconds}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, fields.count(raw.get("seconds"), limits.TIMER_SECONDS))


class Typing(NamedTuple):
    """The sender is writing something, or has stopped."""

    at: int
    active: bool

    def fields(self) -> dict[str, object]:
        return {"active": self.active}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(at, fields.flag(raw.get("active")))


class Profile(NamedTuple):
    """What the sender is called, in their own words, and the number they say is theirs."""

    at: int
    name: str
    number: str | None = None

    def __repr__(self) -> str:
        return f"Profile(at={self.at})"

    def fields(self) -> dict[str, object]:
        return {"name": self.name, **fields.given(number=self.number)}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.label(raw.get("name"), limits.NAME_CHARS),
            fields.claim(raw.get("number")),
        )


Change = Edit | Delete | Reaction | Vote
"""What refers to one message and waits for it if it is not there yet."""
