"""The Braid's states, one transition after another, and what each of them ignores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raychat.crypto.spqr import states
from raychat.crypto.spqr.erasure import Chunk
from raychat.crypto.spqr.message import Kind, Payload
from raychat.crypto.spqr.states import State
from raychat.errors import BadMac, InvalidMessage
from tests.crypto.braid import Rehearsal
from tests.crypto.fields import flipped

SECRET = b"s" * 32


class Side:
    """One side; collects the epoch secrets it finds."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.secrets: list[bytes] = []

    def send(self) -> tuple[int, Payload]:
        epoch = self.state.epoch
        self.state, payload, secret = self.state.send()
        self._found(secret)
        return epoch, payload

    def receive(self, sent: tuple[int, Payload]) -> None:
        self.state, secret = self.state.receive(*sent)
        self._found(secret)

    def is_in(self, kind: type[State]) -> bool:
        return type(self.state) is kind

    def _found(self, secret: bytes | None) -> None:
        if secret is not None:
            self.secrets.append(secret)


def pair() -> tuple[Side, Side]:
    return Side(states.initiator(SECRET)), Side(states.responder(SECRET))


def deliver(sender: Side, receiver: Side, count: int) -> None:
    for _ in range(count):
        receiver.receive(sender.send())


def test_a_step_that_is_undone_and_done_again_draws_anew() -> None:
    a, b = pair()
    assert a.state.send().payload != a.state.send().payload
    deliver(a, b, 3)
    assert b.is_in(states.HeaderReceived)
    assert b.state.send().payload != b.state.send().payload
    deliver(b, a, 1)
    deliver(a, b, 35)
    deliver(b, a, 29)
    deliver(a, b, 1)
    deliver(b, a, 5)
    before, sent = b.state, a.send()
    keys = []
    for _ in range(2):
        b.state = before
        b.receive(sent)
        assert b.is_in(states.KeysUnsampled)
        keys.append(b.state.send().payload)
    assert keys[0] != keys[1]


def test_one_epoch_goes_through_the_states_and_changes_the_roles() -> None:
    a, b = pair()
    assert (a.is_in(states.KeysUnsampled), b.is_in(states.NoHeaderReceived)) == (True, True)
    deliver(a, b, 2)
    assert (a.is_in(states.KeysSampled), b.is_in(states.NoHeaderReceived)) == (True, True)
    deliver(a, b, 1)
    assert b.is_in(states.HeaderReceived)
    assert not b.secrets
    deliver(b, a, 1)
    assert (a.is_in(states.HeaderSent), b.is_in(states.Ct1Sampled)) == (True, True)
    assert len(b.secrets) == 1  # with its first chunk
    deliver(a, b, 35)
    deliver(b, a, 29)
    assert (a.is_in(states.Ct1Received), b.is_in(states.Ct1Sampled)) == (True, True)
    deliver(a, b, 1)
    assert b.is_in(states.Ct2Sampled)
    deliver(b, a, 1)
    assert a.is_in(states.EkSentCt1Received)
    deliver(b, a, 4)
    assert a.is_in(states.NoHeaderReceived)
    assert a.secrets == b.secrets
    assert a.state.epoch == 2
    deliver(a, b, 1)
    assert b.is_in(states.KeysUnsampled)
    assert b.state.epoch == 2


def test_a_vector_whole_before_the_acknowledgement_waits_for_it() -> None:
    a, b = pair()
    deliver(a, b, 3)
    deliver(b, a, 1)
    deliver(a, b, 36)
    assert b.is_in(states.EkReceivedCt1Sampled)
    assert b.send()[1].kind is Kind.FIRST
    deliver(b, a, 29)
    deliver(a, b, 1)
    assert b.is_in(states.Ct2Sampled)


def test_an_acknowledgement_before_the_vector_is_whole_stops_the_first_part() -> None:
    a, b = pair()
    deliver(a, b, 3)
    deliver(b, a, 30)
    deliver(a, b, 1)
    assert b.is_in(states.Ct1Acknowledged)
    assert b.send()[1] == Payload(Kind.NONE)
    deliver(a, b, 34)
    assert b.is_in(states.Ct1Acknowledged)
    deliver(a, b, 1)
    assert b.is_in(states.Ct2Sampled)


def test_a_bare_acknowledgement_is_one_too() -> None:
    a, b = pair()
    deliver(a, b, 3)
    deliver(b, a, 1)
    deliver(a, b, 36)
    b.receive((1, Payload(Kind.ACK)))
    assert b.is_in(states.Ct2Sampled)


def two_epochs() -> Iterator[tuple[Side, Side]]:
    """Both sides after each step of two epochs of ping-pong."""
    a, b = pair()
    while a.state.epoch < 3:
        deliver(a, b, 1)
        yield a, b
        deliver(b, a, 1)
        yield b, a


