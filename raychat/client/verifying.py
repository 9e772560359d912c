"""Safety numbers of the people in a device's file, and whether they were compared."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from raychat.client.model import Conversation
from raychat.client.store import DeviceStore
from raychat.crypto.fingerprint import SafetyNumber
from raychat.errors import InvalidMessage, NotFound, NotRegistered
from raychat.ids import AccountId

DIGITS: Final = 60
_CODE_CHARACTERS: Final = 1_024


def safety_number(store: DeviceStore, account: AccountId | None) -> SafetyNumber:
    """The safety number with an account. Raises NotFound if its key is not known yet."""
    own = store.own().account
    mine = store.lists.account_key(own)
    if mine is None:
        raise NotRegistered
    theirs = store.lists.account_key(account) if account is not None else None
    if account is None or theirs is None:
        raise NotFound("The keys of that contact are not here yet; write to them first.")
    if account == own:
        raise NotFound("That is this account itself; compare with somebody else.")
    return SafetyNumber.of(own, mine, account, theirs)


def is_verified(contact: Conversation, store: DeviceStore) -> bool:
    """Whether the key the contact has now is the one that was compared."""
    if contact.account is None or contact.verified is None:
        return False
    key = store.lists.account_key(contact.account)
    return key is not None and contact.verified == key.data


def is_same(number: SafetyNumber, seen: str | bytes) -> bool:
    """Whether what the other person's screen shows belongs to the same two keys: their 60 digits,
    or the content of their QR code, as it is or in hexadecimal or base64.

    Raises InvalidMessage for what is neither, LegacyVersion, UnknownVersion.
    """
    if isinstance(seen, bytes):
        return number.matches(seen)
    written = re.sub(r"\s+", "", seen[:_CODE_CHARACTERS])
    if len(written) == DIGITS and written.isascii() and written.isdecimal():
        return written == number.text
    for decode in (_hexadecimal, _base64):
        data = decode(written)
        if data is not None:
            return number.matches(data)
    raise InvalidMessage("That is neither a safety number of 60 digits nor its code.")


def _hexadecimal(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _base64(text: str) -> bytes | None:
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
