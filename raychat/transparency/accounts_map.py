"""The map from labels to values: a sparse Merkle tree that proves what it has and what it lacks.

    empty      32 zero bytes
    leaf       SHA-256(02 | label | value): a subtree with one label in it, however deep
    branch     SHA-256(03 | left | right): a subtree with more; bit n of the label (the highest
               bit of the first byte is bit 0) leads from depth n to the left (0) or the right (1)

A label is 32 bytes, itself a hash, so a tree of n labels is about log2 n deep. Since a leaf's hash
holds its label and each step down is a bit of it, a root has exactly one answer for a label.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from raychat.errors import BadProof

LABEL_BYTES: Final = 32
VALUE_BYTES: Final = 32
DEPTH: Final = 8 * LABEL_BYTES
EMPTY: Final = bytes(32)

_LEAF: Final = b"\x02"
_BRANCH: Final = b"\x03"


class Leaf(NamedTuple):
    """A label with its value."""

    label: bytes
    value: bytes

    def hash(self) -> bytes:
        return hashlib.sha256(_LEAF + self.label + self.value).digest()


Stored = Leaf | bytes | None
"""What is at a place of the tree: a leaf, the hash of a branch, or nothing."""


class Nodes(Protocol):
    """Where a tree is kept, by `place`."""

    def get(self, place: bytes) -> Stored: ...

    def put(self, place: bytes, node: Leaf | bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class MapProof:
    """What is found where a label leads (`found`), and the hashes beside the way, root first."""

    siblings: tuple[bytes, ...]
    found: Leaf | None


def place(label: bytes, depth: int) -> bytes:
    """The name of the node to which the first `depth` bits of a label lead."""
    whole, rest = divmod(depth, 8)
    name = depth.to_bytes(2, "big") + label[:whole]
    return name + bytes((label[whole] & (0xFF00 >> rest) & 0xFF,)) if rest else name


def root(nodes: Nodes) -> bytes:
    """The hash of the whole tree."""
    return _hash(nodes.get(place(EMPTY, 0)))


def put(nodes: Nodes, label: bytes, value: bytes) -> None:
    """Set the value of a label, new or known."""
    depth, found = _walk(nodes, label)
    leaf = Leaf(label, value)
    if found is not None and found.label != label:
        depth = _common(label, found.label) + 1
        nodes.put(place(found.label, depth), found)
    nodes.put(place(label, depth), leaf)
    hashed = leaf.hash()
    for level in reversed(range(depth)):
        hashed = _branch(label, level, hashed, _hash(nodes.get(_beside(label, level + 1))))
        nodes.put(place(label, level), hashed)


def prove(nodes: Nodes, label: bytes) -> MapProof:
    """What the tree has for a label, with its proof."""
    depth, found = _walk(nodes, label)
    siblings = (_hash(nodes.get(_beside(label, level + 1))) for level in range(depth))
    return MapProof(tuple(siblings), found)


def check(root_hash: bytes, label: bytes, proof: MapProof) -> bytes | None:
    """The value that the tree with this root has for a label, None if it has none.

    Raises BadProof.
    """
    depth, found = len(proof.siblings), proof.found
    if depth > DEPTH:
        raise BadProof("The proof is deeper than any tree.")
    if found is not None and found.label != label and _common(label, found.label) < depth:
        raise BadProof("The proof is about another label.")
    hashed = _hash(found)
    for level in reversed(range(depth)):
        hashed = _branch(label, level, hashed, proof.siblings[level])
    if hashed != root_hash:
        raise BadProof("The map does not have what it is said to have.")
    return found.value if found is not None and found.label == label else None


def _walk(nodes: Nodes, label: bytes) -> tuple[int, Leaf | None]:
    """Down the branches to where a label is or would be: how deep, and what is there."""
    for depth in range(DEPTH + 1):
        node = nodes.get(place(label, depth))
        if not isinstance(node, bytes):
            return depth, node
    raise BadProof("The tree has a branch below its deepest place.")


def _hash(node: Stored) -> bytes:
    if node is None:
        return EMPTY
    return node.hash() if isinstance(node, Leaf) else node


def _branch(label: bytes, level: int, inside: bytes, beside: bytes) -> bytes:
    halves = (beside, inside) if _bit(label, level) else (inside, beside)
    return hashlib.sha256(_BRANCH + halves[0] + halves[1]).digest()


def _bit(label: bytes, number: int) -> int:
    return label[number >> 3] >> (7 - (number & 7)) & 1


def _beside(label: bytes, depth: int) -> bytes:
    """The place of the sibling of the node at `depth` on a label's way."""
    turned = bytearray(label)
    turned[(depth - 1) >> 3] ^= 0x80 >> ((depth - 1) & 7)
    return place(bytes(turned), depth)


def _common(one: bytes, other: bytes) -> int:
    """How many bits two labels have in common from the start."""
    differ = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return DEPTH - differ.bit_length()
