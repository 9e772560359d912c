"""The rules of a registration, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raychat import limits
from raychat.accounts import registration as rules
from raychat.accounts.pepper import NumberHash, PoolKey, Proof, RegistrationKey
from raychat.accounts.registration import Redeemed, Registration, Started, Verified
from raychat.errors import BadCode, CodeExpired, Denied, RaychatError
from raychat.ids import AccountId

KEY = RegistrationKey(b"k" * 32)
NUMBER = NumberHash(b"n" * 32)
PREFIX = PoolKey(b"x" * 32)
RIGHT = Proof(b"r" * 32)
WRONG = Proof(b"w" * 32)
ACCOUNT = AccountId(b"a" * 16)
NOW = 1_000_000
LAST = NOW + limits.CODE_SECONDS * 1000 - 1


def started() -> Started:
    return rules.start(KEY, NUMBER, PREFIX, RIGHT, NOW)


def verified() -> Verified:
    state = rules.check(started(), RIGHT, NOW)
    assert isinstance(state, Verified)
    return state


def redeemed() -> Redeemed:
    return rules.redeem(verified(), ACCOUNT)


def test_the_right_code_verifies_until_the_last_moment() -> None:
    assert isinstance(rules.check(started(), RIGHT, LAST), Verified)
    with pytest.raises(CodeExpired):
        rules.check(started(), RIGHT, LAST + 1)


def test_a_wrong_code_costs_a_try() -> None:
    after = rules.check(started(), WRONG, NOW)
    assert isinstance(after, Started)
    assert after.tries == limits.CODE_TRIES - 1


def test_the_last_try_may_be_the_right_one() -> None:
    state: Registration = started()
    for _ in range(limits.CODE_TRIES - 1):
        state = rules.check(state, WRONG, NOW)
    assert isinstance(rules.check(state, RIGHT, NOW), Verified)


def test_after_five_wrong_codes_not_even_the_right_one_helps() -> None:
    state: Registration = started()
    for _ in range(limits.CODE_TRIES):
        state = rules.check(state, WRONG, NOW)
    for proof in (RIGHT, WRONG):
        with pytest.raises(CodeExpired, match="Too many"):
            rules.check(state, proof, NOW)


@pytest.mark.parametrize("state", [verified(), redeemed()], ids=["verified", "redeemed"])
def test_the_right_code_may_be_repeated(state: Registration) -> None:
    assert rules.check(state, RIGHT, LAST) == state
    with pytest.raises(BadCode):
        rules.check(state, WRONG, LAST)


def test_without_the_code_nothing_is_redeemed() -> None:
    with pytest.raises(Denied, match="not verified"):
        rules.proven(started(), NOW)


def test_a_redeemed_registration_gives_the_same_account_until_it_expires() -> None:
    state = rules.proven(redeemed(), LAST)
    assert isinstance(state, Redeemed)
    assert state.account == ACCOUNT
    with pytest.raises(CodeExpired):
        rules.proven(redeemed(), LAST + 1)


def test_verifying_and_redeeming_buy_no_time() -> None:
    assert started().expires == verified().expires == redeemed().expires == LAST + 1


class AnyLife(RuleBasedStateMachine):
    """Whatever comes in whatever order, the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state: Registration = started()
        self.wrong = 0
        self.knew = False

    @rule(seconds=st.integers(0, limits.CODE_SECONDS // 3))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(right=st.booleans())
    def a_code_is_given(self, right: bool) -> None:
        before = self.state
        try:
            self.state = rules.check(before, RIGHT if right else WRONG, self.now)
        except RaychatError as error:
            assert self.now > LAST or not right or self.wrong >= limits.CODE_TRIES
            assert isinstance(error, BadCode | CodeExpired)
            return
        assert self.now <= LAST
        if isinstance(before, Started):
            assert self.wrong < limits.CODE_TRIES
            self.wrong += not right
        self.knew |= right

    @rule(account=st.binary(min_size=16, max_size=16).map(AccountId))
    def it_is_redeemed(self, account: AccountId) -> None:
        try:
            state = rules.proven(self.state, self.now)
        except RaychatError as error:
            assert self.now > LAST or not self.knew
            assert isinstance(error, Denied | CodeExpired)
            return
        assert self.knew
        if isinstance(state, Verified):
            self.state = rules.redeem(state, account)

    @invariant()
    def only_who_knew_the_code_is_past_it(self) -> None:
        assert self.knew is not isinstance(self.state, Started)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
