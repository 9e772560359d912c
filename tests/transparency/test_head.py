"""Heads: what is signed, and when one follows another."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.errors import BadProof, BadSignature, Malformed
from raychat.ids import AccountId
from raychat.transparency.head import (
    HEAD_BYTES,
    NO_LISTS,
    Entry,
    SignedHead,
    chained,
    follow,
    label_of,
)
from tests.transparency.keeper import Keeper

ANN, BOB = AccountId(b"a" * 16), AccountId(b"b" * 16)


@pytest.fixture
def keeper() -> Keeper:
    keeper = Keeper()
    for number in range(5):
        keeper.publish((ANN, bytes([number]) * 32))
    return keeper


def test_a_head_is_145_bytes_that_its_key_has_signed(keeper: Keeper) -> None:
    head = keeper.head()
    data = head.to_bytes()
    assert len(data) == HEAD_BYTES == 145
    assert SignedHead.parse(data) == head
    head.verify(keeper.public)
    with pytest.raises(BadSignature):
        head.verify(Keeper(b"x" * 32).public)


@pytest.mark.parametrize("place", [0, 1, 8, 9, 40, 41, 72, 73, 80, 81, 144])
def test_no_bit_of_a_head_can_be_changed(keeper: Keeper, place: int) -> None:
    for bit in range(8):
        data = bytearray(keeper.head().to_bytes())
        data[place] ^= 1 << bit
        with pytest.raises((Malformed, BadSignature)):
            SignedHead.parse(bytes(data)).verify(keeper.public)


@given(st.binary(max_size=200) | st.binary(min_size=145, max_size=145))
def test_hostile_heads_are_malformed_or_not_signed(data: bytes) -> None:
    with contextlib.suppress(Malformed), pytest.raises(BadSignature):
        SignedHead.parse(data).verify(bytes(32))


def test_a_head_follows_the_one_that_was_kept(keeper: Keeper) -> None:
    kept = keeper.head()
    follow(None, kept, (), keeper.public)
    follow(kept, keeper.head(), (), keeper.public)
    for number in range(9):
        keeper.publish((BOB, bytes([number]) * 32))
        follow(kept, keeper.head(), keeper.consistency(kept.size), keeper.public)


def test_a_shorter_log_and_another_past_are_refused(keeper: Keeper) -> None:
    early, other = keeper.head(), keeper.fork()
    keeper.publish((BOB, b"1" * 32))
    other.publish((BOB, b"2" * 32))
    kept = keeper.head()
    with pytest.raises(BadProof):
        follow(kept, early, (), keeper.public)
    with pytest.raises(BadProof):
        follow(kept, other.head(), (), keeper.public)
    other.publish((BOB, b"3" * 32))
    with pytest.raises(BadProof):
        follow(kept, other.head(), other.consistency(kept.size), keeper.public)


def test_one_log_has_one_map_at_each_size(keeper: Keeper) -> None:
    kept = keeper.head()
    other = SignedHead.sign(kept.size, kept.root, bytes(32), kept.time, keeper.key)
    with pytest.raises(BadProof):
        follow(kept, other, (), keeper.public)


def test_a_digest_is_the_same_for_all_who_see_the_same_log(keeper: Keeper) -> None:
    head = keeper.head()
    keeper.now += 3_600_000
    later = keeper.head()
    assert later != head
    assert later.digest() == head.digest()
    for change in ({"size": 6}, {"root": bytes(32)}, {"map_root": bytes(32)}):
        assert replace(head, **change).digest() != head.digest()


def test_an_entry_stands_for_all_lists_in_their_order() -> None:
    one, two = b"1" * 32, b"2" * 32
    assert chained(NO_LISTS, ()) == NO_LISTS
    assert chained(chained(NO_LISTS, (one,)), (two,)) == chained(NO_LISTS, (one, two))
    assert chained(NO_LISTS, (one, two)) != chained(NO_LISTS, (two, one))
    values = {Entry(*fields).value() for fields in ((1, 1, one), (1, 2, one), (2, 1, one))}
    assert len(values) == 3


def test_labels_of_accounts_are_hashes() -> None:
    assert label_of(ANN) != label_of(BOB)
    assert len(label_of(ANN)) == 32
    assert ANN not in label_of(ANN)
