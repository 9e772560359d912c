"""Token buckets in virtual time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from raychat.budgets import ROUNDING, Budget, Budgets, spend

TEN = Budget(10, 0.5)
NOW = 1_700_000_000.0


def test_a_burst_is_granted_and_then_one_at_a_time() -> None:
    budgets = Budgets(TEN)
    assert [budgets.take("a", NOW) for _ in range(10)] == [0.0] * 10
    assert budgets.take("a", NOW) == 2
    assert budgets.take("a", NOW + 1) == 1
    assert budgets.take("a", NOW + 2) == 0
    assert budgets.take("a", NOW + 2) == 2


def test_who_is_refused_pays_nothing() -> None:
    budgets = Budgets(Budget(1, 1))
    assert budgets.take("a", NOW) == 0
    for _ in range(100):
        assert budgets.take("a", NOW) == 1
    assert budgets.take("a", NOW + 1) == 0


def test_keys_have_a_bucket_each() -> None:
    budgets = Budgets(Budget(1, 1))
    assert budgets.take("a", NOW) == 0
    assert budgets.take(("b", 2), NOW) == 0
    assert budgets.take("a", NOW) > 0


def test_more_than_a_bucket_holds_is_never_granted() -> None:
    budgets = Budgets(TEN)
    assert budgets.take("a", NOW, 11) == math.inf
    assert budgets.take("a", NOW, 10) == 0


def test_looking_takes_nothing() -> None:
    budgets = Budgets(Budget(1, 1))
    assert budgets.wait("a", NOW) == 0
    assert budgets.take("a", NOW) == 0
    assert budgets.wait("a", NOW) == 1


def test_what_is_given_back_can_be_taken_again_and_no_more() -> None:
    budgets = Budgets(Budget(1, 1))
    budgets.give_back("a", NOW)
    assert budgets.take("a", NOW) == 0
    budgets.give_back("a", NOW)
    budgets.give_back("a", NOW)
    assert budgets.take("a", NOW) == 0
    assert budgets.take("a", NOW) == 1


def test_a_clock_that_is_set_back_locks_nobody_out_for_longer_than_a_full_refill() -> None:
    budgets = Budgets(TEN)
    for _ in range(10):
        budgets.take("a", NOW)
    back = NOW - 1_000_000
    assert budgets.take("a", back) == 2
    assert budgets.take("a", back + 2) == 0


def test_an_open_table_forgets_whom_it_has_not_seen_longest() -> None:
    budgets = Budgets(Budget(1, 1), keys=2)
    for key in "aba":
        budgets.take(key, NOW)
    assert budgets.take("c", NOW) == 0  # forgets b, since a was asked for later
    assert budgets.take("a", NOW) == 1
    assert budgets.take("b", NOW) == 0
    assert len(budgets) == 2


def test_a_closed_table_takes_in_nobody_new_until_a_bucket_is_full_again() -> None:
    budgets = Budgets(Budget(1, 1), keys=2, fails="closed")
    budgets.take("a", NOW)
    budgets.take("b", NOW + 0.5)
    assert budgets.take("c", NOW + 0.75) == 0.25
    assert budgets.take("a", NOW + 0.75) == 0.25
    assert budgets.take("c", NOW + 2) == 0
    assert len(budgets) == 2


def test_a_closed_table_survives_a_clock_that_is_set_back() -> None:
    budgets = Budgets(Budget(1, 1), keys=1, fails="closed")
    budgets.take("a", NOW)
    assert budgets.take("b", NOW - 1000) == 0


@given(
    st.floats(1, 100),
    st.floats(0.001, 100),
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 5)), max_size=60),
)
def test_never_more_than_the_budget_and_a_wait_is_always_enough(
    burst: float, rate: float, asks: list[tuple[float, float]]
) -> None:
    budget = Budget(burst, rate)
    full_at = now = NOW
    granted = 0.0
    for pause, amount in asks:
        now += pause
        full_at, wait = spend(budget, full_at, now, amount)
        granted += amount if wait == 0 else 0
        slack = (len(asks) + 1) * (ROUNDING * rate + 1e-3)
        assert granted <= burst + rate * (now - NOW) + slack
        if 0 < wait < math.inf:
            assert spend(budget, full_at, now + wait, amount)[1] == 0
