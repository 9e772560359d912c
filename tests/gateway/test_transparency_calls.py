"""Whatever changes a device list is in the key log, and anybody can have it proven."""

from __future__ import annotations

import pytest

from raychat import limits
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import StoreError
from raychat.ids import AccountId, account_text
from raychat.transparency.answer import Answer, State
from tests.gateway.phones import Phone, data, text
from tests.stack import Stack

ANN, BOB = "+15550001111", "+15550002222"


def digest(signed: bytes) -> bytes:
    return SignedDeviceList.parse(signed).digest()


async def state(phone: Phone, since: int = 0) -> State:
    """The log's state, asked for by nobody in particular."""
    path = f"/v1/transparency/head?since={since}"
    return State.parse(data((await phone.ok("GET", path, authorization="-"))["proof"]))


async def logged(asker: Phone, account: AccountId) -> tuple[bytes, ...]:
    """The hashes of all lists of an account, proven."""
    path = f"/v1/transparency/{account_text(account)}"
    answer = Answer.parse(data((await asker.ok("GET", path))["proof"]))
    answer.check(account, None, (await state(asker)).key, 0)
    return answer.lists.latest if answer.lists else ()


async def test_registering_linking_and_removing_are_each_in_the_log(stack: Stack) -> None:
    ann, bob = await Phone(stack).register(ANN), await Phone(stack).register(BOB)
    first = digest(ann.signed())
    assert await logged(bob, ann.account) == (first,)
    await ann.link(2)
    second = digest(ann.signed())
    assert await logged(bob, ann.account) == (first, second)
    await ann.remove(2)
    assert await logged(bob, ann.account) == (first, second, digest(ann.signed()))
    again = await Phone(stack).register(ANN)
    assert (await logged(bob, ann.account))[3:] == (digest(again.signed()),)
    assert await logged(again, bob.account) == (digest(bob.signed()),)
    assert await logged(again, AccountId(b"n" * 16)) == ()


async def test_a_list_that_a_crash_kept_out_of_the_log_comes_in_when_it_is_put_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise StoreError("The disk is full.")

    ann = await Phone(stack).register(ANN)
    first = digest(ann.signed())
    ann.sign(ann.account, 2)
    with monkeypatch.context() as patch:
        patch.setattr(stack.accounts.log._store, "commit", broken)
        await ann.error("PUT", "/v1/devices", {"list": text(ann.signed())})
    assert await logged(ann, ann.account) == (first,)
    for _ in range(2):
        await ann.ok("PUT", "/v1/devices", {"list": text(ann.signed())})
    assert await logged(ann, ann.account) == (first, digest(ann.signed()))


async def test_a_state_continues_what_was_seen_before(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    before = await state(ann)
    await Phone(stack).register(BOB)
    after = await state(ann, before.head.size)
    after.check(before.head, before.key)
    assert after.head.size == before.head.size + 1
    path = f"/v1/transparency/head?since={after.head.size + 1}"
    assert await ann.error("GET", path) == (400, "bad-proof")


@pytest.mark.parametrize("query", ["since=-1", "since=x", "since=", f"since={'9' * 16}", "since=²"])
async def test_a_query_that_is_no_number_is_malformed(stack: Stack, query: str) -> None:
    phone = Phone(stack)
    assert await phone.error("GET", f"/v1/transparency/head?{query}") == (400, "malformed")


async def test_only_devices_may_ask_about_accounts(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    path = f"/v1/transparency/{account_text(ann.account)}"
    assert await Phone(stack).error("GET", path) == (401, "bad-token")
    assert await ann.error("GET", "/v1/transparency/nobody") == (400, "malformed")


async def test_asking_too_often_is_refused(stack: Stack) -> None:
    ann = await Phone(stack).register(ANN)
    path = f"/v1/transparency/{account_text(ann.account)}"
    for asked, burst in ((path, limits.LOG_LOOKUPS), ("/v1/transparency/head", limits.LOG_HEADS)):
        answers = [await ann.call("GET", asked) for _ in range(2 * burst)]
        statuses = [status for status, _ in answers]
        assert statuses[:burst] == [200] * burst
        assert statuses[-1] == 429
        assert answers[-1][1]["error"] == "rate-limited"
        assert answers[-1][1]["seconds"] >= 1
