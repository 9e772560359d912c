from __future__ import annotations

from raychat.crypto.spqr.ahead import KEPT, Ahead
from raychat.crypto.spqr.kem import DecapsulationKey, Encapsulation
from tests.crypto.braid import Rehearsal, in_turn


class Maker:
    """Counts what it makes."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int) -> str:
        self.made.append(number)
        return str(number)


def test_what_is_prepared_is_made_once_and_given_out_once() -> None:
    make = Maker()
    ahead = Ahead(make)
    ahead.prepare(1)
    ahead.prepare(1)
    assert make.made == [1]
    assert ahead.take(1) == "1"
    assert make.made == [1]
    assert ahead.take(1) == "1"
    assert make.made == [1, 1]


def test_what_is_not_prepared_is_made_when_it_is_asked_for() -> None:
    assert Ahead(Maker()).take(7) == "7"


def test_the_oldest_give_way() -> None:
    make = Maker()
    ahead = Ahead(make)
    for number in range(KEPT + 1):
        ahead.prepare(number)
    make.made.clear()
    for number in range(KEPT, -1, -1):
        ahead.take(number)
    assert make.made == [0]


def test_nothing_that_is_kept_shows() -> None:
    ahead = Ahead(Maker())
    ahead.prepare(5)
    assert repr(ahead) == "Ahead(1)"


def test_a_key_and_an_encapsulation_give_the_same_prepared_or_not() -> None:
    key = DecapsulationKey.generate()
    header, vector = key.public()
    encapsulation = Encapsulation.to(header)
    with in_turn():
        first, secret = encapsulation.begin()
        second = encapsulation.finish(vector)
    key.prepare()
    assert key.public() == (header, vector)
    encapsulation.prepare()
    assert encapsulation.begin() == (first, secret)
    encapsulation.prepare()
    assert encapsulation.finish(vector) == second
    key.prepare()
    assert key.decapsulate(first, second) == secret


def test_a_session_is_the_same_whether_work_is_done_ahead_or_not() -> None:
    ahead = Rehearsal().digest()
    with in_turn():
        assert Rehearsal().digest() == ahead
