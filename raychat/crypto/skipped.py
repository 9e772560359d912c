"""Keys of messages that have not come yet.

Specification: "The Double Ratchet Algorithm", revision 3, section 8.4 (deletion of skipped
message keys): their number is bounded, the oldest give way.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from raychat.limits import SKIPPED_KEYS

KEY_BYTES: Final = 32
ENTRY_BYTES: Final = 4 + KEY_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class SkippedKeys:
    """Keys by their counters, in the form they are stored in; at most SKIPPED_KEYS.

    `data` is a row of entries (counter u32, key 32 bytes) in rising order of the counter, so
    that loading costs nothing and looking one up is a binary search.
    """

    data: bytes = b""

    def __len__(self) -> int:
        return len(self.data) // ENTRY_BYTES

    def added(self, entries: bytes) -> SkippedKeys:
        """With more entries at the end; the oldest give way beyond the limit."""
        return SkippedKeys((self.data + entries)[-SKIPPED_KEYS * ENTRY_BYTES :])

    def taken(self, counter: int) -> tuple[bytes, SkippedKeys] | None:
        """The key of message `counter` and the rest without it; None if it is not here."""
        place = bisect_left(range(len(self)), counter, key=self._counter) * ENTRY_BYTES
        entry = self.data[place : place + ENTRY_BYTES]
        if entry[:4] != counter.to_bytes(4, "big"):
            return None
        return entry[4:], SkippedKeys(self.data[:place] + self.data[place + ENTRY_BYTES :])

    def _counter(self, place: int) -> int:
        return int.from_bytes(self.data[place * ENTRY_BYTES : place * ENTRY_BYTES + 4], "big")

    def __repr__(self) -> str:
        return f"SkippedKeys({len(self)})"


NO_KEYS: Final = SkippedKeys()


def entry(counter: int, key: bytes) -> bytes:
    """One entry of `SkippedKeys.data`."""
    return counter.to_bytes(4, "big") + key
