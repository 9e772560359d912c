"""Locks, changes of number and deletions, with the real store and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raychat import limits
from raychat.accounts import lock
from raychat.errors import BadPin, CodeExpired, Denied, Locked, Malformed, NotFound
from raychat.ids import AccountId, new_account_id
from tests.accounts.world import World

ANN, BOB, NEW = "+15550001111", "+15550002222", "+15550003333"
PIN, OTHER_PIN = "2580", "1470"
ASKER = new_account_id()
DAY = 86_400


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, scale=1e6)
    yield world
    await world.accounts.close()


def today(world: World) -> int:
    return lock.day(world.clock())


# -- the lock --------------------------------------------------------------------------------


async def test_a_locked_account_is_registered_again_only_with_its_pin(world: World) -> None:
    ann = await world.person(ANN, PIN)
    thief = await world.verified(ANN)
    with pytest.raises(Locked) as locked:
        await world.accounts.redeem(thief)
    assert 7 * DAY <= locked.value.data["seconds"] <= 8 * DAY
    with pytest.raises(BadPin) as bad:
        await world.accounts.redeem(thief, OTHER_PIN)
    assert bad.value.data == {"tries": limits.PIN_TRIES - 1}
    assert await world.accounts.redeem(thief, f" {PIN} ") == ann
    assert await world.accounts.has_lock(ann), "the lock stays"


async def test_what_was_redeemed_needs_no_pin_again(world: World) -> None:
    ann = await world.person(ANN, PIN)
    registration = await world.verified(ANN)
    assert await world.accounts.redeem(registration, PIN) == ann
    await world.restart()
    assert await world.accounts.redeem(registration) == ann


async def test_pins_are_tried_five_times_and_then_once_a_day_even_over_restarts(
    world: World,
) -> None:
    ann = await world.person(ANN, PIN)
    tried = 0
    for day in range(6):
        await world.accounts.see(ann, today(world))
        registration = await world.verified(ANN)
        for _ in range(10):
            await world.restart()
            try:
                await world.accounts.redeem(registration, OTHER_PIN)
            except BadPin:
                tried += 1
            except Locked as error:
                assert error.data["tries"] == 0
        assert tried == limits.PIN_TRIES + day
        world.pass_time(DAY)


async def test_all_tries_at_once_are_no_more_tries(world: World) -> None:
    await world.person(ANN, PIN)
    registration = await world.verified(ANN)
    guesses = [world.accounts.redeem(registration, OTHER_PIN) for _ in range(20)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(result, BadPin) for result in results) == limits.PIN_TRIES
    assert sum(isinstance(result, Locked) for result in results) == 20 - limits.PIN_TRIES
    with pytest.raises(Locked):
        await world.accounts.redeem(registration, PIN)


async def test_the_right_pin_gives_the_tries_back(world: World) -> None:
    await world.person(ANN, PIN)
    for _ in range(3):
        registration = await world.verified(ANN)
        for _ in range(limits.PIN_TRIES - 1):
            with pytest.raises(BadPin):
                await world.accounts.redeem(registration, OTHER_PIN)
        await world.accounts.redeem(registration, PIN)


async def test_a_lock_ends_when_the_account_is_not_used_for_a_week(world: World) -> None:
    ann = await world.person(ANN, PIN)
    world.pass_time(7 * DAY)
    await world.accounts.see(ann, today(world))
    world.pass_time(7 * DAY)
    with pytest.raises(Locked):
        await world.accounts.redeem(await world.verified(ANN))
    world.pass_time(DAY)
    assert await world.accounts.redeem(await world.verified(ANN)) == ann
    assert not await world.accounts.has_lock(ann), "its new owner does not know the PIN"


async def test_before_a_lock_is_judged_it_can_be_asked_who_is_concerned(world: World) -> None:
    ann = await world.person(ANN, PIN)
    await world.person(BOB)
    started = (await world.accounts.start(ANN)).registration
    with pytest.raises(Denied):
        await world.accounts.locked_holder(started)
    assert await world.accounts.locked_holder(await world.verified(ANN)) == ann
    assert await world.accounts.locked_holder(await world.verified(BOB)) is None
    assert await world.accounts.locked_holder(await world.verified(NEW)) is None


async def test_nobody_is_seen_in_the_future_or_less_late_than_before(world: World) -> None:
    ann = await world.person(ANN, PIN)
    await world.accounts.see(ann, today(world) + 100)
    await world.accounts.see(ann, 0)
    record = await world.store.record(ann)
    assert record is not None and record.seen == today(world)


async def test_a_pin_can_be_changed_and_taken_away(world: World) -> None:
    ann = await world.person(ANN, PIN)
    await world.accounts.set_lock(ann, OTHER_PIN)
    registration = await world.verified(ANN)
    with pytest.raises(BadPin):
        await world.accounts.redeem(registration, PIN)
    await world.accounts.remove_lock(ann)
    assert not await world.accounts.has_lock(ann)
    assert await world.accounts.redeem(registration) == ann


async def test_a_pin_that_is_too_short_locks_nothing(world: World) -> None:
    ann = await world.person(ANN)
    with pytest.raises(Malformed):
        await world.accounts.set_lock(ann, "123")
    assert not await world.accounts.has_lock(ann)


async def test_an_account_that_is_not_there_has_no_lock(world: World) -> None:
    nobody = new_account_id()
    for call in (
        world.accounts.has_lock(nobody),
        world.accounts.set_lock(nobody, PIN),
        world.accounts.remove_lock(nobody),
    ):
        with pytest.raises(NotFound):
            await call


async def test_no_pin_is_on_disk(world: World) -> None:
    await world.person(ANN, "a very secret PIN")
    stored = b"".join(path.read_bytes() for path in world.folder.glob("accounts.*"))
    assert b"$argon2id$" in stored
    assert b"very secret" not in stored


# -- another number --------------------------------------------------------------------------


async def test_an_account_keeps_its_id_with_another_number(world: World) -> None:
    ann = await world.person(ANN, PIN)
    registration = await world.verified(NEW)
    assert await world.accounts.change_number(ann, registration) is None
    assert await world.accounts.lookup(NEW, ASKER) == ann
    with pytest.raises(NotFound):
        await world.accounts.lookup(ANN, ASKER)
    assert await world.accounts.has_lock(ann)
    await world.restart()
    assert await world.accounts.change_number(ann, registration) is None, "it may be repeated"


async def test_the_old_number_rests_and_only_its_owner_may_take_it_back(world: World) -> None:
    ann = await world.person(ANN)
    await world.accounts.change_number(ann, await world.verified(NEW))
    stranger = await world.verified(ANN)
    with pytest.raises(Locked) as error:
        await world.accounts.redeem(stranger)
    assert error.value.data["seconds"] == limits.RECYCLED_NUMBER_DAYS * DAY
    bob = await world.person(BOB)
    with pytest.raises(Locked):
        await world.accounts.change_number(bob, await world.verified(ANN))
    await world.accounts.change_number(ann, await world.verified(ANN))
    assert await world.accounts.lookup(ANN, ASKER) == ann


async def test_after_its_rest_a_number_is_anybody_s(world: World) -> None:
    ann = await world.person(ANN)
    await world.accounts.change_number(ann, await world.verified(NEW))
    world.pass_time(limits.RECYCLED_NUMBER_DAYS * DAY)
    other = await world.person(ANN)
    assert other != ann
    assert await world.accounts.lookup(NEW, ASKER) == ann


async def test_a_registration_of_the_old_number_leads_nowhere_any_more(world: World) -> None:
    ann = await world.person(ANN)
    old = await world.verified(ANN)
    assert await world.accounts.redeem(old) == ann
    await world.accounts.change_number(ann, await world.verified(NEW))
    with pytest.raises(CodeExpired):
        await world.accounts.redeem(old)


async def test_who_has_another_account_s_number_now_ends_that_account(world: World) -> None:
    ann, bob = await world.person(ANN), await world.person(BOB, PIN)
    registration = await world.verified(BOB)
    with pytest.raises(Locked):
        await world.accounts.change_number(ann, registration)
    with pytest.raises(BadPin):
        await world.accounts.change_number(ann, registration, OTHER_PIN)
    assert await world.accounts.change_number(ann, registration, PIN) == bob
    assert await world.accounts.lookup(BOB, ASKER) == ann
    assert await world.accounts.leaving() == [bob]
    assert await world.accounts.change_number(ann, registration) is None


async def test_a_number_is_changed_only_by_a_registration_of_one_s_own(world: World) -> None:
    ann = await world.person(ANN)
    started = (await world.accounts.start(NEW)).registration
    with pytest.raises(Denied):
        await world.accounts.change_number(ann, started)
    used = await world.verified(BOB)
    await world.accounts.redeem(used)
    with pytest.raises(Denied, match="used already"):
        await world.accounts.change_number(ann, used)
    with pytest.raises(CodeExpired):
        await world.accounts.change_number(ann, "no such thing")
    with pytest.raises(NotFound):
        await world.accounts.change_number(new_account_id(), await world.verified(NEW))


async def test_a_change_to_the_number_one_has_changes_nothing(world: World) -> None:
    ann = await world.person(ANN)
    assert await world.accounts.change_number(ann, await world.verified(ANN)) is None
    assert await world.accounts.lookup(ANN, ASKER) == ann


# -- the end of an account -------------------------------------------------------------------


async def test_a_deleted_account_is_found_no_more_and_its_host_is_still_to_be_told(
    world: World,
) -> None:
    ann = await world.person(ANN)
    await world.accounts.remove(ann)
    with pytest.raises(NotFound):
        await world.accounts.lookup(ANN, ASKER)
    assert await world.accounts.count() == 0
    await world.restart()
    assert await world.accounts.leaving() == [ann]
    assert await world.accounts.all_accounts() == [ann]
    await world.accounts.remove(ann)
    await world.accounts.gone(ann)
    assert await world.accounts.leaving() == []
    assert await world.accounts.all_accounts() == []


async def test_a_locked_account_is_deleted_only_with_its_pin(world: World) -> None:
    ann = await world.person(ANN, PIN)
    world.pass_time(30 * DAY)  # who deletes it uses it, so the lock holds
    with pytest.raises(Locked):
        await world.accounts.remove(ann)
    with pytest.raises(BadPin):
        await world.accounts.remove(ann, OTHER_PIN)
    await world.accounts.remove(ann, PIN)
    assert await world.accounts.leaving() == [ann]


async def test_the_number_of_a_deleted_account_gets_a_new_one_a_day_later(world: World) -> None:
    ann = await world.person(ANN, PIN)
    await world.accounts.remove(ann, PIN)
    with pytest.raises(Locked) as error:
        await world.accounts.redeem(await world.verified(ANN))
    assert error.value.data["seconds"] == limits.DELETED_NUMBER_HOURS * 3600
    world.pass_time(limits.DELETED_NUMBER_HOURS * 3600)
    again = await world.accounts.redeem(await world.verified(ANN))
    assert again != ann
    assert not await world.accounts.has_lock(again)


async def test_a_registration_of_a_deleted_account_leads_nowhere(world: World) -> None:
    ann: AccountId = await world.person(ANN)
    registration = await world.verified(ANN)
    await world.accounts.redeem(registration)
    await world.accounts.remove(ann)
    with pytest.raises(CodeExpired):
        await world.accounts.redeem(registration)
