"""Registration, locks, numbers and deletion over the HTTP API of a real gateway and hosts."""

from __future__ import annotations

from typing import Any

import pytest

from raychat import limits
from raychat.accounts.challenge import Asking
from raychat.accounts.gate import Gate
from raychat.accounts.sending import Sending
from raychat.clock import wall_ms
from raychat.errors import ChallengeRequired, Unavailable
from raychat.gateway.api.accounts import last_seen, leave
from raychat.ids import AccountId, account_id, account_text
from tests.gateway.phones import Phone
from tests.stack import Stack

ANN, BOB, NEW = "+15550001111", "+15550002222", "+15550003333"
PIN, OTHER_PIN = "2580", "1470"


async def again(stack: Stack, number: str) -> tuple[Phone, str]:
    """A new phone that has given the code of a number, and the path of its registration."""
    phone = Phone(stack)
    return phone, await phone.prove(number)


async def enter(phone: Phone, path: str, **fields: Any) -> None:
    """Become the primary of a proven registration's account."""
    account = (await phone.ok("POST", f"{path}/account", fields))["account"]
    phone.sign(account_id(account), 1)
    phone.take(await phone.ok("POST", f"{path}/device", phone.registration()))


# -- registration ----------------------------------------------------------------------------


async def test_a_registration_says_what_comes_and_when_the_next_code_may(stack: Stack) -> None:
    body = {"number": ANN, "channel": "voice"}
    begun = await Phone(stack).ok("POST", "/v1/registrations", body)
    assert set(begun) == {"registration", "digits", "seconds", "wait"}
    assert (begun["digits"], begun["seconds"]) == (6, 600)
    assert (stack.folder / "console.txt").read_text().startswith(f"Call to {ANN}")


@pytest.mark.parametrize(
    "more",
    [{"channel": "pigeon"}, {"channel": 1}, {"challenge": ""}, {"challenge": "x" * 5000}],
    ids=["channel", "type", "empty", "long"],
)
async def test_fields_that_are_not_as_agreed_are_malformed(
    stack: Stack, more: dict[str, object]
) -> None:
    error = await Phone(stack).error("POST", "/v1/registrations", {"number": ANN, **more})
    assert error == (400, "malformed")


async def test_a_challenge_is_answered_in_a_second_call(stack: Stack) -> None:
    class Riddle:
        async def check(self, asking: Asking) -> None:
            if asking.answer != "right":
                raise ChallengeRequired(None, {"challenge": {"kind": "riddle"}})

        async def close(self) -> None:
            return None

    stack.accounts._challenge = Riddle()
    phone = Phone(stack)
    status, answer = await phone.call("POST", "/v1/registrations", {"number": ANN})
    assert (status, answer["error"]) == (428, "challenge")
    assert answer["challenge"] == {"kind": "riddle"}
    await phone.ok("POST", "/v1/registrations", {"number": ANN, "challenge": "right"})


async def test_a_wrong_code_says_how_many_tries_are_left(stack: Stack) -> None:
    begun = await Phone(stack).ok("POST", "/v1/registrations", {"number": ANN})
    path = f"/v1/registrations/{begun['registration']}/code"
    status, answer = await Phone(stack).call("POST", path, {"code": "wrong"})
    assert (status, answer["error"], answer["tries"]) == (403, "bad-code", 4)


