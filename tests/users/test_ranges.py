"""Ranges behave as the set of numbers they stand for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.users.ranges import Ranges

spans = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)), max_size=30)


@given(spans)
def test_ranges_are_the_set_of_what_was_added(added) -> None:
    ranges, model = Ranges(), set()
    for lo, size in added:
        new = set(range(lo, lo + size + 1))
        assert ranges.add(lo, lo + size) == (not new <= model)
        model |= new
        assert {n for a, b in ranges for n in range(a, b + 1)} == model
        assert all(b + 1 < c for b, c in zip(ranges.flat[1::2], ranges.flat[2::2], strict=False))
    assert Ranges.unpack(ranges.pack()) == ranges


def test_only_the_newest_ranges_are_kept() -> None:
    ranges = Ranges()
    for number in range(limits.RECEIPT_RANGES + 5):
        ranges.add(number * 2, number * 2)
    assert len(ranges.flat) == limits.RECEIPT_RANGES * 2
    assert 0 not in ranges
