"""The append-only log: Merkle trees of RFC 6962 (and RFC 9162, section 2.1).

    empty tree   SHA-256 of nothing
    leaf         SHA-256(00 | data)
    node         SHA-256(01 | left | right), the left one the largest full tree that fits

The tree's maker keeps the hash of every full subtree: `node(level, index)` is that of the leaves
index·2^level up to (index+1)·2^level - 1. Nothing in it ever changes, so a proof about any size
the log once had can be made from the same nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raychat.errors import BadProof

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
MAX_SIZE: Final = 2**53 - 1
PATH: Final = 64
"""No proof is longer than the tree of MAX_SIZE leaves is high, and one more."""

Node = Callable[[int, int], bytes]
"""(level, index) -> the hash of that full subtree."""


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


# -- whoever has the tree --------------------------------------------------------------------


def grown(node: Node, size: int, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The nodes (level, index, hash) that a tree of `size` leaves gets with one leaf more."""
    level, index, value = 0, size, leaf
    yield level, index, value
    while index & 1:
        value = node_hash(node(level, index - 1), value)
        level, index = level + 1, index >> 1
        yield level, index, value


def root(node: Node, size: int) -> bytes:
    """The root of the tree that the first `size` leaves make."""
    return _subtree(node, 0, size) if size else EMPTY_ROOT


def inclusion(node: Node, index: int, size: int) -> list[bytes]:
    """The proof that the leaf `index` is in the tree of `size` leaves."""
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_subtree(node, middle, high))
            high = middle
        else:
            path.append(_subtree(node, low, middle))
            low = middle
    return path[::-1]


def consistency(node: Node, first: int, second: int) -> list[bytes]:
    """The proof that the tree of `first` leaves is the beginning of that of `second`."""
    if not 0 < first < second:
        return []
    path: list[bytes] = []
    low, high, known = 0, second, True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            path.append(_subtree(node, middle, high))
            high = middle
        else:
            path.append(_subtree(node, low, middle))
            low, known = middle, False
    if not known:
        path.append(_subtree(node, low, high))
    return path[::-1]


def _subtree(node: Node, low: int, high: int) -> bytes:
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(size)
    return node_hash(_subtree(node, low, middle), _subtree(node, middle, high))


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


# -- whoever checks it -----------------------------------------------------------------------


def check_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes
) -> None:
    """Whether a leaf hash is at `index` of the tree with that root. Raises BadProof."""
    if not 0 <= index < size or len(path) > PATH:
        raise BadProof("The log has no such place.")
    at, last, value = index, size - 1, leaf
    for hashed in path:
        if last == 0:
            raise BadProof("The proof of inclusion is too long.")
        if at & 1 or at == last:
            value = node_hash(hashed, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, hashed)
        at, last = at >> 1, last >> 1
    if last or value != root_hash:
        raise BadProof("The log does not contain what it is said to contain.")


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> None:
    """Whether the tree of `second` leaves begins with that of `first`. Raises BadProof."""
    if not 0 <= first <= second or len(path) > PATH:
        raise BadProof("The log has become shorter.")
    if first in (0, second):
        same = first_root == (second_root if first == second else EMPTY_ROOT)
        if path or not same:
            raise BadProof("The log is not the one it was.")
        return
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not steps:
        raise BadProof("The proof of consistency is too short.")
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for hashed in steps[1:]:
        if last == 0:
            raise BadProof("The proof of consistency is too long.")
        if at & 1 or at == last:
            old, new = node_hash(hashed, old), node_hash(hashed, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, hashed)
        at, last = at >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise BadProof("The log is not the one it was: its past was rewritten.")
