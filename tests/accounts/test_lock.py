"""The registration lock, in virtual time."""

from __future__ import annotations

import pytest

from raychat import limits
from raychat.accounts import lock as rules
from raychat.accounts.lock import DAY, Lock
from raychat.errors import Locked, Malformed

NOW = 1_700_000_000_000
SEEN = rules.day(NOW)
LOCK = rules.new("a slow hash", NOW)


def used_up() -> Lock:
    lock = LOCK
    for _ in range(limits.PIN_TRIES):
        lock = rules.spend_try(lock, SEEN, NOW)
    return lock


def test_a_lock_holds_for_seven_days_after_the_account_was_seen() -> None:
    end = (SEEN + 1 + limits.LOCK_DAYS) * DAY
    assert rules.holds(LOCK, SEEN, NOW)
    assert rules.holds(LOCK, SEEN, end - 1)
    assert not rules.holds(LOCK, SEEN, end)
    assert rules.holds(LOCK, SEEN + 1, end)
    assert not rules.holds(None, SEEN, NOW)


def test_there_are_five_tries_and_then_one_a_day() -> None:
    lock = used_up()
    with pytest.raises(Locked) as error:
        rules.spend_try(lock, SEEN, NOW)
    assert error.value.data == {"seconds": limits.PIN_TRY_SECONDS, "tries": 0}
    tomorrow = NOW + limits.PIN_TRY_SECONDS * 1000
    lock = rules.spend_try(lock, SEEN, tomorrow)
    with pytest.raises(Locked):
        rules.spend_try(lock, SEEN, tomorrow)


def test_the_wait_for_a_try_is_never_longer_than_the_lock_holds() -> None:
    end = rules.expires(SEEN)
    late = end - 60_000
    lock = rules.new("a slow hash", late)
    for _ in range(limits.PIN_TRIES):
        lock = rules.spend_try(lock, SEEN, late)
    with pytest.raises(Locked) as error:
        rules.spend_try(lock, SEEN, late)
    assert error.value.data["seconds"] == 60


def test_the_tries_left_are_said() -> None:
    lock, left = LOCK, []
    for _ in range(limits.PIN_TRIES):
        lock = rules.spend_try(lock, SEEN, NOW)
        left.append(rules.wrong(lock, NOW).data["tries"])
    assert left == [4, 3, 2, 1, 0]
    assert "no try is left" in rules.wrong(lock, NOW).detail


def test_the_right_pin_gives_all_tries_back() -> None:
    assert rules.tries(rules.opened(used_up(), NOW), NOW) == limits.PIN_TRIES


def test_who_gives_no_pin_hears_when_the_lock_ends() -> None:
    error = rules.pin_wanted(LOCK, SEEN, NOW)
    assert error.data == {"seconds": (rules.expires(SEEN) - NOW) // 1000, "tries": 5}


@pytest.mark.parametrize("pin", ["", "123", "   1  ", "9" * 65])
def test_a_pin_has_a_length(pin: str) -> None:
    with pytest.raises(Malformed):
        rules.check_pin(pin)


def test_spaces_around_a_pin_do_not_count() -> None:
    assert rules.check_pin(" 2580 ") == "2580"


def test_a_lock_does_not_show_its_hash() -> None:
    assert "slow" not in repr(LOCK)
