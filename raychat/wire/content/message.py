"""Contents that are shown: text, contact card, location, poll.

All of them may carry
    number         the phone number the sender says is theirs; proves nothing
    list_version   of the sender's device list, so that a missing one is noticed
    reply          what it answers
    forwarded      how many times it was passed on
    expires        seconds after which it disappears: of being read, for the sender of being sent
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from raychat import limits
from raychat.errors import Malformed
from raychat.ids import AccountId, PhoneNumber
from raychat.wire.content import fields, names
from raychat.wire.content.fields import Fields
from raychat.wire.content.names import MessageName


class Reply(NamedTuple):
    """The message that is answered, and its first words as the answering person saw them."""

    name: MessageName
    snippet: str = ""

    def __repr__(self) -> str:
        return f"Reply({len(self.snippet)} characters)"


class Mention(NamedTuple):
    """`length` characters (Unicode code points) of the text from `start` on name an account."""

    start: int
    length: int
    account: AccountId

    def __repr__(self) -> str:
        return f"Mention({self.start}, {self.length})"


class Preview(NamedTuple):
    """What the sender's device has found behind a link. Readers fetch nothing."""

    url: str
    title: str = ""
    description: str = ""

    def __repr__(self) -> str:
        return "Preview(…)"


class Text(NamedTuple):
    """Something written. `at` is the sender's clock (ms); `number` is the sender's own claim.

    `view_once`: its words are to be wiped from a device once they have been looked at there.
    """

    at: int
    text: str
    number: PhoneNumber | None = None
    list_version: int | None = None
    reply: Reply | None = None
    forwarded: int = 0
    expires: int | None = None
    mentions: tuple[Mention, ...] = ()
    preview: Preview | None = None
    view_once: bool = False

    def __repr__(self) -> str:
        return f"Text(at={self.at}, {len(self.text)} characters)"

    def fields(self) -> dict[str, object]:
        return {
            "text": self.text,
            **_common(self),
            **fields.given(mentions=self.mentions, preview=self.preview, view_once=self.view_once),
        }

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        text = fields.words(raw.get("text"))
        return cls(
            at,
            text,
            *_read_common(raw),
            mentions=read_mentions(raw.get("mentions"), text),
            preview=fields.optional(raw.get("preview"), read_preview),
            view_once=fields.optional(raw.get("view_once"), fields.flag) or False,
        )


class Contact(NamedTuple):
    """Somebody's card: a name, numbers, and their account if they have one here."""

    at: int
    name: str
    numbers: tuple[PhoneNumber, ...] = ()
    account: AccountId | None = None
    number: PhoneNumber | None = None
    list_version: int | None = None
    reply: Reply | None = None
    forwarded: int = 0
    expires: int | None = None

    def __repr__(self) -> str:
        return f"Contact(at={self.at}, {len(self.numbers)} numbers)"

    def fields(self) -> dict[str, object]:
        card = fields.given(numbers=[str(number) for number in self.numbers], account=self.account)
        return {"name": self.name, **card, **_common(self)}

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.words(raw.get("name"), limits.NAME_CHARS),
            fields.items(raw.get("numbers", []), 0, limits.CARD_NUMBERS, fields.number),
            fields.optional(raw.get("account"), fields.account),
            *_read_common(raw),
        )


class Location(NamedTuple):
    """A place: degrees north and east, metres of accuracy, and what it is called."""

    at: int
    latitude: float
    longitude: float
    accuracy: float = 0.0
    name: str = ""
    number: PhoneNumber | None = None
    list_version: int | None = None
    reply: Reply | None = None
    forwarded: int = 0
    expires: int | None = None

    def __repr__(self) -> str:
        return f"Location(at={self.at})"

    def fields(self) -> dict[str, object]:
        return {
            "latitude": float(self.latitude),
            "longitude": float(self.longitude),
            **fields.given(accuracy=float(self.accuracy), name=self.name),
            **_common(self),
        }

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        return cls(
            at,
            fields.real(raw.get("latitude"), -90, 90),
            fields.real(raw.get("longitude"), -180, 180),
            fields.real(raw.get("accuracy", 0.0), 0, 100_000_000),
            fields.label(raw.get("name"), limits.NAME_CHARS),
            *_read_common(raw),
        )


class Poll(NamedTuple):
    """A question with answers to choose from: one, or with `multiple` any number of them."""

    at: int
    question: str
    options: tuple[str, ...]
    multiple: bool = False
    number: PhoneNumber | None = None
    list_version: int | None = None
    reply: Reply | None = None
    forwarded: int = 0
    expires: int | None = None

    def __repr__(self) -> str:
        return f"Poll(at={self.at}, {len(self.options)} options)"

    def fields(self) -> dict[str, object]:
        return {
            "question": self.question,
            "options": self.options,
            **fields.given(multiple=self.multiple),
            **_common(self),
        }

    @classmethod
    def read(cls, at: int, raw: Fields) -> Self:
        options = fields.items(
            raw.get("options"), 2, limits.POLL_OPTIONS, lambda o: fields.words(o, limits.POLL_CHARS)
        )
        if len(set(options)) != len(options):
            raise Malformed("The answers of a poll differ.")
        return cls(
            at,
            fields.words(raw.get("question"), limits.POLL_CHARS),
            options,
            fields.optional(raw.get("multiple"), fields.flag) or False,
            *_read_common(raw),
        )


Message = Text | Contact | Location | Poll


def read_mentions(value: object, text: str) -> tuple[Mention, ...]:
    """Mentions in a text, in its order, none over another or over its end."""
    if value is None:
        return ()
    found = fields.items(value, 0, limits.MENTIONS, _mention)
    end = 0
    for mention in found:
        if mention.start < end or mention.start + mention.length > len(text):
            raise Malformed("The mentions do not lie in the text.")
        end = mention.start + mention.length
    return found


def read_preview(value: Any) -> Preview:
    url, title, description = fields.record(value, 3)[:3]
    most = limits.PREVIEW_CHARS
    return Preview(
        fields.words(url, most), fields.label(title, most), fields.label(description, most)
    )


def _mention(value: Any) -> Mention:
    start, length, account = fields.record(value, 3)[:3]
    return Mention(fields.count(start), fields.positive(length), fields.account(account))


def _reply(value: Any) -> Reply:
    name, snippet = fields.record(value, 2)[:2]
    return Reply(names.message_name(name), fields.label(snippet, limits.SNIPPET_CHARS))


def _common(message: Message) -> dict[str, object]:
    return fields.given(
        number=str(message.number) if message.number else None,
        list=message.list_version,
        reply=message.reply,
        forwarded=message.forwarded,
        expires=message.expires,
    )


def _read_common(
    raw: Fields,
) -> tuple[PhoneNumber | None, int | None, Reply | None, int, int | None]:
    return (
        fields.claim(raw.get("number")),
        fields.optional(raw.get("list"), fields.positive),
        fields.optional(raw.get("reply"), _reply),
        fields.count(raw.get("forwarded", 0), limits.FORWARDED),
        fields.optional(raw.get("expires"), fields.seconds),
    )
