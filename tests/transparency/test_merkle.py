"""The log: RFC 6962's trees, against its definition and published roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.errors import BadProof
from raychat.transparency import merkle
from tests.transparency.keeper import Tree

INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots of the first 1, 2, … 8 inputs, as the Certificate Transparency project has them."""

SIZES = st.integers(1, 70)


def tree(size: int) -> Tree:
    made = Tree()
    for number in range(size):
        made.append(merkle.leaf_hash(b"%d" % number))
    return made


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.node_hash(defined(leaves[:split]), defined(leaves[split:]))


def test_the_published_roots() -> None:
    made = Tree()
    assert made.root() == merkle.EMPTY_ROOT
    for data, root in zip(INPUTS, ROOTS, strict=True):
        made.append(merkle.leaf_hash(data))
        assert made.root().hex() == root


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_the_root_is_as_defined_for_every_size(size: int) -> None:
    made = tree(size)
    leaves = [made.node(0, index) for index in range(size)]
    for smaller in range(size + 1):
        assert made.root(smaller) == defined(leaves[:smaller])


@settings(max_examples=60, deadline=None)
@given(SIZES, st.data())
def test_every_leaf_can_be_proven_and_no_other(size: int, data: st.DataObject) -> None:
    made = tree(size)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion(made.node, index, size)
    leaf, root = made.node(0, index), made.root()
    merkle.check_inclusion(leaf, index, size, path, root)
    refuse = [
        (merkle.leaf_hash(b"x"), index, size, path, root),
        (leaf, index, size, path, bytes(32)),
        (leaf, index, size, [*path, bytes(32)], root),
        (leaf, size, size, path, root),
        (leaf, -1, size, path, root),
    ]
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index))
        refuse.append((leaf, other, size, path, root))
        refuse.append((leaf, index, size, path[:-1], root))
        at = data.draw(st.integers(0, len(path) - 1))
        spoiled = [*path[:at], bytes(32), *path[at + 1 :]]
        refuse.append((leaf, index, size, spoiled, root))
    for wrong in refuse:
        with pytest.raises(BadProof):
            merkle.check_inclusion(*wrong)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.data())
def test_every_beginning_can_be_proven_and_no_other(size: int, data: st.DataObject) -> None:
    made = tree(size)
    first = data.draw(st.integers(0, size))
    path = merkle.consistency(made.node, first, size)
    old, new = made.root(first), made.root()
    merkle.check_consistency(first, old, size, new, path)
    refuse = [
        (first, bytes(32), size, new, path),
        (first, old, size, new, [*path, bytes(32)]),
        (size + 1, new, size, new, path),
    ]
    if first:
        refuse.append((first, old, size, bytes(32), path))
    if path:
        refuse.append((first, old, size, new, path[:-1]))
        at = data.draw(st.integers(0, len(path) - 1))
        refuse.append((first, old, size, new, [*path[:at], bytes(32), *path[at + 1 :]]))
    for wrong in refuse:
        with pytest.raises(BadProof):
            merkle.check_consistency(*wrong)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 30), st.data())
def test_a_rewritten_past_cannot_be_proven(first: int, more: int, data: st.DataObject) -> None:
    """However the keeper of another log combines hashes of both."""
    true, false = tree(first), Tree()
    changed = data.draw(st.integers(0, first - 1))
    for number in range(first + more):
        text = b"changed" if number == changed else b"%d" % number
        false.append(merkle.leaf_hash(text))
    hashes = st.sampled_from([*true.nodes.values(), *false.nodes.values()])
    path = data.draw(
        st.just(merkle.consistency(false.node, first, first + more)) | st.lists(hashes, max_size=8)
    )
    with pytest.raises(BadProof):
        merkle.check_consistency(first, true.root(), false.size, false.root(), path)


def test_a_proof_is_never_longer_than_the_highest_tree() -> None:
    made = tree(2)
    with pytest.raises(BadProof):
        merkle.check_inclusion(made.node(0, 0), 0, 2**53 - 1, [bytes(32)] * 65, bytes(32))
    with pytest.raises(BadProof):
        merkle.check_consistency(1, bytes(32), 2**53 - 1, bytes(32), [bytes(32)] * 65)
