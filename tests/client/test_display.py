"""What reaches the terminal: marks, times, and nothing that could act on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.client import display
from raychat.client.model import Conversation, Message, State
from raychat.ids import AccountId, PhoneNumber

NOW = int(datetime(2026, 3, 1, 12, 30).timestamp() * 1000)
BOB = Conversation(1, AccountId(b"b" * 16), PhoneNumber("+15550002222"))
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
        "text": "hi",
        "state": "sent",
        "composed": NOW,
        "sent": NOW,
        "delivered": None,
        "read": None,
    }
