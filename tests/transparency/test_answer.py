"""Answers of the log: every true one is accepted, and nothing else."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import BadProof, BadSignature, Malformed, RaychatError, TooLarge
from raychat.ids import AccountId
from raychat.transparency.accounts_map import Leaf, MapProof
from raychat.transparency.answer import Answer, State, expected
from raychat.transparency.head import Entry
from tests.transparency.keeper import Keeper

ACCOUNTS = [AccountId(bytes([number]) * 16) for number in range(6)]
ANN, BOB = ACCOUNTS[:2]
STRANGER = AccountId(b"s" * 16)

CHANGES = st.lists(
    st.lists(
        st.tuples(st.sampled_from(ACCOUNTS), st.binary(min_size=32, max_size=32)),
        min_size=1,
        max_size=4,
        unique_by=lambda change: change[0],
    ),
    max_size=12,
)


def kept_by(changes: list[list[tuple[AccountId, bytes]]]) -> Keeper:
    keeper = Keeper()
    for epoch in changes:
        keeper.publish(*epoch)
    return keeper


def busy() -> Keeper:
    return kept_by([[(ANN, bytes([n]) * 32), (BOB, bytes([n, 1]) * 16)] for n in range(9)])


@settings(max_examples=60, deadline=None)
@given(CHANGES, CHANGES, st.integers(0, 20))
def test_every_true_answer_is_accepted_whatever_has_happened(
    before: list[list[tuple[AccountId, bytes]]],
    after: list[list[tuple[AccountId, bytes]]],
    known: int,
) -> None:
    keeper = kept_by(before)
    kept = keeper.head()
    for epoch in after:
        keeper.publish(*epoch)
    for account in (*ACCOUNTS, STRANGER):
        answer = keeper.answer(account, kept.size, known)
        answer.check(account, kept, keeper.public, known)
        assert Answer.parse(answer.to_bytes()) == answer
        keeper.answer(account, 0, known).check(account, None, keeper.public, known)
        given = answer.lists.latest if answer.lists else ()
        there = keeper.lists.get(account, [])
        assert list(given) == there[len(there) - len(given) :]
        assert len(given) == (expected(len(there), known) if there else 0)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_bit_of_an_answer_can_be_changed(data: st.DataObject) -> None:
    keeper = busy()
    kept = keeper.head()
    keeper.publish((ANN, b"new" + bytes(29)))
    good = keeper.answer(ANN, kept.size, 8).to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((Malformed, BadProof, BadSignature)):
        Answer.parse(bytes(bad)).check(ANN, kept, keeper.public, 8)


def test_an_answer_about_another_account_is_refused() -> None:
    keeper = busy()
    for asked, told in ((ANN, BOB), (ANN, STRANGER), (STRANGER, ANN)):
        with pytest.raises(BadProof):
            keeper.answer(told).check(asked, None, keeper.public, 0)


def test_an_answer_with_any_part_of_another_is_refused() -> None:
    keeper = busy()
    good, other = keeper.answer(ANN), keeper.answer(BOB)
    assert good.lists is not None
    entry = good.lists.entry
    changes = [
        {"inclusion": good.inclusion[:-1]},
        {"consistency": (bytes(32),)},
        {"epoch_time": good.epoch_time + 1},
        {"proof": other.proof},
        {"proof": MapProof(good.proof.siblings, None)},
        {"proof": MapProof(good.proof.siblings, Leaf(b"l" * 32, b"v" * 32))},
        {"lists": None},
        {"lists": other.lists},
        {"lists": good.lists._replace(entry=Entry(entry.counter, entry.epoch, bytes(32)))},
        {"lists": good.lists._replace(entry=Entry(entry.counter + 1, entry.epoch, entry.chain))},
        {"lists": good.lists._replace(base=bytes(31) + b"1")},
        {"lists": good.lists._replace(latest=good.lists.latest[::-1])},
    ]
    for change in changes:
        with pytest.raises(BadProof):
            replace(good, **change).check(ANN, None, keeper.public, 0)


def test_an_answer_may_leave_out_no_list_that_was_asked_for() -> None:
    keeper = busy()
    keeper.answer(ANN, 0, 5).check(ANN, None, keeper.public, 5)
    with pytest.raises(BadProof, match="leaves out"):
        keeper.answer(ANN, 0, 5).check(ANN, None, keeper.public, 4)


def test_an_account_of_very_many_lists_has_an_answer_of_bounded_size() -> None:
    keeper = Keeper()
    keeper.set_lists(ANN, [number.to_bytes(32, "big") for number in range(1000)])
    keeper.close_epoch()
    answer = keeper.answer(ANN)
    answer.check(ANN, None, keeper.public, 0)
    assert answer.lists is not None
    assert len(answer.lists.latest) == limits.LOG_HISTORY
    assert len(answer.to_bytes()) < limits.LOG_ANSWER_BYTES


def test_an_empty_log_says_that_nobody_is_there() -> None:
    keeper = Keeper()
    keeper.answer(ANN).check(ANN, None, keeper.public, 0)
    filled = replace(keeper.answer(ANN), head=busy().head())
    with pytest.raises(BadProof):
        filled.check(ANN, None, keeper.public, 0)


def test_the_state_of_the_log_follows_what_was_seen() -> None:
    keeper = busy()
    kept = keeper.head()
    keeper.publish((ANN, bytes(32)))
    state = keeper.state(kept.size)
    assert State.parse(state.to_bytes()) == state
    state.check(kept, keeper.public)
    with pytest.raises(BadSignature):
        state.check(kept, Keeper(b"x" * 32).public)
    with pytest.raises(BadProof):
        state.check(busy().fork().head(), keeper.public) or keeper.state(3).check(
            kept, keeper.public
        )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**64 - 1) | st.binary(max_size=64) | st.text(),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | VALUES.map(msgpack.packb), st.data())
def test_hostile_bytes_raise_only_our_errors(noise: bytes, data: st.DataObject) -> None:
    fields = msgpack.unpackb(busy().answer(ANN).to_bytes())
    fields[data.draw(st.integers(0, 7))] = data.draw(VALUES)
    for given_bytes in (noise, msgpack.packb(fields)):
        for kind in (Answer, State):
            with contextlib.suppress(Malformed, TooLarge):
                kind.parse(given_bytes)


def test_an_answer_has_one_way_to_be_written() -> None:
    good = busy().answer(ANN).to_bytes()
    assert good[0] == 0x98
    for other in (b"\xdc\x00\x08" + good[1:], good + b"\xc0"):
        with pytest.raises(Malformed):
            Answer.parse(other)


def test_what_is_too_long_is_not_read() -> None:
    with pytest.raises(TooLarge):
        Answer.parse(bytes(limits.LOG_ANSWER_BYTES + 1))
    assert issubclass(TooLarge, RaychatError)