def test_roles_alternate_and_secrets_agree() -> None:
    for a, b in two_epochs():
        assert a.state.epoch - b.state.epoch in (-1, 0, 1)
    assert len(a.secrets) >= 2
    assert a.secrets[:2] == b.secrets[:2]
    assert a.secrets[0] != a.secrets[1]


def test_a_message_of_an_earlier_epoch_changes_nothing() -> None:
    for side, _ in two_epochs():
        for kind in Kind:
            sent = Payload(kind, Chunk(3, bytes(32)))
            assert side.state.receive(side.state.epoch - 1, sent) == (side.state, None)


def test_a_message_of_a_later_epoch_is_refused_unless_it_ends_this_one() -> None:
    for side, _ in two_epochs():
        ahead = 2 if side.is_in(states.Ct2Sampled) else 1
        with pytest.raises(InvalidMessage):
            side.state.receive(side.state.epoch + ahead, Payload(Kind.NONE))


EXPECTED = {
    states.KeysUnsampled: set(),
    states.KeysSampled: {Kind.FIRST},
    states.HeaderSent: {Kind.FIRST},
    states.Ct1Received: {Kind.SECOND},
    states.EkSentCt1Received: {Kind.SECOND},
    states.NoHeaderReceived: {Kind.HEADER},
    states.HeaderReceived: set(),
    states.Ct1Sampled: {Kind.VECTOR, Kind.VECTOR_ACK},
    states.EkReceivedCt1Sampled: {Kind.VECTOR_ACK, Kind.ACK},
    states.Ct1Acknowledged: {Kind.VECTOR, Kind.VECTOR_ACK},
    states.Ct2Sampled: set(),
}


def test_what_a_state_has_no_use_for_changes_nothing() -> None:
    seen = set()
    for ratchet, _, _ in Rehearsal().receipts():
        state = ratchet.state
        seen.add(type(state))
        for kind in set(Kind) - EXPECTED[type(state)]:
            chunk = None if kind in (Kind.NONE, Kind.ACK) else Chunk(40_000, bytes(32))
            assert state.receive(state.epoch, Payload(kind, chunk)) == (state, None)
    assert seen == set(EXPECTED)


def test_a_header_with_a_wrong_mac_is_refused() -> None:
    a, b = pair()
    deliver(a, b, 2)
    epoch, (kind, chunk) = a.send()
    assert chunk is not None
    with pytest.raises(BadMac):
        b.receive((epoch, Payload(kind, Chunk(chunk.number, flipped(chunk.data, 0)))))
    b.receive((epoch, Payload(kind, chunk)))
    assert b.is_in(states.HeaderReceived)


def test_a_vector_that_does_not_fit_its_header_is_refused() -> None:
    a, b = pair()
    deliver(a, b, 3)
    deliver(b, a, 1)
    deliver(a, b, 35)
    epoch, (kind, chunk) = a.send()
    assert chunk is not None
    with pytest.raises(InvalidMessage):
        b.receive((epoch, Payload(kind, Chunk(chunk.number, flipped(chunk.data, 0)))))
    b.receive((epoch, Payload(kind, chunk)))
    assert b.is_in(states.EkReceivedCt1Sampled)


@pytest.mark.parametrize("part", ["first", "second", "mac"])
def test_a_ciphertext_changed_anywhere_is_refused(part: str) -> None:
    a, b = pair()
    deliver(a, b, 3)
    deliver(b, a, 29)
    epoch, payload = b.send()
    a.receive((epoch, damaged(payload) if part == "first" else payload))
    deliver(a, b, 36)
    deliver(b, a, 3)
    epoch, payload = b.send()
    a.receive((epoch, damaged(payload) if part == "second" else payload))
    epoch, payload = b.send()
    with pytest.raises(BadMac):
        a.receive((epoch, damaged(payload) if part == "mac" else payload))
    assert a.is_in(states.EkSentCt1Received)


def damaged(payload: Payload) -> Payload:
    assert payload.chunk is not None
    return Payload(payload.kind, Chunk(payload.chunk.number, flipped(payload.chunk.data, 5)))


def test_another_secret_of_the_handshake_makes_no_epoch() -> None:
    a, b = Side(states.initiator(SECRET)), Side(states.responder(b"t" * 32))
    deliver(a, b, 2)
    with pytest.raises(BadMac):
        deliver(a, b, 1)


def test_nothing_secret_shows() -> None:
    for side, _ in two_epochs():
        shown = repr((side.state, side.state.send(), side.state.receive(0, Payload(Kind.NONE))))
        assert "b'" not in shown
        assert 'b"' not in shown
