"""Phone numbers as people write them, made into E.164."""

from __future__ import annotations

from phonenumbers import (
    NumberParseException,
    PhoneNumberFormat,
    ValidationResult,
    format_number,
    is_possible_number_with_reason,
    parse,
)

from raychat import limits
from raychat.errors import BadNumber
from raychat.ids import PhoneNumber


def parse_number(text: str) -> PhoneNumber:
    """The number in `text`, which names its country (`+1 555 000 1111`). Raises BadNumber.

    Two spellings of one number give the same result, so that it has one account.
    """
    try:
        number = parse(text, None)
    except NumberParseException:
        raise BadNumber from None
    # Possible, not valid: the fictional numbers of examples and tests (+15550001111) are not
    # valid, and a table of valid ranges that lags behind would shut out real people. Whether
    # the number exists is proven by the code. The shorter question `is_possible_number` would
    # also say yes to numbers without their area, which no text message reaches.
    if is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        raise BadNumber
    if number.extension:
        raise BadNumber("A number with an extension cannot get text messages; leave it out.")
    return PhoneNumber(format_number(number, PhoneNumberFormat.E164))


def prefix(number: PhoneNumber) -> str:
    """The country's calling code and the first digits after it: numbers that are bought or
    abused together mostly have these in common."""
    return number[: len(f"+{country(number)}") + limits.PREFIX_DIGITS]


def country(number: PhoneNumber) -> int:
    """The country's calling code."""
    return int(parse(number, None).country_code or 0)
