from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto.kdf import hkdf
from raychat.crypto.spqr.chains import Chains, Link, Step
from raychat.errors import InvalidMessage, TooFarAhead
from raychat.limits import SKIP_AHEAD, SKIPPED_KEYS

SECRET, LATER = b"s" * 32, b"l" * 32
A, B = Chains.begun(SECRET, began=True), Chains.begun(SECRET, began=False)


def salts(chains: Chains, epoch: int, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        chains, counter, salt = chains.sent(epoch)
        found.append(salt)
        assert counter == len(found)
    return found


def test_a_chain_steps_by_hkdf() -> None:
    step, salt = Step(SECRET, 4).next()
    keys = hkdf(SECRET, b"\x00\x00\x00\x05Signal PQ Ratchet V1 Chain Next", 64)
    assert (step, salt) == (Step(keys[:32], 5), keys[32:])
    assert Step(SECRET, 4).passed() == step


def test_what_one_side_sends_the_other_receives_in_every_epoch() -> None:
    ours, theirs = A.added(LATER).added(SECRET), B.added(LATER).added(SECRET)
    for sender, other in ((ours, theirs), (theirs, ours)):
        receiver = other
        for epoch in range(3):
            for counter, salt in enumerate(salts(sender, epoch, 3), start=1):
                receiver, found = receiver.received(epoch, counter, SKIP_AHEAD)
                assert found == salt


def test_epochs_and_directions_have_their_own_salts() -> None:
    ours, theirs = A.added(LATER), B.added(LATER)
    found = [salt for side in (ours, theirs) for epoch in (0, 1) for salt in salts(side, epoch, 3)]
    assert len(set(found)) == 12


def test_a_later_epoch_depends_on_the_ones_before() -> None:
    other = Chains.begun(LATER, began=True)
    assert salts(A.added(LATER), 1, 1) != salts(other.added(LATER), 1, 1)


def test_a_salt_is_had_once() -> None:
    receiver, _ = B.received(0, 1, SKIP_AHEAD)
    receiver, _ = receiver.received(0, 5, SKIP_AHEAD)
    receiver, _ = receiver.received(0, 3, SKIP_AHEAD)
    for counter in (1, 3, 5, 0):
        with pytest.raises(InvalidMessage):
            receiver.received(0, counter, SKIP_AHEAD)


@given(st.permutations(range(1, 30)))
@settings(deadline=None)
def test_any_order_gives_every_salt_once(order: list[int]) -> None:
    receiver, expected = B, salts(A, 0, 30)
    for counter in order:
        receiver, salt = receiver.received(0, counter, SKIP_AHEAD)
        assert salt == expected[counter - 1]
    assert len(Link.from_bytes(receiver.links[0]).skipped) == 0


def test_a_message_may_be_so_far_ahead_and_no_further() -> None:
    with pytest.raises(TooFarAhead):
        B.received(0, 12, 10)
    B.received(0, 11, 10)
    with pytest.raises(TooFarAhead):
        B.received(0, SKIP_AHEAD + 2, SKIP_AHEAD)


def test_the_oldest_skipped_salts_give_way() -> None:
    expected = salts(A, 0, SKIPPED_KEYS + 11)
    receiver, last = B.received(0, SKIPPED_KEYS + 11, SKIP_AHEAD)
    assert last == expected[-1]
    with pytest.raises(InvalidMessage):
        receiver.received(0, 10, SKIP_AHEAD)
    assert receiver.received(0, 11, SKIP_AHEAD)[1] == expected[10]


def test_sending_in_an_epoch_forgets_the_one_before_the_last_and_the_last_one_for_sending() -> None:
    chains, _, _ = A.added(LATER).added(SECRET).sent(2)
    assert (chains.first, len(chains.links)) == (1, 2)
    with pytest.raises(InvalidMessage):
        chains.received(0, 1, SKIP_AHEAD)
    assert Link.from_bytes(chains.links[0]).sender is None
    chains.received(1, 1, SKIP_AHEAD)
    assert chains.sent(2)[1] == 2


def test_an_epoch_that_has_not_begun_is_refused() -> None:
    for epoch in (-1, 1, 2):
        with pytest.raises(InvalidMessage):
            A.received(epoch, 1, SKIP_AHEAD)


def test_a_chain_ends_at_the_last_counter() -> None:
    last = Link(Step(SECRET, 2**32 - 1), Step(SECRET, 0)).to_bytes()
    with pytest.raises(TooFarAhead):
        A._replace(links=(last,)).sent(0)


def test_chains_read_back() -> None:
    for chains in (A, B.received(0, 7, SKIP_AHEAD)[0], A.added(LATER).sent(1)[0]):
        data = chains.to_bytes()
        assert Chains.read(b"before" + data + b"after", 6) == (chains, 6 + len(data))
        for size in range(len(data)):
            with pytest.raises(struct.error):
                Chains.read(data[:size], 0)


def test_nothing_secret_shows() -> None:
    shown = repr((B.received(0, 7, SKIP_AHEAD)[0], Step(SECRET, 1)))
    assert "b'" not in shown
    assert 'b"' not in shown
