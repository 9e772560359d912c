"""Attacks on registration in virtual time: how much an attacker gets, and what others notice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from raychat import limits
from raychat.accounts.challenge import Asking
from raychat.accounts.pepper import NumberHash
from raychat.accounts.store import Record, SqliteAccountStore
from raychat.errors import (
    BadCode,
    ChallengeRequired,
    CodeExpired,
    Malformed,
    NotFound,
    RateLimited,
)
from raychat.ids import AccountId, new_account_id
from tests.accounts.world import World

VICTIM, PERSON = "+15550001111", "+447700900123"
HOUR, DAY = 3600, 86_400
ASKER = new_account_id()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.accounts.close()


class Botnet:
    """Addresses without end, each used once."""

    def __init__(self) -> None:
        self._numbers = count()

    def address(self) -> str:
        return f"bot {next(self._numbers)}"


async def pump(world: World, prefixes: list[str], seconds: float, restarts: bool = False) -> int:
    """Ask for codes to ever new numbers as fast as they are given; returns how many were."""
    bots, numbers, before = Botnet(), count(), len(world.phones.sent)
    end = world.clock() + seconds * 1000
    while world.clock() < end:
        number = next(numbers)
        prefix = prefixes[number % len(prefixes)]
        try:
            await world.accounts.start(f"{prefix}{number:06}", "sms", bots.address())
        except RateLimited as error:
            world.pass_time(error.data["seconds"])
            if restarts:
                await world.restart()
    return len(world.phones.sent) - before


# -- guessing codes --------------------------------------------------------------------------


async def test_guessing_the_codes_of_one_number_takes_decades(world: World) -> None:
    bots, guesses, codes = Botnet(), 0, 0
    end = world.clock() + 30 * DAY * 1000
    while world.clock() < end:
        try:
            begun = await world.accounts.start(VICTIM, "sms", bots.address())
        except RateLimited as error:
            world.pass_time(error.data["seconds"])
            continue
        codes += 1
        await world.restart()
        for _ in range(limits.CODE_TRIES + 3):
            try:
                await world.accounts.check(begun.registration, world.wrong(), bots.address())
            except BadCode:
                guesses += 1
            except CodeExpired:
                break
    assert guesses == codes * limits.CODE_TRIES
    assert codes <= 10 + 30 * DAY / limits.CODE_WAIT_MAX_SECONDS
    chance_in_a_year = guesses * 12 / 10**limits.CODE_DIGITS
    assert chance_in_a_year < 0.005


async def test_one_address_guesses_a_bounded_number_of_codes_of_all_numbers(world: World) -> None:
    bots, guesses = Botnet(), 0
    with pytest.raises(RateLimited):
        for number in count():
            begun = await world.accounts.start(
                f"+1555{number % 900 + 100}1111", "sms", bots.address()
            )
            for _ in range(limits.CODE_TRIES):
                with pytest.raises(BadCode):
                    await world.accounts.check(begun.registration, world.wrong(), "one address")
                guesses += 1
    assert guesses == limits.ADDRESS_GUESSES


async def test_who_is_refused_for_guessing_too_often_spends_no_try(world: World) -> None:
    begun = await world.accounts.start(VICTIM)
    for _ in range(limits.ADDRESS_GUESSES):
        with pytest.raises(CodeExpired):
            await world.accounts.check("no such registration", "123456", "one address")
    with pytest.raises(RateLimited):
        await world.accounts.check(begun.registration, world.wrong(), "one address")
    await world.accounts.check(begun.registration, world.phones.sent[-1].code, "another")


# -- pumping texts ---------------------------------------------------------------------------


async def test_pumping_a_prefix_is_held_to_its_budget_and_restarts_do_not_help(
    world: World,
) -> None:
    sent = await pump(world, ["+15559"], 6 * HOUR, restarts=True)
    cheap = limits.CONVERSION_PREFIX
    dear = (limits.PREFIX_CODES - cheap) // limits.POOR_PRICE
    slow = 6 * HOUR / (limits.PREFIX_CODE_SECONDS * limits.POOR_PRICE)
    assert sent <= cheap + dear + slow + 2


async def test_while_one_prefix_is_pumped_another_gets_its_codes(world: World) -> None:
    await pump(world, ["+15559"], HOUR)
    await world.person(PERSON)


async def test_pumping_all_prefixes_is_held_to_the_budget_of_all(world: World) -> None:
    prefixes = [f"+1{area}9" for area in range(201, 251)]
    sent = await pump(world, prefixes, HOUR / 4)
    cheap = limits.CONVERSION_ALL
    dear = (limits.ALL_CODES - cheap) // limits.POOR_PRICE
    slow = HOUR / 4 / (limits.ALL_CODE_SECONDS * limits.POOR_PRICE)
    assert sent <= cheap + dear + slow + 2


async def test_one_address_is_held_to_its_own_budget_first(world: World) -> None:
    sent = 0
    with pytest.raises(RateLimited):
        for number in count():
            await world.accounts.start(f"+1555{number + 200}1111", "sms", "one address")
            sent += 1
    assert sent == limits.ADDRESS_CODES
    await world.accounts.start(PERSON, "sms", "another")


async def test_a_prefix_whose_people_type_their_codes_in_is_not_slowed_down(world: World) -> None:
    bots = Botnet()
    for number in range(limits.PREFIX_CODES):
        begun = await world.accounts.start(f"+155500{number:05}", "sms", bots.address())
        code = world.phones.sent[-1].code
        await world.accounts.check(begun.registration, code, bots.address())
    assert world.phones.to("+155500") == limits.PREFIX_CODES


async def test_a_call_costs_as_much_as_a_text(world: World) -> None:
    await world.accounts.start(VICTIM, "voice")
    assert world.phones.sent[-1].channel == "voice"
    with pytest.raises(RateLimited) as error:
        await world.accounts.start(VICTIM, "sms")
    assert error.value.data["seconds"] == limits.CODE_WAIT_SECONDS
    with pytest.raises(Malformed):
        await world.accounts.start(VICTIM, "pigeon")


async def test_the_wait_for_the_next_code_is_told_beforehand(world: World) -> None:
    waits = []
    for _ in range(3):
        begun = await world.accounts.start(VICTIM)
        waits.append(begun.wait)
        world.pass_time(begun.wait)
    assert waits == [60, 120, 240]


# -- challenges ------------------------------------------------------------------------------


class Riddle:
    """A challenge with one right answer."""

    asked = 0

    async def check(self, asking: Asking) -> None:
        self.asked += 1
        if asking.answer != "right":
            raise ChallengeRequired(None, {"challenge": {"kind": "riddle"}})

    async def close(self) -> None:
        return None


async def test_with_a_challenge_no_code_is_sent_before_it_is_solved(tmp_path: Path) -> None:
    riddle = Riddle()
    world = World(tmp_path, challenge=riddle)
    for _ in range(2 * limits.ADDRESS_CODES):
        with pytest.raises(ChallengeRequired) as error:
            await world.accounts.start(VICTIM)
        assert error.value.data == {"challenge": {"kind": "riddle"}}
    with pytest.raises(ChallengeRequired):
        await world.accounts.start(VICTIM, answer="wrong")
    assert world.phones.sent == []
    await world.accounts.start(VICTIM, answer="right")
    assert len(world.phones.sent) == 1
    solved = riddle.asked
    with pytest.raises(RateLimited):
        await world.accounts.start(VICTIM, answer="right")
    assert riddle.asked == solved, "nobody solves one only to be told to wait"
    await world.accounts.close()


async def test_wrong_answers_cost_the_address(tmp_path: Path) -> None:
    world = World(tmp_path, challenge=Riddle())
    with pytest.raises(RateLimited):
        for _ in range(limits.ADDRESS_CODES + 1):
            with pytest.raises(ChallengeRequired):
                await world.accounts.start(VICTIM, answer="wrong")
    await world.accounts.close()


# -- who is registered -----------------------------------------------------------------------


class Watchful(SqliteAccountStore):
    """Notes when it is asked about an account."""

    asked = 0

    async def account(self, number: NumberHash) -> AccountId | None:
        self.asked += 1
        return await super().account(number)

    async def record(self, account: AccountId) -> Record | None:
        self.asked += 1
        return await super().record(account)


async def test_nothing_before_the_right_code_depends_on_whether_there_is_an_account(
    world: World, tmp_path: Path
) -> None:
    await world.person(VICTIM, "2580")
    world.pass_time(limits.CODE_WAIT_SECONDS)
    await world.accounts.close()
    store = Watchful(tmp_path / "accounts.db")
    world.accounts._store = store
    shapes = []
    for number in (VICTIM, PERSON):
        begun = await world.accounts.start(number, "sms", "one address")
        with pytest.raises(BadCode) as error:
            await world.accounts.check(begun.registration, world.wrong(), "one address")
        shapes.append((len(begun.registration), begun.digits, begun.seconds, str(error.value)))
    assert store.asked == 0
    assert shapes[0] == shapes[1]
    await world.accounts.close()
    world.open()


async def test_listing_numbers_is_bounded_for_an_account_hit_or_miss(world: World) -> None:
    await world.person(VICTIM)
    asked = 0
    with pytest.raises(RateLimited):
        for number in count():
            await world.accounts.lookup(VICTIM, ASKER, f"bot {number}")
            asked += 1
    assert asked == limits.LOOKUPS
    world.pass_time(DAY)
    with pytest.raises(RateLimited):
        for number in count():
            with pytest.raises(NotFound):
                await world.accounts.lookup(PERSON, ASKER, f"bot {number}")
            asked += 1
    assert asked <= 2 * limits.LOOKUPS
