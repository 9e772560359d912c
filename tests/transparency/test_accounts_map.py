"""The map proves what it has, proves what it lacks, and has one answer for each label."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.errors import BadProof
from raychat.transparency import accounts_map
from raychat.transparency.accounts_map import EMPTY, Leaf, MapProof
from tests.transparency.keeper import Map

# Labels that share long beginnings make the deep trees that hashes never would.
LABELS = st.binary(min_size=32, max_size=32) | st.builds(
    lambda bits, tail: (bits << 248 | tail).to_bytes(32, "big"),
    st.integers(0, 3),
    st.integers(0, 255),
)
VALUES = st.binary(min_size=32, max_size=32)
CHANGES = st.lists(st.tuples(LABELS, VALUES), max_size=30)


def filled(changes: list[tuple[bytes, bytes]]) -> Map:
    made = Map()
    for label, value in changes:
        accounts_map.put(made, label, value)
    return made


@settings(max_examples=150, deadline=None)
@given(CHANGES, LABELS)
def test_it_proves_what_it_has_and_what_it_lacks(
    changes: list[tuple[bytes, bytes]], other: bytes
) -> None:
    made, model = filled(changes), dict(changes)
    root = accounts_map.root(made)
    for label in (*model, other):
        proof = accounts_map.prove(made, label)
        assert accounts_map.check(root, label, proof) == model.get(label)


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.randoms(use_true_random=False))
def test_the_root_depends_on_what_is_there_and_not_on_how_it_came(
    changes: list[tuple[bytes, bytes]], chance: random.Random
) -> None:
    shuffled = list(dict(changes).items())
    chance.shuffle(shuffled)
    assert accounts_map.root(filled(shuffled)) == accounts_map.root(filled(changes))


@settings(max_examples=150, deadline=None)
@given(CHANGES.filter(bool), LABELS, st.data())
def test_a_proof_that_was_touched_proves_nothing_else(
    changes: list[tuple[bytes, bytes]], label: bytes, data: st.DataObject
) -> None:
    made, model = filled(changes), dict(changes)
    label = data.draw(st.sampled_from([label, *model]))
    root, proof = accounts_map.root(made), accounts_map.prove(made, label)
    siblings = list(proof.siblings)
    found = proof.found
    match data.draw(st.sampled_from(["value", "leaf", "none", "drop", "add", "spoil"])):
        case "value":
            found = Leaf(label, data.draw(VALUES))
        case "leaf":
            found = Leaf(data.draw(LABELS), data.draw(VALUES))
        case "none":
            found = None
        case "drop" if siblings:
            siblings.pop(data.draw(st.integers(0, len(siblings) - 1)))
        case "add":
            siblings.insert(data.draw(st.integers(0, len(siblings))), EMPTY)
        case _ if siblings:
            siblings[data.draw(st.integers(0, len(siblings) - 1))] = data.draw(VALUES)
    try:
        value = accounts_map.check(root, label, MapProof(tuple(siblings), found))
    except BadProof:
        return
    assert value == model.get(label)


def test_an_empty_map_has_nothing() -> None:
    made = Map()
    assert accounts_map.root(made) == EMPTY
    assert accounts_map.check(EMPTY, b"l" * 32, accounts_map.prove(made, b"l" * 32)) is None


def test_a_proof_of_absence_is_about_the_label_it_was_made_for() -> None:
    """The leaf of another label shows that a place is taken only where both labels lead."""
    left, right, other = b"\x00" * 32, b"\x80" + bytes(31), b"\xc0" + bytes(31)
    made = filled([(left, b"v" * 32), (right, b"w" * 32)])
    root, proof = accounts_map.root(made), accounts_map.prove(made, other)
    assert accounts_map.check(root, other, proof) is None
    assert proof.found == Leaf(right, b"w" * 32)
    with pytest.raises(BadProof):
        accounts_map.check(root, left, proof)


def test_no_tree_is_deeper_than_a_label() -> None:
    one, two = bytes(32), bytes(31) + b"\x01"
    made = filled([(one, b"v" * 32), (two, b"w" * 32)])
    proof = accounts_map.prove(made, two)
    assert len(proof.siblings) == 256
    assert accounts_map.check(accounts_map.root(made), two, proof) == b"w" * 32
    with pytest.raises(BadProof):
        accounts_map.check(EMPTY, one, MapProof((EMPTY,) * 257, None))


def test_a_tree_of_many_hashes_is_shallow() -> None:
    made = Map()
    chance = random.Random(1)
    for _ in range(500):
        accounts_map.put(made, chance.randbytes(32), chance.randbytes(32))
    depths = [len(accounts_map.prove(made, chance.randbytes(32)).siblings) for _ in range(100)]
    assert max(depths) < 30
