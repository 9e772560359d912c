"""Proving a number: what is asked, how often, and when it is given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raychat import limits
from raychat.client.http import HttpApi, Registration
from raychat.client.proving import prove, with_pin
from raychat.errors import BadCode, BadPin, ChallengeRequired, Locked, RaychatError
from raychat.ids import PhoneNumber

NUMBER = PhoneNumber("+15550001111")
REGISTRATION = Registration("r", 6, 600)


class Api(HttpApi):
    """Answers with errors from a list, then well."""

    def __init__(self, *errors: RaychatError) -> None:
        self.errors: Iterator[RaychatError] = iter(errors)
        self.began: list[tuple[bool, str | None]] = []
        self.codes: list[str] = []

    async def begin(
        self, number: PhoneNumber, *, voice: bool = False, challenge: str | None = None
    ) -> Registration:
        self.began.append((voice, challenge))
        for error in self.errors:
            raise error
        return REGISTRATION

    async def confirm(self, registration: Registration, code: str) -> None:
        self.codes.append(code)
        if code != "right":
            raise BadCode


async def right(registration: Registration, wrong: BadCode | None) -> str:
    return "right"


async def test_a_wrong_code_is_asked_for_again_till_the_tries_are_used() -> None:
    api, asked = Api(), []

    async def code(registration: Registration, wrong: BadCode | None) -> str:
        asked.append(wrong)
        return "right" if len(asked) == 3 else "wrong"

    assert await prove(api, NUMBER, code) == REGISTRATION
    assert [type(each) for each in asked] == [type(None), BadCode, BadCode]

    async def never(registration: Registration, wrong: BadCode | None) -> str:
        return "wrong"

    api = Api()
    with pytest.raises(BadCode):
        await prove(api, NUMBER, never)
    assert len(api.codes) == limits.CODE_TRIES


async def test_a_challenge_is_answered_and_the_code_asked_for_again() -> None:
    async def solve(error: ChallengeRequired) -> str | None:
        return "answer"

    api = Api(ChallengeRequired())
    await prove(api, NUMBER, right, challenge=solve, voice=True)
    assert api.began == [(True, None), (True, "answer")]


async def test_who_does_not_solve_a_challenge_is_told_of_it() -> None:
    async def give_up(error: ChallengeRequired) -> str | None:
        return None

    for challenge in (give_up, None):
        api = Api(ChallengeRequired())
        with pytest.raises(ChallengeRequired):
            await prove(api, NUMBER, right, challenge=challenge)
        assert len(api.began) == 1


async def test_a_challenge_that_is_never_solved_ends() -> None:
    async def solve(error: ChallengeRequired) -> str | None:
        return "wrong"

    api = Api(*[ChallengeRequired()] * 99)
    with pytest.raises(ChallengeRequired):
        await prove(api, NUMBER, right, challenge=solve)
    assert len(api.began) == limits.CODE_TRIES


class Call:
    """A call guarded by a PIN."""

    def __init__(self, *errors: RaychatError) -> None:
        self.errors = iter(errors)
        self.given: list[str | None] = []

    async def __call__(self, pin: str | None) -> str:
        self.given.append(pin)
        for error in self.errors:
            raise error
        return "done"


def locked(tries: int = 5) -> Locked:
    return Locked(None, {"tries": tries})


def wrong(tries: int) -> BadPin:
    return BadPin(None, {"tries": tries})


class Person:
    def __init__(self, *pins: str | None) -> None:
        self.pins = list(pins)
        self.asked: list[RaychatError] = []

    async def __call__(self, error: Locked | BadPin) -> str | None:
        self.asked.append(error)
        return self.pins.pop(0)


async def test_a_pin_is_asked_for_only_if_there_is_a_lock() -> None:
    call, person = Call(), Person()
    assert await with_pin(call, person) == "done"
    assert (call.given, person.asked) == ([None], [])


async def test_a_wrong_pin_is_asked_for_again_as_long_as_there_are_tries() -> None:
    call, person = Call(locked(), wrong(4), wrong(3)), Person("a", "b", "c")
    assert await with_pin(call, person) == "done"
    assert call.given == [None, "a", "b", "c"]
    with pytest.raises(BadPin):
        await with_pin(Call(locked(1), wrong(0)), Person("a"))
    with pytest.raises(Locked):
        await with_pin(Call(locked(0)), Person())


async def test_a_pin_that_was_given_is_tried_once() -> None:
    with pytest.raises(BadPin):
        await with_pin(Call(wrong(4)), "1234")
    with pytest.raises(Locked):
        await with_pin(Call(locked()), None)


async def test_a_number_that_rests_is_not_opened_by_any_pin() -> None:
    # Without tries in its data: no PIN is wanted at all.
    person = Person("a")
    with pytest.raises(Locked):
        await with_pin(Call(Locked(None, {"seconds": 60})), person)
    assert person.asked == []
    with pytest.raises(Locked):
        await with_pin(Call(locked(), locked()), Person("a", "b"))


async def test_who_gives_no_pin_gives_up() -> None:
    with pytest.raises(Locked):
        await with_pin(Call(locked()), Person(None))
