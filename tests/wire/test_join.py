"""How frames are put together into messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.wire.frames import join


def test_frames_go_together_in_order() -> None:
    assert list(join([b"a", b"bc", b"d"])) == [b"abcd"]
    assert list(join([])) == []


def test_a_message_is_neither_too_long_nor_of_too_many_frames() -> None:
    assert [len(data) for data in join([bytes(100_000)] * 5)] == [200_000, 200_000, 100_000]
    assert [len(data) for data in join([b"x"] * 2_500)] == [1_024, 1_024, 452]


@given(st.lists(st.integers(1, limits.ENVELOPE_BYTES), max_size=40))
def test_nothing_is_lost(sizes: list[int]) -> None:
    messages = list(join([bytes(size) for size in sizes]))
    assert sum(map(len, messages)) == sum(sizes)
    assert all(len(data) <= limits.FRAME_BYTES for data in messages)
