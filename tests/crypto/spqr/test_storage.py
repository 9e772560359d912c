from __future__ import annotations

from dataclasses import fields, replace

import pytest

from raychat.crypto.spqr import storage
from raychat.crypto.spqr.erasure import Decoder, Encoder
from raychat.crypto.spqr.kem import DecapsulationKey, Encapsulation
from raychat.crypto.spqr.states import State
from raychat.errors import StoreError
from tests.crypto.braid import Rehearsal

STATES: dict[type[State], State] = {}
for _ratchet, _, _ in Rehearsal().receipts():
    STATES.setdefault(type(_ratchet.state), _ratchet.state)


def test_all_eleven_states_are_numbered_for_good() -> None:
    numbers = {kind.__name__: storage.to_bytes(state)[0] for kind, state in STATES.items()}
    assert numbers == {
        "KeysUnsampled": 0,
        "KeysSampled": 1,
        "HeaderSent": 2,
        "Ct1Received": 3,
        "EkSentCt1Received": 4,
        "NoHeaderReceived": 5,
        "HeaderReceived": 6,
        "Ct1Sampled": 7,
        "EkReceivedCt1Sampled": 8,
        "Ct1Acknowledged": 9,
        "Ct2Sampled": 10,
    }


@pytest.mark.parametrize("state", STATES.values(), ids=lambda state: type(state).__name__)
def test_a_state_reads_back(state: State) -> None:
    assert storage.from_bytes(storage.to_bytes(state)) == state


def other_size(value: object) -> object:
    """A value of the same type that the state cannot hold."""
    match value:
        case Encoder(blob, number):
            return Encoder(blob + b"x", number)
        case Decoder(needed, _):
            return Decoder(needed, bytes(34 * needed))
        case DecapsulationKey(seed):
            return DecapsulationKey(seed[1:])
        case Encapsulation(header, random):
            return Encapsulation(header, random + b"x")
        case bytes():
            return value[1:]
        case _:
            raise AssertionError(value)


@pytest.mark.parametrize("state", STATES.values(), ids=lambda state: type(state).__name__)
def test_a_field_of_another_size_is_refused(state: State) -> None:
    for field in fields(state)[2:]:
        damaged = replace(state, **{field.name: other_size(getattr(state, field.name))})
        with pytest.raises(StoreError):
            storage.from_bytes(storage.to_bytes(damaged))


def test_an_unknown_state_is_refused() -> None:
    data = storage.to_bytes(next(iter(STATES.values())))
    with pytest.raises(StoreError):
        storage.from_bytes(b"\x0b" + data[1:])
