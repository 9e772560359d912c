from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto.spqr import PostQuantumRatchet
from raychat.crypto.spqr.message import BraidMessage
from raychat.errors import CryptoError, InvalidMessage, LegacyVersion, StoreError, TooFarAhead
from raychat.limits import SKIP_AHEAD
from tests.crypto.braid import SECRET, Rehearsal, pair


def without_salt(epoch: int) -> bytes:
    """What a peer that could also do without this ratchet sends at first."""
    initiator, _ = pair()
    message = BraidMessage.parse(initiator.send().field)
    return message._replace(epoch=epoch, counter=0).to_bytes()


def test_both_sides_find_the_same_salt_for_every_message_and_no_two_are_the_same() -> None:
    salts = [salt for _, _, salt in Rehearsal().receipts()]
    assert len(salts) > 400
    assert len(set(salts)) == len(salts)


def test_epochs_follow_one_another_over_a_bad_road() -> None:
    epochs = [ratchet.epoch for ratchet, _, _ in Rehearsal(loss=0.6).receipts()]
    assert max(epochs) >= 3


def test_a_ratchet_never_changes() -> None:
    initiator, responder = pair()
    before = (initiator.to_bytes(), responder.to_bytes())
    responder.receive(initiator.send().field)
    assert (initiator.to_bytes(), responder.to_bytes()) == before


def test_the_field_of_the_first_message_begins_epoch_1() -> None:
    message = BraidMessage.parse(pair()[0].send().field)
    assert (message.epoch, message.counter) == (1, 1)


def test_a_message_without_the_field_is_refused_by_name() -> None:
    with pytest.raises(LegacyVersion):
        pair()[1].receive(b"")


def test_a_peer_that_has_not_heard_from_us_may_salt_with_nothing() -> None:
    _, responder = pair()
    after, salt = responder.receive(without_salt(1))
    assert salt is None
    assert after.state != responder.state


def test_no_other_message_may_be_without_a_salt() -> None:
    initiator, responder = pair()
    with pytest.raises(InvalidMessage):
        initiator.receive(without_salt(1))
    with pytest.raises(InvalidMessage):
        responder.receive(without_salt(2))
    for ratchet in RATCHETS:
        if ratchet.epoch >= 2:
            with pytest.raises(CryptoError):
                ratchet.receive(without_salt(ratchet.epoch))
        if ratchet.epoch >= 4:
            with pytest.raises(CryptoError):
                ratchet.receive(without_salt(1))


def test_a_message_may_skip_so_many_and_no_more() -> None:
    initiator, responder = pair()
    message = BraidMessage.parse(initiator.send().field)
    with pytest.raises(TooFarAhead):
        responder.receive(message._replace(counter=SKIP_AHEAD + 2).to_bytes())
    with pytest.raises(TooFarAhead):
        responder.receive(message._replace(counter=12).to_bytes(), 10)
    responder.receive(message._replace(counter=11).to_bytes(), 10)


def test_every_state_reads_back_and_is_small() -> None:
    for ratchet, _, _ in Rehearsal().receipts():
        data = ratchet.to_bytes()
        assert PostQuantumRatchet.from_bytes(data) == ratchet
        skipped = ratchet.chains.to_bytes()
        assert len(data) - len(skipped) < 3000


STORED = [ratchet.to_bytes() for ratchet, _, _ in list(Rehearsal().receipts())[::23]]


def test_a_stored_ratchet_cut_anywhere_is_refused() -> None:
    for data in STORED:
        for size in range(0, len(data), 13):
            with pytest.raises((StoreError, struct.error)):
                PostQuantumRatchet.from_bytes(data[:size])
        with pytest.raises(StoreError):
            PostQuantumRatchet.from_bytes(data + b"\x00")


def test_a_stored_ratchet_whose_parts_do_not_fit_together_is_refused() -> None:
    ratchet = RATCHETS[-1]
    for chains in (ratchet.chains.added(SECRET)._replace(first=9), pair()[0].chains):
        with pytest.raises(StoreError):
            PostQuantumRatchet.from_bytes(ratchet._replace(chains=chains).to_bytes())


@given(st.sampled_from(STORED), st.data(), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_change_to_a_stored_ratchet_is_read_or_refused(
    data: bytes, draw: st.DataObject, byte: int
) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    with contextlib.suppress(StoreError, struct.error):
        PostQuantumRatchet.from_bytes(data[:at] + bytes((byte,)) + data[at + 1 :])


@given(st.integers(0, 399), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_field_is_taken_or_refused_in_any_state(place: int, field: bytes) -> None:
    ratchet = RATCHETS[place % len(RATCHETS)]
    for data in (field, b"\x01" + bytes((ratchet.epoch,)) + field):
        with contextlib.suppress(CryptoError):
            ratchet.receive(data)


RATCHETS = [ratchet for ratchet, _, _ in Rehearsal().receipts()]


def test_another_secret_finds_other_salts() -> None:
    other = PostQuantumRatchet.responder(bytes(32))
    step = PostQuantumRatchet.initiator(SECRET).send()
    assert other.receive(step.field)[1] != step.salt


def test_nothing_secret_shows() -> None:
    for ratchet in RATCHETS[::10]:
        shown = repr((ratchet, ratchet.send()))
        assert "b'" not in shown
        assert 'b"' not in shown
