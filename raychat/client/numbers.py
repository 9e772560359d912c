"""Phone numbers and accounts as people write them."""

from __future__ import annotations

import re

from raychat.errors import BadNumber
from raychat.ids import AccountId, PhoneNumber, account_id

_FILLER = re.compile(r"[\s().\-/]+")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def phone_number(text: str) -> PhoneNumber:
    """A number in E.164 form from what was typed. Raises BadNumber.

    Only the form is looked at; whether such a number exists is the server's to say.
    """
    number = _FILLER.sub("", text)
    if number.startswith("00"):
        number = "+" + number[2:]
    if not _E164.fullmatch(number):
        raise BadNumber
    return PhoneNumber(number)


def recipient(text: str) -> PhoneNumber | AccountId:
    """A phone number, or an account by its UUID. Raises BadNumber."""
    try:
        return account_id(text)
    except ValueError:
        return phone_number(text)
