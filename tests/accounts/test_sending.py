"""How often codes are sent, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.accounts import sending
from raychat.accounts.sending import DAY, SECOND, Known, Pace, Pool, Sending
from raychat.errors import RateLimited

RULES = Sending.of_limits()
NOW = 1_700_000_000_000
NEW = Known(None, None, None)


def refused(known: Known, now: int) -> int:
    """The seconds to wait."""
    with pytest.raises(RateLimited) as error:
        sending.send(RULES, known, now)
    return int(error.value.data["seconds"])


def flood(known: Known, now: int, verified: bool = False) -> tuple[Known, int]:
    """Send to other numbers of one prefix until it is refused: how many were sent."""
    for count in range(100_000):
        try:
            known = sending.send(RULES, known._replace(pace=None), now)
        except RateLimited:
            return known, count
        if verified:
            assert known.prefix and known.all
            known = known._replace(
                prefix=sending.verified(known.prefix, now), all=sending.verified(known.all, now)
            )
    raise AssertionError


def test_each_code_to_a_number_waits_twice_as_long_as_the_one_before() -> None:
    known, now, waits = NEW, NOW, []
    for _ in range(12):
        known = sending.send(RULES, known, now)
        wait = refused(known, now)
        assert refused(known, now + (wait - 1) * SECOND) == 1
        now += wait * SECOND
        waits.append(wait)
    assert waits == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 43200, 43200]


def test_a_week_without_a_code_begins_the_waits_anew() -> None:
    known = Known(Pace(9, NOW), None, None)
    almost = sending.send(RULES, known, NOW + limits.CODE_FORGET_DAYS * DAY - 1)
    assert almost.pace is not None and almost.pace.codes == 10
    after = sending.send(RULES, known, NOW + limits.CODE_FORGET_DAYS * DAY)
    assert after.pace is not None and after.pace.codes == 1


def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_told() -> None:
    known = sending.send(RULES, NEW, NOW)
    assert refused(known, NOW - DAY) == limits.CODE_WAIT_SECONDS


def test_a_prefix_has_a_budget_whatever_its_numbers() -> None:
    known, count = flood(NEW, NOW, verified=True)
    assert count == limits.PREFIX_CODES
    assert refused(known._replace(pace=None), NOW) == limits.PREFIX_CODE_SECONDS


def test_all_prefixes_together_have_a_budget() -> None:
    known = NEW
    for _ in range(limits.ALL_CODES):
        known = sending.send(RULES, Known(None, None, known.all), NOW)
        assert known.all is not None
        known = known._replace(all=sending.verified(known.all, NOW))
    assert refused(Known(None, None, known.all), NOW) == limits.ALL_CODE_SECONDS


def test_where_nobody_types_the_codes_in_they_cost_more() -> None:
    known, count = flood(NEW, NOW)
    cheap = limits.CONVERSION_PREFIX
    assert count == cheap + (limits.PREFIX_CODES - cheap) // limits.POOR_PRICE
    assert sending.is_poor(RULES.prefix, known.prefix, NOW)
    price = limits.POOR_PRICE * limits.PREFIX_CODE_SECONDS
    assert refused(known._replace(pace=None), NOW) == price


def test_codes_that_are_typed_in_make_a_prefix_good_again() -> None:
    known, _ = flood(NEW, NOW)
    pool = known.prefix
    assert pool is not None
    needed = limits.CONVERSION_PREFIX * limits.CONVERSION_PERCENT // 100 + 2
    for _ in range(needed):
        pool = sending.verified(pool, NOW)
    assert not sending.is_poor(RULES.prefix, pool, NOW)


def test_what_a_prefix_did_fades() -> None:
    known, _ = flood(NEW, NOW)
    half = limits.CONVERSION_HALF_SECONDS * SECOND
    assert sending.is_poor(RULES.prefix, known.prefix, NOW)
    assert not sending.is_poor(RULES.prefix, known.prefix, NOW + half)


def test_what_is_forgotten_would_change_nothing() -> None:
    pace_before, pool_before = sending.forget_before(NOW)
    sending.check_pace(RULES, Pace(99, pace_before), NOW)
    pool = Pool(pool_before, 1e5, 0, pool_before)
    assert not sending.is_poor(RULES.prefix, pool, NOW)


def test_a_refusal_spends_nothing() -> None:
    known = sending.send(RULES, NEW, NOW)
    for _ in range(50):
        refused(known, NOW)
    assert sending.send(RULES, known, NOW + limits.CODE_WAIT_SECONDS * SECOND)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3600), st.booleans()), max_size=200))
def test_no_pattern_gets_more_than_the_budgets(steps: list[tuple[int, bool]]) -> None:
    known, now, sent = NEW, NOW, 0
    for pause, typed in steps:
        now += pause * SECOND
        try:
            known = sending.send(RULES, known._replace(pace=None), now)
        except RateLimited as error:
            later = now + error.data["seconds"] * SECOND
            assert sending.send(RULES, known._replace(pace=None), later)
            continue
        sent += 1
        if typed:
            known = known._replace(prefix=sending.verified(known.prefix, now))
        seconds = (now - NOW) / SECOND
        assert sent <= limits.PREFIX_CODES + seconds / limits.PREFIX_CODE_SECONDS + 1
