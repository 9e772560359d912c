"""Reading the fields of contents: one function for each kind of value, all raise `Malformed`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from raychat import limits
from raychat.errors import Malformed
from raychat.ids import MAX_DEVICE, AccountId, DeviceId, PhoneNumber

T = TypeVar("T")
Fields = Mapping[str, Any]

MAX_COUNT: Final = 2**53 - 1
"""Times need 41 bits since 2004, ids have 40."""

MAX_NUMBER: Final = 16


def count(value: object, most: int = MAX_COUNT) -> int:
    if type(value) is int and 0 <= value <= most:
        return value
    raise Malformed("A number of the content is out of range.")


def positive(value: object, most: int = MAX_COUNT) -> int:
    found = count(value, most)
    if found == 0:
        raise Malformed("A number of the content is out of range.")
    return found


def words(value: object, most: int | None = None) -> str:
    """A text of at least one character."""
    if type(value) is not str or not value:
        raise Malformed("A text has at least one character.")
    if most is not None and len(value) > most:
        raise Malformed(f"A text of the content is longer than {most} characters.")
    return value


def label(value: object, most: int) -> str:
    """A text that may be missing or empty."""
    return "" if value is None or value == "" else words(value, most)


def data(value: object, least: int, most: int) -> bytes:
    if type(value) is bytes and least <= len(value) <= most:
        return value
    raise Malformed("Bytes of the content have the wrong length.")


def flag(value: object) -> bool:
    if type(value) is bool:
        return value
    raise Malformed("A switch of the content is neither on nor off.")


def real(value: object, least: float, most: float) -> float:
    if type(value) is float and math.isfinite(value) and least <= value <= most:
        return value
    raise Malformed("A measure of the content is out of range.")


def account(value: object) -> AccountId:
    return AccountId(data(value, 16, 16))


def device(value: object) -> DeviceId:
    return DeviceId(positive(value, MAX_DEVICE))


def number(value: object) -> PhoneNumber:
    if type(value) is str and 2 <= len(value) <= MAX_NUMBER and value[0] == "+":
        digits = value[1:]
        if digits.isascii() and digits.isdigit():
            return PhoneNumber(value)
    raise Malformed("That is not a phone number.")


def claim(value: object) -> PhoneNumber | None:
    """A claim that does not look like a number is as good as none."""
    try:
        return number(value)
    except Malformed:
        return None


def seconds(value: object) -> int:
    """A timer that is on."""
    return positive(value, limits.TIMER_SECONDS)


def items(value: object, least: int, most: int, read: Callable[[Any], T]) -> tuple[T, ...]:
    """A list of at least and at most so many items."""
    if type(value) is not list or not least <= len(value) <= most:
        raise Malformed(f"A list of the content has not {least} to {most} items.")
    return tuple(read(item) for item in value)


def record(value: object, least: int) -> list[Any]:
    """A list that stands for one thing, of at least so many fields; later ones are unknown."""
    if type(value) is not list or len(value) < least:
        raise Malformed("A record of the content has too few fields.")
    return value


def optional(value: object, read: Callable[[Any], T]) -> T | None:
    return None if value is None else read(value)


def given(**fields: object) -> dict[str, object]:
    """The fields that say something: neither None, False, 0 nor empty."""
    return {name: value for name, value in fields.items() if value}
