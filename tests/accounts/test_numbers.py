"""Which texts are phone numbers, and that each number has one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.accounts.numbers import country, parse_number, prefix
from raychat.errors import BadNumber
from raychat.ids import PhoneNumber


@pytest.mark.parametrize(
    "text",
    ["+15550001111", "+1 555 000 1111", "+1 (555) 000-1111", " +1.555.000.1111 ", "＋15550001111"],
)
def test_every_spelling_of_a_number_is_the_same_number(text: str) -> None:
    assert parse_number(text) == "+15550001111"


def test_a_trunk_zero_in_brackets_does_not_count() -> None:
    assert parse_number("+44 (0)20 8366 1177") == parse_number("+442083661177")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "hello",
        "5550001111",  # no country
        "+1 5550001",  # no area
        "+1",
        "+1555000111122334455",
        "+999123456",  # no such country
        "+1" + "5" * 300,
    ],
)
def test_what_no_text_message_can_reach_is_refused(text: str) -> None:
    with pytest.raises(BadNumber):
        parse_number(text)


def test_an_extension_is_refused_not_dropped() -> None:
    with pytest.raises(BadNumber, match="extension"):
        parse_number("+15550001111 ext. 5")


def test_a_refusal_does_not_repeat_the_number() -> None:
    with pytest.raises(BadNumber) as refusal:
        parse_number("+1 5559876")
    assert "5559876" not in repr(refusal.value) + str(refusal.value)
    assert refusal.value.__cause__ is None


@given(st.text(max_size=40) | st.from_regex(r"\+[0-9 ()x-]{1,20}", fullmatch=True))
def test_any_text_is_a_number_in_one_form_or_refused(text: str) -> None:
    try:
        number = parse_number(text)
    except BadNumber:
        return
    assert isinstance(number, PhoneNumber)
    assert number[0] == "+" and number[1:].isascii() and number[1:].isdigit()
    assert parse_number(number) == number


@pytest.mark.parametrize(
    ("number", "start", "calling_code"),
    [
        ("+15550001111", "+1555", 1),
        ("+491701234567", "+49170", 49),
        ("+393331234567", "+39333", 39),
        ("+390612345678", "+39061", 39),  # the zero is part of the number
        ("+3581234567", "+358123", 358),
    ],
)
def test_numbers_that_are_bought_together_have_a_prefix_in_common(
    number: str, start: str, calling_code: int
) -> None:
    parsed = parse_number(number)
    assert prefix(parsed) == start
    assert country(parsed) == calling_code
