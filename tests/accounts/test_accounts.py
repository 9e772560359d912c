"""From a number to an account, with the real store and a phone that keeps what it gets."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from raychat import limits
from raychat.accounts.pepper import NumberHash, RegistrationKey
from raychat.accounts.providers import ConsoleSender
from raychat.accounts.registration import Registration, Started
from raychat.accounts.sender import CodeMessage
from raychat.accounts.sending import Known
from raychat.accounts.service import Accounts
from raychat.accounts.store import SqliteAccountStore
from raychat.clock import ManualClock
from raychat.errors import (
    BY_CODE,
    BadCode,
    BadNumber,
    CodeExpired,
    Denied,
    NotFound,
    Overloaded,
    Unavailable,
)
from raychat.ids import AccountId, PhoneNumber, new_account_id

NUMBER = "+15550001111"
OTHER = "+15550002222"
ASKER = new_account_id()

NO_LIMIT = 1e6
"""Scale of the budgets, which have tests of their own."""


class Phone:
    """A provider whose texts arrive in a list, or that is down."""

    def __init__(self) -> None:
        self.texts: list[tuple[PhoneNumber, str]] = []
        self.down = False

    async def send(self, message: CodeMessage) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable
        self.texts.append((message.number, message.text))

    async def close(self) -> None:
        return None

    def code(self) -> str:
        found = re.fullmatch(r"your raychat code is (\d{6})", self.texts[-1][1])
        assert found is not None
        return found[1]


class SlowStore(SqliteAccountStore):
    """Lets others run before each call, as a store across a network would."""

    async def begin(self, started: Started, known: Known, now: int, most: int) -> bool:
        await asyncio.sleep(0)
        return await super().begin(started, known, now, most)

    async def registration(self, key: RegistrationKey) -> Registration | None:
        await asyncio.sleep(0)
        return await super().registration(key)

    async def save(self, registration: Registration) -> None:
        await asyncio.sleep(0)
        await super().save(registration)

    async def claim(self, number: NumberHash, candidate: AccountId, day: int) -> AccountId:
        await asyncio.sleep(0)
        return await super().claim(number, candidate, day)


class World:
    """A service that can be restarted on the same files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.phone = Phone()
        self.clock = ManualClock()
        self.random = Random(7)
        self.accounts = self._open()

    def _open(self) -> Accounts:
        store = SlowStore(self.folder / "accounts.db")
        return Accounts(store, self.phone, self.clock, self.random.randbytes, scale=NO_LIMIT)

    async def restart(self) -> None:
        await self.accounts.close()
        self.accounts = self._open()

    async def verified(self, number: str = NUMBER) -> str:
        registration, *_ = await self.accounts.start(number)
        await self.accounts.check(registration, self.phone.code())
        return registration

    def wrong(self) -> str:
        return f"{(int(self.phone.code()) + 1) % 1_000_000:06}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.accounts.close()


async def test_a_number_becomes_an_account(world: World) -> None:
    registration, digits, seconds, _ = await world.accounts.start("+1 (555) 000-1111")
    assert (digits, seconds) == (limits.CODE_DIGITS, limits.CODE_SECONDS)
    assert 0 < len(registration) <= 64 and re.fullmatch(r"[\w-]+", registration)
    assert world.phone.texts[0][0] == NUMBER
    await world.accounts.check(registration, world.phone.code())
    account = await world.accounts.redeem(registration)
    assert len(account) == 16
    assert await world.accounts.lookup("+1 555 000 1111", ASKER) == account
    assert await world.accounts.count() == 1


async def test_who_registers_again_gets_the_same_account(world: World) -> None:
    first = await world.accounts.redeem(await world.verified())
    world.clock.advance(86_400_000)
    assert await world.accounts.redeem(await world.verified()) == first
    assert await world.accounts.count() == 1


async def test_two_racing_redeems_of_one_number_give_one_account(world: World) -> None:
    one = await world.verified()
    other = await world.verified()
    assert one != other
    found = await asyncio.gather(
        *(world.accounts.redeem(registration) for registration in (one, other) * 8)
    )
    assert len(set(found)) == 1
    assert await world.accounts.count() == 1


async def test_an_answer_that_was_lost_can_be_had_again(world: World) -> None:
    registration = await world.verified()
    await world.accounts.check(registration, world.phone.code())
    first = await world.accounts.redeem(registration)
    await world.restart()
    assert await world.accounts.redeem(registration) == first
    world.clock.advance(limits.CODE_SECONDS * 1000)
    with pytest.raises(CodeExpired):
        await world.accounts.redeem(registration)


async def test_a_restart_loses_no_registration(world: World) -> None:
    registration, *_ = await world.accounts.start(NUMBER)
    with pytest.raises(BadCode, match="4 tries"):
        await world.accounts.check(registration, world.wrong())
    await world.restart()
    with pytest.raises(BadCode, match="3 tries"):
        await world.accounts.check(registration, world.wrong())
    await world.restart()
    await world.accounts.check(registration, world.phone.code())
    await world.restart()
    account = await world.accounts.redeem(registration)
    await world.restart()
    assert await world.accounts.lookup(NUMBER, ASKER) == account


