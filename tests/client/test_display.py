"""What reaches the terminal: marks, times, and nothing that could act on it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.client import display
from raychat.client.model import (
    Body,
    Conversation,
    Message,
    Reacted,
    State,
    ViewOnce,
    Voted,
)
from raychat.ids import AccountId, DeviceId, MessageId, PhoneNumber
from raychat.wire import content

NOW = int(datetime(2026, 3, 1, 12, 30).timestamp() * 1000)
BOB_ACCOUNT = AccountId(b"b" * 16)
OWN_ACCOUNT = AccountId(b"m" * 16)
BOB = Conversation(1, BOB_ACCOUNT, PhoneNumber("+15550002222"))
MINE = Message(1, BOB, True, "hi", NOW, NOW, State.SENT)
THEIRS = Message(2, BOB, False, "hello", NOW, NOW, State.DELIVERED)


@pytest.mark.parametrize(
    ("state", "mark"),
    [
        (State.QUEUED, "…"),
        (State.SENT, "✓"),
        (State.DELIVERED, "✓✓"),
        (State.READ, "✓✓ read"),
        (State.EXPIRED, "✗ expired"),
        (State.FAILED, "✗ not sent"),
    ],
)
def test_each_state_has_its_mark(state: State, mark: str) -> None:
    assert display.line(replace(MINE, state=state), NOW) == f"12:30 you: hi  {mark}"


def test_read_is_blue_on_a_screen_only() -> None:
    styles = [style for style, _ in display.fragments(replace(MINE, state=State.READ), NOW)]
    assert "class:read" in styles
    assert "read" not in "".join(text for _, text in display.fragments(MINE, NOW))


def test_what_came_has_its_sender_and_no_mark() -> None:
    assert display.line(THEIRS, NOW) == "12:30 +15550002222: hello"
    named = replace(THEIRS, conversation=replace(BOB, name="Bob"))
    assert display.line(named, NOW) == "12:30 Bob: hello"
    nobody = replace(THEIRS, conversation=replace(BOB, number=None))
    assert "62626262-" in display.line(nobody, NOW)


def test_another_day_has_its_date_and_further_lines_are_indented() -> None:
    old = replace(MINE, composed=NOW - 86_400_000, text="one\ntwo")
    assert display.line(old, NOW) == "2026-02-28 12:30 you: one\n                      two  ✓"


def test_a_content_of_a_later_version_is_said_to_be_one() -> None:
    assert display.UNKNOWN in display.line(replace(THEIRS, text=None), NOW)


@given(st.text())
def test_no_text_acts_on_the_terminal(text: str) -> None:
    shown = display.printable(text)
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in shown)
    assert not set(shown) & set("\u202e\u2066\u2067\u2068\u2069\u200f\u2028")


def test_an_escape_sequence_is_taken_apart() -> None:
    assert display.printable("a\x1b[2Jb\r\nc\td\r") == "a\ufffd[2Jb\nc   d\ufffd"


@given(st.integers(0, 2**53 - 1))
def test_any_time_can_be_shown(ms: int) -> None:
    assert display.moment(ms, NOW)


def test_a_message_as_json_names_its_peer() -> None:
    assert display.as_json(MINE) == {
        "key": 1,
        "account": "62626262-6262-6262-6262-626262626262",
        "number": "+15550002222",
        "outgoing": True,
        "kind": "text",
        "text": "hi",
        "state": "sent",
        "composed": NOW,
        "sent": NOW,
        "delivered": None,
        "read": None,
        "edited": None,
        "deleted": None,
        "expires": None,
        "view_once": False,
        "forwarded": 0,
        "reply": None,
        "reactions": [],
    }


def said(body: Body, **facts: Any) -> Message:
    return replace(THEIRS, text=None, kind=content.kind_of(body), body=body, **facts)


def shown(message: Message) -> str:
    return display.line(message, NOW).removeprefix("12:30 +15550002222: ")


def test_a_reply_shows_whom_and_what_it_answers() -> None:
    theirs = content.MessageName(BOB_ACCOUNT, DeviceId(1), 1, MessageId(1))
    reply = content.Reply(theirs, "see\nyou")
    assert display.body(said(content.Text(NOW, "yes", reply=reply))) == (
        "> +15550002222: see you\nyes"
    )
    own = reply._replace(name=theirs._replace(account=OWN_ACCOUNT), snippet="")
    assert display.body(said(content.Text(NOW, "yes", reply=own))) == (
        "> you: (a message that is not here)\nyes"
    )


def test_a_message_that_was_passed_on_says_so() -> None:
    assert display.body(said(content.Text(NOW, "hi", forwarded=1))) == "↪ forwarded\nhi"
    assert "many times" in display.body(said(content.Text(NOW, "hi", forwarded=5)))


def test_reactions_edits_and_timers_stand_after_the_words() -> None:
    reactions = tuple(Reacted(account, "👍", NOW) for account in (BOB_ACCOUNT, OWN_ACCOUNT))
    message = said(content.Text(NOW, "hi"), reactions=reactions, edited_at=NOW, timer=3_600)
    assert shown(message) == "hi  👍 2  (edited)  ⏳ 1 hour"
    assert ("class:note", "  👍 2  (edited)  ⏳ 1 hour") in display.fragments(message, NOW)


def test_of_a_deleted_message_only_its_place_is_shown() -> None:
    message = replace(THEIRS, text=None, deleted_at=NOW)
    assert shown(message) == display.DELETED
    assert display.as_json(message)["deleted"] == NOW


@pytest.mark.parametrize("view_once", [ViewOnce.CLOSED, ViewOnce.OPENED])
def test_what_is_viewed_once_is_not_shown_in_passing(view_once: ViewOnce) -> None:
    message = said(content.Text(NOW, "secret"), view_once=view_once)
    assert "secret" not in shown(message)
    assert "view once" in shown(message)


def test_a_poll_shows_its_votes_and_ones_own() -> None:
    poll = content.Poll(NOW, "when?", ("now", "later"))
    votes = (Voted(BOB_ACCOUNT, (1,)), Voted(OWN_ACCOUNT, (1,)))
    message = said(poll, votes=votes)
    assert display.body(message) == "📊 when?\n○ now  0\n● later  2"
    assert display.as_json(message)["poll"]["votes"][0]["choices"] == [1]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (content.Contact(NOW, "Carol", (PhoneNumber("+15550003333"),)), "👤 Carol +15550003333"),
        (content.Location(NOW, 48.1, 11.5, 20.0, "Home"), "📍 Home 48.10000, 11.50000 (±20 m)"),
        (content.Location(NOW, 48.1, 11.5), "📍 48.10000, 11.50000"),
        (content.Timer(NOW, 86_400), "(new messages disappear after 1 day)"),
        (content.Timer(NOW, 0), "(new messages disappear no more)"),
        (
            content.Text(NOW, "see", preview=content.Preview("https://a.example", "A", "b")),
            "see\n🔗 A · b",
        ),
        (content.Unknown(NOW, 2, 99, b""), display.UNKNOWN),
    ],
)
def test_each_kind_is_shown_as_what_it_is(body: Body, line: str) -> None:
    assert display.body(said(body)) == line
    assert json.dumps(display.as_json(said(body)))


def test_a_notice_has_no_marks() -> None:
    notice = replace(said(content.Timer(NOW, 60)), outgoing=True, state=State.READ)
    assert display.line(notice, NOW) == "12:30 you: (new messages disappear after 1 minute)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (59, "59 seconds"),
        (90, "1.5 minutes"),
        (3_600, "1 hour"),
        (86_400, "1 day"),
        (7 * 86_400, "1 week"),
        (30 * 86_400, "4.3 weeks"),
    ],
)
def test_a_span_is_said_in_its_largest_unit(seconds: int, words: str) -> None:
    assert display.span(seconds) == words


def test_nothing_of_a_content_acts_on_the_terminal() -> None:
    poll = content.Poll(NOW, "\x1b[2J", ("\u202ea", "b"))
    card = content.Contact(NOW, "\x1b]0;x\x07")
    for body in (poll, card, content.Location(NOW, 0.0, 0.0, 0.0, "\x1b[H")):
        assert not set(display.body(said(body))) & set("\x1b\x07\u202e")
    reacted = said(content.Text(NOW, "hi"), reactions=(Reacted(BOB_ACCOUNT, "\x1b[2J", NOW),))
    assert "\x1b" not in shown(reacted)
