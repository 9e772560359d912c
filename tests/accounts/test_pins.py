"""PINs at rest."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher

from raychat.accounts.pepper import Pepper
from raychat.accounts.pins import Pins
from raychat.errors import StoreError
from raychat.ids import new_account_id

PEPPER = Pepper(b"p" * 32)
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ACCOUNT = new_account_id()


async def test_only_the_pin_that_was_hashed_matches() -> None:
    pins = Pins(PEPPER, QUICK)
    hashed = await pins.hash(ACCOUNT, "2580")
    assert await pins.matches(ACCOUNT, hashed, "2580")
    assert not await pins.matches(ACCOUNT, hashed, "2581")
    assert not await pins.matches(ACCOUNT, hashed, "\ud800")


async def test_a_hash_is_worth_nothing_to_another_account_or_without_the_pepper() -> None:
    hashed = await Pins(PEPPER, QUICK).hash(ACCOUNT, "2580")
    assert not await Pins(PEPPER, QUICK).matches(new_account_id(), hashed, "2580")
    assert not await Pins(Pepper(b"q" * 32), QUICK).matches(ACCOUNT, hashed, "2580")


async def test_the_same_pin_hashes_differently_each_time() -> None:
    pins = Pins(PEPPER, QUICK)
    assert len({await pins.hash(ACCOUNT, "2580") for _ in range(3)}) == 3


async def test_the_hash_is_slow_and_the_loop_goes_on_meanwhile() -> None:
    pins = Pins(PEPPER)
    ticks = 0
    work = asyncio.ensure_future(pins.hash(ACCOUNT, "2580"))
    while not work.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert work.result().startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert ticks > 2


async def test_what_is_no_hash_is_a_fault_of_the_store() -> None:
    with pytest.raises(StoreError):
        await Pins(PEPPER, QUICK).matches(ACCOUNT, "garbage", "2580")
