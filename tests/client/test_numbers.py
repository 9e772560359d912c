"""Numbers and accounts as people write them."""

from __future__ import annotations

import pytest

from raychat.client.numbers import phone_number, recipient
from raychat.errors import BadNumber
from raychat.ids import AccountId, PhoneNumber, account_text


@pytest.mark.parametrize(
    "text", ["+15550001111", "+1 555 000-1111", " +1 (555) 000.1111 ", "0015550001111"]
)
def test_a_number_is_brought_into_one_form(text: str) -> None:
    assert phone_number(text) == PhoneNumber("+15550001111")
    assert isinstance(recipient(text), PhoneNumber)


@pytest.mark.parametrize(
    "text", ["", "+", "5550001111", "+0155500011", "+1555", "+1555000111122223", "+1555000111x"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadNumber):
        recipient(text)


def test_an_account_is_named_by_its_uuid() -> None:
    account = AccountId(bytes(range(16)))
    assert recipient(account_text(account)) == account
