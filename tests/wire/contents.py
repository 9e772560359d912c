"""Contents of every kind: one of each with all its fields, and strategies for any."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from raychat.ids import AccountId, DeviceId, MessageId, PhoneNumber
from raychat.wire import content
from raychat.wire.content import (
    Contact,
    Delete,
    DeviceMessage,
    Devices,
    Edit,
    Erase,
    Known,
    Location,
    Mark,
    Marks,
    Mention,
    MessageName,
    PeerMarks,
    Poll,
    Preview,
    Profile,
    Reaction,
    Read,
    Reply,
    Resend,
    Retry,
    Sent,
    Setting,
    Settings,
    Step,
    Text,
    Timer,
    Transfer,
    Typing,
    Vote,
)

NOW: Final = 1_700_000_000_000
NUMBER: Final = PhoneNumber("+15550001111")
BOB: Final = AccountId(b"b" * 16)
NAME: Final = MessageName(BOB, DeviceId(2), 3, MessageId(4))
INNER: Final = content.encode(Text(NOW, "a secret"))
COMMON: Final[dict[str, Any]] = {
    "number": NUMBER,
    "list_version": 3,
    "reply": Reply(NAME, "a secret"),
    "forwarded": 2,
    "expires": 60,
}

SAMPLES: Final[list[Known]] = [
    Text(
        NOW,
        "a secret",
        **COMMON,
        mentions=(Mention(0, 1, BOB), Mention(2, 6, BOB)),
        preview=Preview("https://example.org/secret", "secret", "secret"),
        view_once=True,
    ),
    Read(NOW, [Mark(DeviceId(1), 1, [1, 3, 5, 5])]),
    Edit(NOW, NAME, "a secret", (Mention(0, 1, BOB),), Preview("secret")),
    Delete(NOW, NAME),
    Reaction(NOW, NAME, "secret"),
    Contact(NOW, "secret", (NUMBER,), BOB, **COMMON),
    Location(NOW, 48.1375, 11.5755, 20.5, "secret", **COMMON),
    Poll(NOW, "secret?", ("secret", "open"), True, **COMMON),
    Vote(NOW, NAME, (0, 1)),
    Timer(NOW, 86_400),
    Typing(NOW, True),
    Sent(NOW, BOB, NAME, NOW, INNER),
    Retry(NOW, (DeviceMessage(DeviceId(1), 1, MessageId(7)),)),
    Resend(NOW, DeviceMessage(DeviceId(1), 1, MessageId(7)), INNER),
    Devices(NOW, 7),
    Settings(
        NOW,
        (
            Setting(BOB, "blocked", True),
            Setting(BOB, "muted", NOW),
            Setting(BOB, "name", "secret"),
            Setting(None, "verified", b"secret"),
        ),
    ),
    Marks(NOW, (PeerMarks(BOB, [Mark(DeviceId(1), 1, [1, 3])]),)),
    Transfer(NOW, b"t" * 16, Step.PART, 3, 4, b"secret"),
    Profile(NOW, "secret", NUMBER),
    Erase(NOW, BOB, (NAME,)),
]
"""One of each kind, with every field, in the order of the kinds."""

times = st.integers(0, 2**53 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
short = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
accounts = st.binary(min_size=16, max_size=16).map(AccountId)
devices = st.integers(1, 127).map(DeviceId)
counts = st.integers(1, 2**40 - 1)
device_messages = st.builds(DeviceMessage, devices, st.integers(0, 9), counts.map(MessageId))
message_names = st.builds(MessageName, accounts, devices, st.integers(0, 9), counts.map(MessageId))
numbers = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True).map(PhoneNumber)
ranges = st.lists(counts, min_size=1, max_size=9).map(
    lambda ends: [e for x in ends for e in (x, x)]
)
marks = st.lists(st.builds(Mark, devices, st.integers(0, 9), ranges), min_size=1, max_size=8)
previews = st.builds(Preview, words, short, short)
common: dict[str, Any] = {
    "number": st.none() | numbers,
    "list_version": st.none() | st.integers(1, 2**53 - 1),
    "reply": st.none() | st.builds(Reply, message_names, short),
    "forwarded": st.integers(0, 255),
    "expires": st.none() | st.integers(1, 366 * 86_400),
}
emoji = st.text(st.characters(exclude_categories=["Cs"]), max_size=16)
choices = st.sets(st.integers(0, 11)).map(lambda chosen: tuple(sorted(chosen)))
values = st.booleans() | times | short | st.binary(max_size=40)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[str, tuple[Mention, ...]]:
    """A text with mentions in it, none over another."""
    text = draw(words)
    ends = draw(st.sets(st.integers(0, len(text)), max_size=8).map(sorted))
    spans = zip(ends[::2], ends[1::2], strict=False)
    return text, tuple(Mention(a, b - a, draw(accounts)) for a, b in spans)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    text, mentions = draw(spoken())
    rest = {name: draw(strategy) for name, strategy in common.items()}
    preview, view_once = draw(st.none() | previews), draw(st.booleans())
    return Text(draw(times), text, **rest, mentions=mentions, preview=preview, view_once=view_once)


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    text, mentions = draw(spoken())
    return Edit(draw(times), draw(message_names), text, mentions, draw(st.none() | previews))


def tuples(strategy: Any, least: int, most: int, **options: Any) -> Any:
    return st.lists(strategy, min_size=least, max_size=most, **options).map(tuple)


known: st.SearchStrategy[Known] = st.one_of(
    texts(),
    edits(),
    st.builds(Read, times, marks),
    st.builds(Delete, times, message_names),
    st.builds(Reaction, times, message_names, emoji),
    st.builds(Contact, times, words, tuples(numbers, 0, 16), st.none() | accounts, **common),
    st.builds(
        Location,
        times,
        st.floats(-90, 90),
        st.floats(-180, 180),
        st.floats(0, 1e8),
        short,
        **common,
    ),
    st.builds(Poll, times, words, tuples(words, 2, 12, unique=True), st.booleans(), **common),
    st.builds(Vote, times, message_names, choices),
    st.builds(Timer, times, st.integers(0, 366 * 86_400)),
    st.builds(Typing, times, st.booleans()),
    st.builds(Sent, times, accounts, message_names, times, st.binary(min_size=1, max_size=99)),
    st.builds(Retry, times, tuples(device_messages, 1, 9)),
    st.builds(Resend, times, device_messages, st.binary(min_size=1, max_size=99)),
    st.builds(Devices, times, st.integers(1, 2**53 - 1)),
    st.builds(
        Settings,
        times,
        tuples(st.builds(Setting, st.none() | accounts, words.map(lambda w: w[:32]), values), 1, 9),
    ),
    st.builds(Marks, times, tuples(st.builds(PeerMarks, accounts, marks), 1, 4)),
    st.builds(
        Transfer,
        times,
        st.binary(min_size=16, max_size=16),
        st.sampled_from(Step),
        times,
        times,
        st.binary(max_size=99),
    ),
    st.builds(Profile, times, short, st.none() | numbers),
    st.builds(Erase, times, accounts, tuples(message_names, 1, 9)),
)
"""Any content of a known kind that can be sent."""
