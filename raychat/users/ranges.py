"""A set of counters kept as few closed ranges: what has been delivered, mostly without holes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgpack

from raychat import limits


class Ranges:
    """Sorted, disjoint, non-adjacent closed ranges `lo, hi, lo, hi…` in one flat list.

    Holds at most `limits.RECEIPT_RANGES` ranges; beyond that the lowest is forgotten, since
    the oldest messages are the ones nobody waits for any more.
    """

    __slots__ = ("flat",)

    def __init__(self, flat: Iterable[int] = ()) -> None:
        self.flat: list[int] = list(flat)

    def add(self, lo: int, hi: int) -> bool:
        """Put lo..hi in. False if all of it was there already."""
        flat = self.flat
        if flat and flat[-2] <= lo <= flat[-1] + 1:  # the usual case: the last range grows
            if hi <= flat[-1]:
                return False
            flat[-1] = hi
            return True
        merged: list[int] = []
        for a, b in self:
            if b + 1 < lo or hi + 1 < a:
                merged += (a, b)
            elif a <= lo and hi <= b:
                return False
            else:
                lo, hi = min(a, lo), max(b, hi)
        pairs = sorted([*zip(merged[::2], merged[1::2], strict=True), (lo, hi)])
        self.flat = [end for pair in pairs[-limits.RECEIPT_RANGES :] for end in pair]
        return True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.flat[::2], self.flat[1::2], strict=True)

    def __contains__(self, number: int) -> bool:
        return any(lo <= number <= hi for lo, hi in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and other.flat == self.flat

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ranges({self.flat})"

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(self.flat)
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> Ranges:
        return cls(msgpack.unpackb(data))