async def test_five_tries_even_all_at_once(world: World) -> None:
    registration, *_ = await world.accounts.start(NUMBER)
    guesses = [world.accounts.check(registration, world.wrong()) for _ in range(20)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(result, BadCode) for result in results) == limits.CODE_TRIES
    assert sum(isinstance(result, CodeExpired) for result in results) == 20 - limits.CODE_TRIES
    with pytest.raises(CodeExpired):
        await world.accounts.check(registration, world.phone.code())


async def test_a_code_verifies_only_its_own_registration(world: World) -> None:
    mine, *_ = await world.accounts.start(NUMBER)
    my_code = world.phone.code()
    theirs, *_ = await world.accounts.start(OTHER)
    with pytest.raises(BadCode):
        await world.accounts.check(theirs, my_code)
    await world.accounts.check(mine, my_code)


async def test_a_new_start_makes_the_older_code_void(world: World) -> None:
    old, *_ = await world.accounts.start(NUMBER)
    old_code = world.phone.code()
    new, *_ = await world.accounts.start("+1 555 000 1111")
    with pytest.raises(CodeExpired):
        await world.accounts.check(old, old_code)
    await world.accounts.check(new, world.phone.code())


async def test_a_code_may_be_typed_in_groups(world: World) -> None:
    registration, *_ = await world.accounts.start(NUMBER)
    code = world.phone.code()
    await world.accounts.check(registration, f" {code[:3]}-{code[3:]} ")


@pytest.mark.parametrize("code", ["", "x" * 64, "１２３４５６", "\ud800"])
async def test_a_strange_code_is_a_wrong_one(world: World, code: str) -> None:
    registration, *_ = await world.accounts.start(NUMBER)
    with pytest.raises(BadCode):
        await world.accounts.check(registration, code)


async def test_without_the_code_there_is_no_account(world: World) -> None:
    registration, *_ = await world.accounts.start(NUMBER)
    with pytest.raises(Denied):
        await world.accounts.redeem(registration)
    with pytest.raises(NotFound):
        await world.accounts.lookup(NUMBER, ASKER)


@pytest.mark.parametrize("registration", ["", "no-such-thing", "\ud800"])
async def test_an_unknown_registration_looks_like_an_expired_one(
    world: World, registration: str
) -> None:
    with pytest.raises(CodeExpired):
        await world.accounts.check(registration, "123456")
    with pytest.raises(CodeExpired):
        await world.accounts.redeem(registration)


async def test_what_is_no_number_costs_no_text(world: World) -> None:
    with pytest.raises(BadNumber):
        await world.accounts.start("12")
    with pytest.raises(BadNumber):
        await world.accounts.lookup("12", ASKER)
    assert world.phone.texts == []


async def test_too_many_registrations_are_refused_before_a_text_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGISTRATION_SESSIONS", 1)
    await world.accounts.start(NUMBER)
    with pytest.raises(Overloaded):
        await world.accounts.start(OTHER)
    assert len(world.phone.texts) == 1
    world.clock.advance(limits.CODE_SECONDS * 1000)
    await world.accounts.start(OTHER)


async def test_a_text_that_could_not_be_sent_can_be_asked_for_again(world: World) -> None:
    world.phone.down = True
    with pytest.raises(Unavailable):
        await world.accounts.start(NUMBER)
    world.phone.down = False
    await world.accounts.redeem(await world.verified())


async def test_all_accounts_come_however_many_pages_they_fill(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raychat.accounts.service.PAGE", 2)
    assert await world.accounts.all_accounts() == []
    made = [
        await world.accounts.redeem(await world.verified(f"+1555000111{last}")) for last in range(5)
    ]
    assert await world.accounts.all_accounts() == sorted(made)


async def test_an_account_id_is_a_random_uuid(world: World) -> None:
    account = await world.accounts.redeem(await world.verified())
    assert account[6] >> 4 == 4 and account[8] >> 6 == 2


async def test_no_number_code_or_registration_id_is_on_disk_or_in_a_repr(tmp_path: Path) -> None:
    console = tmp_path / "console.txt"
    store = SqliteAccountStore(tmp_path / "accounts.db")
    accounts = Accounts(store, ConsoleSender(console))
    registration, *_ = await accounts.start(NUMBER)
    code = console.read_text().strip()[-6:]
    shown = []
    for act in (
        lambda: accounts.check(registration, "wrong"),
        lambda: accounts.check(registration, code),
        lambda: accounts.redeem(registration),
    ):
        try:
            await act()
        except BadCode as error:
            shown.append(f"{error!r} {error}")
        shown.append(repr(await store.registration(store.pepper.registration(registration))))
    shown.append(repr((accounts, store, store.pepper)))
    stored = b"".join(
        (tmp_path / f"accounts.{name}").read_bytes() for name in ("db", "db-wal", "db-shm", "lock")
    )
    assert bytes(store.pepper.number(PhoneNumber(NUMBER))) in stored, "the right files are searched"
    for secret in (NUMBER, NUMBER[1:], NUMBER[2:], code, registration):
        assert secret not in "".join(shown)
        assert secret.encode() not in stored
    await accounts.close()


@pytest.mark.parametrize("code", BY_CODE)
def test_errors_survive_the_way_between_actors(code: str) -> None:
    error = BY_CODE[code]("a detail")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (again.detail, again.code, str(again)) == ("a detail", code, str(error))
