"""The calls for keys: what their queries may say, and how often they may be made."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import Malformed
from raychat.gateway.api.keys import device_numbers
from raychat.ids import account_text
from tests.people import Person, people
from tests.stack import Stack

ANN, CAY, _, _ = people(4)


def authorization(person: Person) -> dict[str, str]:
    token = base64.urlsafe_b64encode(person.token).rstrip(b"=").decode()
    return {"Authorization": f"Bearer {account_text(person.account)}.1.{token}"}


@pytest.mark.parametrize(
    ("query", "numbers"), [(None, None), ("1", [1]), ("2,3", [2, 3]), ("127", [127])]
)
def test_devices_are_named_by_numbers(query: str | None, numbers: list[int] | None) -> None:
    assert device_numbers(query) == numbers


@pytest.mark.parametrize(
    "query", ["", "0", "128", "1,", "-1", "1.0", "a", "²", "1" * 5000, "1," * 127 + "1"]
)
def test_other_queries_are_malformed(query: str) -> None:
    with pytest.raises(Malformed):
        device_numbers(query)


@given(st.text(max_size=20))
def test_hostile_queries_raise_only_malformed(query: str) -> None:
    with contextlib.suppress(Malformed):
        assert all(1 <= number <= 127 for number in device_numbers(query) or ())


async def test_an_account_without_keys_has_no_bundles(stack: Stack) -> None:
    url = f"{stack.url}/v1/keys/{account_text(CAY.account)}?devices=1"
    async with stack.http.get(url, headers=authorization(ANN)) as response:
        assert response.status == 404
        assert (await response.json())["error"] == "no-keys"


async def test_fetching_too_often_is_refused(stack: Stack) -> None:
    url = f"{stack.url}/v1/keys/{account_text(CAY.account)}"
    for _ in range(limits.KEY_FETCHES):
        async with stack.http.get(url, headers=authorization(ANN)) as response:
            assert response.status == 404
    async with stack.http.get(url, headers=authorization(ANN)) as response:
        assert response.status == 429
        assert (await response.json())["error"] == "rate-limited"


async def test_uploading_too_often_is_refused_before_it_is_read(stack: Stack) -> None:
    url = f"{stack.url}/v1/keys"
    statuses = []
    for _ in range(limits.KEY_UPLOADS + 1):
        async with stack.http.put(url, headers=authorization(ANN), data=b"{") as response:
            statuses.append(response.status)
    assert statuses == [400] * limits.KEY_UPLOADS + [429]