async def test_who_asks_too_often_is_told_how_long_to_wait(stack: Stack) -> None:
    stack.accounts._sending, stack.accounts._gate = Sending.of_limits(), Gate(wall_ms)
    url = f"{stack.url}/v1/registrations"
    async with stack.http.post(url, json={"number": ANN}) as response:
        assert response.status == 201
        assert (await response.json())["wait"] == limits.CODE_WAIT_SECONDS
    async with stack.http.post(url, json={"number": ANN}) as response:
        answer = await response.json()
        assert (response.status, answer["error"]) == (429, "rate-limited")
        assert 0 < answer["seconds"] <= limits.CODE_WAIT_SECONDS
        assert response.headers["Retry-After"] == str(answer["seconds"])
    # Somebody who says to be somebody else each time is still the same address.
    statuses = []
    for number in range(limits.ADDRESS_CODES):
        body = {"number": f"+1555{number + 200}1111"}
        headers = {"X-Forwarded-For": f"192.0.2.{number}"}
        async with stack.http.post(url, json=body, headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [201] * (limits.ADDRESS_CODES - 2) + [429] * 2


# -- the lock --------------------------------------------------------------------------------


async def test_a_locked_number_is_registered_again_only_with_the_pin(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    assert await ann.ok("GET", "/v1/account/lock") == {"locked": False}
    await ann.ok("PUT", "/v1/account/lock", {"pin": PIN})
    assert await ann.ok("GET", "/v1/account/lock") == {"locked": True}
    phone, path = await again(stack, ANN)
    for call in ("account", "device"):
        body = {"keys": {}, "list": ""}
        status, answer = await phone.call("POST", f"{path}/{call}", body)
        assert (status, answer["error"]) == (423, "locked")
        assert 7 * 86_400 <= answer["seconds"] <= 8 * 86_400
    status, answer = await phone.call("POST", f"{path}/account", {"pin": OTHER_PIN})
    assert (status, answer["error"], answer["tries"]) == (403, "bad-pin", limits.PIN_TRIES - 1)
    await ann.ok("GET", "/v1/account/lock")
    await enter(phone, path, pin=PIN)
    assert phone.account == ann.account
    assert await ann.error("GET", "/v1/account/lock") == (401, "bad-token")
    assert await phone.ok("GET", "/v1/account/lock") == {"locked": True}
    await phone.ok("DELETE", "/v1/account/lock")
    assert await phone.ok("GET", "/v1/account/lock") == {"locked": False}


async def test_an_account_in_use_stays_locked_however_long_accounts_have_not_heard_of_it(
    stack: Stack,
) -> None:
    ann = await Phone(stack).register(ANN)
    await ann.ok("PUT", "/v1/account/lock", {"pin": PIN})
    wire = await ann.wire()
    stack.accounts._store._db.execute("UPDATE account SET seen = 0")
    phone, path = await again(stack, ANN)
    assert await phone.error("POST", f"{path}/account", {}) == (423, "locked")
    await wire.hang_up()


def test_an_account_was_seen_when_its_last_device_was() -> None:
    assert last_seen([]) == 0
    assert last_seen([(1, 1, 20_000), (2, 1, 20_003), (3, 7, 0)]) == 20_003


# -- another number --------------------------------------------------------------------------


async def test_a_change_of_number_keeps_the_account(stack: Stack) -> None:
    ann, bob = await Phone(stack).register(ANN), await Phone(stack).register(BOB)
    path = await ann.prove(NEW)
    body = {"registration": path.rpartition("/")[2]}
    for _ in range(2):
        answer = await ann.ok("POST", "/v1/account/number", body)
        assert answer == {"account": account_text(ann.account)}
    found = await bob.ok("POST", "/v1/lookup", {"number": NEW})
    assert found == {"account": account_text(ann.account)}
    assert await bob.error("POST", "/v1/lookup", {"number": ANN}) == (404, "not-found")
    phone, path = await again(stack, ANN)
    status, answer = await phone.call("POST", f"{path}/account", {})
    assert (status, answer["error"]) == (423, "locked")
    assert answer["seconds"] > 6 * 86_400


async def test_a_change_to_the_number_of_another_account_ends_that_one(stack: Stack) -> None:
    ann, bob = await Phone(stack).register(ANN), await Phone(stack).register(BOB)
    await bob.ok("PUT", "/v1/account/lock", {"pin": PIN})
    wire = await bob.wire()
    body = {"registration": (await ann.prove(BOB)).rpartition("/")[2]}
    assert await ann.error("POST", "/v1/account/number", body) == (423, "locked")
    await ann.ok("POST", "/v1/account/number", {**body, "pin": PIN})
    assert (await wire.end())[1] == "bad-token"
    assert await bob.error("GET", "/v1/account/lock") == (401, "bad-token")
    assert await stack.accounts.leaving() == []


# -- the end of an account -------------------------------------------------------------------


async def test_a_deleted_account_is_gone_everywhere(stack: Stack) -> None:
    ann, bob = await Phone(stack).register(ANN), await Phone(stack).register(BOB)
    await ann.ok("PUT", "/v1/account/lock", {"pin": PIN})
    wire = await ann.wire()
    assert await ann.error("DELETE", "/v1/account") == (423, "locked")
    assert await ann.error("DELETE", "/v1/account", {"pin": OTHER_PIN}) == (403, "bad-pin")
    await ann.ok("DELETE", "/v1/account", {"pin": PIN})
    assert (await wire.end())[1] == "bad-token"
    assert await ann.error("GET", "/v1/account/lock") == (401, "bad-token")
    assert await bob.error("POST", "/v1/lookup", {"number": ANN}) == (404, "not-found")
    status, _ = await bob.error("GET", f"/v1/keys/{account_text(ann.account)}")
    assert status == 404


async def test_a_host_that_is_down_is_told_of_a_deletion_later(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await Phone(stack).register(ANN)
    request = stack.gateway.request

    async def without_deletion(account: AccountId, verb: str, *arguments: Any) -> Any:
        if verb == "delete":
            raise Unavailable
        return await request(account, verb, *arguments)

    monkeypatch.setattr(stack.gateway, "request", without_deletion)
    await ann.ok("DELETE", "/v1/account")
    monkeypatch.undo()
    assert await stack.accounts.leaving() == [ann.account]
    await leave(stack.gateway, stack.accounts, ann.account)
    assert await stack.accounts.leaving() == []
    assert await ann.error("GET", "/v1/account/lock") == (401, "bad-token")


# -- who may ---------------------------------------------------------------------------------

CHANGES = [
    ("PUT", "/v1/account/lock", {"pin": PIN}),
    ("DELETE", "/v1/account/lock", None),
    ("POST", "/v1/account/number", {"registration": "x"}),
    ("DELETE", "/v1/account", None),
]


async def test_a_linked_device_changes_nothing_about_the_account(stack: Stack) -> None:
    linked = await (await Phone(stack).register(ANN)).link(2)
    for change in CHANGES:
        assert await linked.error(*change) == (403, "denied")
    assert await linked.ok("GET", "/v1/account/lock") == {"locked": False}


async def test_without_a_token_nothing_is_said_or_changed(stack: Stack) -> None:
    for change in [*CHANGES, ("GET", "/v1/account/lock", None)]:
        assert await Phone(stack).error(*change) == (401, "bad-token")


@pytest.mark.parametrize("pin", [1, "", "123", "9" * 65, {}])
async def test_what_is_no_pin_locks_nothing(stack: Stack, pin: object) -> None:
    ann = await Phone(stack).register(ANN)
    error = await ann.error("PUT", "/v1/account/lock", {"pin": pin})
    assert error == (400, "malformed")
    assert await ann.ok("GET", "/v1/account/lock") == {"locked": False}
