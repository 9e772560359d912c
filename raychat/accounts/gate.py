"""Budgets of clients: how often an address, or an account, may ask for what.

They are kept in memory. What a restart would give back is one burst for each address, and the
budgets of numbers, prefixes and all codes (see `sending`) hold beyond it.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil

from raychat import limits
from raychat.budgets import Budget, Budgets
from raychat.clock import Clock
from raychat.errors import RateLimited
from raychat.ids import AccountId


class Gate:
    """Takes from the budget of whoever asks, or raises RateLimited."""

    def __init__(self, clock: Clock, scale: float = 1) -> None:
        """Budgets are `scale` times those of `limits`."""
        self._clock = clock
        self._codes = Budgets(
            _budget(limits.ADDRESS_CODES, limits.ADDRESS_CODE_SECONDS, scale), limits.ADDRESSES
        )
        self._guesses = Budgets(
            _budget(limits.ADDRESS_GUESSES, limits.ADDRESS_GUESS_SECONDS, scale), limits.ADDRESSES
        )
        self._address_lookups = Budgets(
            _budget(limits.ADDRESS_LOOKUPS, limits.ADDRESS_LOOKUP_SECONDS, scale), limits.ADDRESSES
        )
        self._lookups = Budgets(
            _budget(limits.LOOKUPS, limits.LOOKUP_SECONDS, scale),
            limits.LOOKUP_ACCOUNTS,
            "closed",
        )

    def code(self, address: str) -> None:
        """An address asks for a code."""
        self._take(self._codes, address)

    def no_code(self, address: str) -> None:
        """It was asked for a challenge instead."""
        self._codes.give_back(address, self._now())

    def guess(self, address: str) -> None:
        """An address gives a code."""
        self._take(self._guesses, address)

    def lookup(self, account: AccountId, address: str) -> None:
        """An account asks who has a number. Numbers that have none cost the same."""
        self._take(self._address_lookups, address)
        self._take(self._lookups, account)

    def _take(self, budgets: Budgets, key: Hashable) -> None:
        wait = budgets.take(key, self._now())
        if wait > 0:
            seconds = ceil(wait)
            raise RateLimited(
                f"That was too often; try again in {seconds} seconds.", {"seconds": seconds}
            )

    def _now(self) -> float:
        return self._clock() / 1000


def _budget(burst: int, seconds: int, scale: float) -> Budget:
    return Budget(burst * scale, scale / seconds)
