"""Budgets of addresses and accounts, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from raychat import limits
from raychat.accounts.gate import Gate
from raychat.clock import ManualClock
from raychat.errors import RateLimited
from raychat.ids import new_account_id


def granted(ask: Callable[[], None]) -> int:
    """How often something may be asked at once."""
    for count in range(100_000):
        try:
            ask()
        except RateLimited as error:
            assert error.data["seconds"] > 0
            return count
    raise AssertionError


def test_an_address_asks_for_a_bounded_number_of_codes() -> None:
    clock = ManualClock()
    gate = Gate(clock)
    assert granted(lambda: gate.code("192.0.2.7")) == limits.ADDRESS_CODES
    assert granted(lambda: gate.code("192.0.2.8")) == limits.ADDRESS_CODES
    clock.advance(limits.ADDRESS_CODE_SECONDS * 1000)
    assert granted(lambda: gate.code("192.0.2.7")) == 1


def test_being_asked_for_a_challenge_costs_nothing() -> None:
    gate = Gate(ManualClock())
    for _ in range(2 * limits.ADDRESS_CODES):
        gate.code("192.0.2.7")
        gate.no_code("192.0.2.7")


def test_an_address_guesses_a_bounded_number_of_codes() -> None:
    gate = Gate(ManualClock())
    assert granted(lambda: gate.guess("192.0.2.7")) == limits.ADDRESS_GUESSES


def test_an_account_looks_up_a_bounded_number_of_numbers_from_wherever() -> None:
    gate, account = Gate(ManualClock()), new_account_id()
    addresses = iter(range(100_000))
    count = granted(lambda: gate.lookup(account, f"address {next(addresses)}"))
    assert count == limits.LOOKUPS


def test_an_address_looks_up_a_bounded_number_of_numbers_for_whomever() -> None:
    gate = Gate(ManualClock())
    assert granted(lambda: gate.lookup(new_account_id(), "192.0.2.7")) == limits.ADDRESS_LOOKUPS


def test_a_scale_multiplies_all_budgets() -> None:
    gate = Gate(ManualClock(), 2)
    assert granted(lambda: gate.code("192.0.2.7")) == 2 * limits.ADDRESS_CODES
