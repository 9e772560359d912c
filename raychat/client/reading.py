"""Which messages were read, as few `read` contents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from raychat.client.history import Received
from raychat.ids import MessageId
from raychat.wire import content
from raychat.wire.content import Mark


def read_marks(names: Sequence[Received]) -> list[list[Mark]]:
    """Sorted names of messages as the marks of as few `read` contents as will hold them."""
    marks = []
    for (device, incarnation), group in groupby(names, key=lambda name: name[1:3]):
        flat: list[MessageId] = []
        for name in group:
            if flat and name.id == flat[-1] + 1:
                flat[-1] = name.id
            else:
                flat += (name.id, name.id)
        step = 2 * content.MAX_RANGES
        marks += [
            Mark(device, incarnation, flat[at : at + step]) for at in range(0, len(flat), step)
        ]
    step = content.MAX_MARKS
    return [marks[at : at + step] for at in range(0, len(marks), step)]
