"""What has happened and is not in the tables yet, in memory: changes of rows, the latest of each.

A turn is written to the journal as its changes, so that reading it back needs no rules: a
change says which row (kind, partition, rest of the key) is what from now on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, Final


class Kind(IntEnum):
    """What a row is: its partition, the rest of its key; its value."""

    DEVICE = 0
    """account, device; box, incarnation, token hash, hash of the next token, day last seen."""
    BOX = 1
    """box, 0; account, device."""
    HEAD = 2
    """box, 0; the last number."""
    CURSOR = 3
    """box, 0; the last number that has left. What is below goes with it."""
    INBOX = 4
    """box, number; frame."""
    LIST = 5
    """account, 0; version, account key, digest, bytes. None: no list."""
    BLOCKED = 6
    """account, 0; accounts one after another."""
    REVISION = 7
    """account, 0; the highest revision of a receipt there ever was."""
    PEER = 8
    """account, (sender, device); incarnation, last, recent."""
    RECEIPT = 9
    """account, (device, peer, outcome); revision, ranges."""
    OWED = 10
    """0, sequence; a Told. None: it is paid."""
    KEYS = 11
    """account, device; see `keys`. None: none."""
    PREKEY = 12
    """(account, device, generation, kind, block), id; the record."""
    SEEN = 13
    """day, (account, device); True."""
    TOTALS = 14
    """0, 0; highest box, envelopes in all inboxes, first day in SEEN."""
    WIPE = 15
    """account, (kind, first of the rest or None for all); nothing: those rows go."""
    DROP = 16
    """(account, device, generation, kind, block), 0; nothing: that partition of PREKEY goes."""


Change = tuple[int, Any, Any, Any]
"""Kind, partition, rest of the key, value."""

MISSING: Final = object()

_TYPES: Final[dict[int, tuple[type, ...]]] = {
    Kind.DEVICE: (bytes, int, int, int, bytes, bytes, int),
    Kind.INBOX: (int, int, bytes),
    Kind.CURSOR: (int, int, int),
    Kind.LIST: (bytes, int, int, bytes, bytes, bytes),
    Kind.BLOCKED: (bytes, int, bytes),
    Kind.PEER: (bytes, bytes, int, int, int, bytes),
    Kind.RECEIPT: (bytes, int, bytes, int, int, bytes),
}


def check(changes: Iterable[Change]) -> None:
    """A turn that Cassandra would not take when it is written behind must not happen. Raises
    TypeError."""
    for kind, partition, rest, value in changes:
        types = _TYPES.get(kind)
        if types is None or value is None:
            continue
        flat = (
            partition,
            *(rest if type(rest) is tuple else (rest,)),
            *(value if type(value) is tuple else (value,)),
        )
        if len(flat) != len(types) or not all(map(isinstance, flat, types)):
            raise TypeError(f"A {Kind(kind).name} is not {flat!r:.200}.")


class Layer:
    """Changes of consecutive turns. Of two layers the newer one counts."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of the turns in it."""
        self.rows: list[dict[Any, dict[Any, Any]]] = [{} for _ in range(Kind.WIPE)]
        self.wiped: list[set[tuple[Any, Any]]] = [set() for _ in range(Kind.WIPE)]
        self.dropped: set[Any] = set()

    def __bool__(self) -> bool:
        return self.size > 0

    def add(self, changes: Iterable[Change], size: int) -> None:
        self.size += size
        rows = self.rows
        for kind, partition, rest, value in changes:
            if kind < Kind.WIPE:
                rows[kind].setdefault(partition, {})[rest] = value
                if kind == Kind.CURSOR and (frames := rows[Kind.INBOX].get(partition)):
                    for number in [number for number in frames if number <= value]:
                        del frames[number]
            elif kind == Kind.DROP:
                rows[Kind.PREKEY].pop(partition, None)
                self.dropped.add(partition)
            else:
                wiped, first = rest
                there = rows[wiped].get(partition, {})
                for key in [key for key in there if first is None or key[0] == first]:
                    del there[key]
                self.wiped[wiped].add((partition, first))

    def get(self, kind: int, partition: Any, rest: Any) -> Any:
        """The row, None if it is gone, MISSING if this layer does not know."""
        value = self.rows[kind].get(partition, {}).get(rest, MISSING)
        if value is MISSING and (wiped := self.wiped[kind]):
            if (partition, None) in wiped:
                return None
            if type(rest) is tuple and (partition, rest[0]) in wiped:
                return None
        return value

    def items(self, kind: int) -> Iterator[tuple[Any, Any, Any]]:
        for partition, there in self.rows[kind].items():
            for rest, value in there.items():
                yield partition, rest, value


def look(layers: Iterable[Layer], kind: int, partition: Any, rest: Any) -> Any:
    """The row as the newest layer that knows it has it."""
    for layer in layers:
        value = layer.get(kind, partition, rest)
        if value is not MISSING:
            return value
    return MISSING


def overlay(
    layers: tuple[Layer, ...], kind: int, partition: Any, rows: dict[Any, Any]
) -> dict[Any, Any]:
    """All rows of a partition: those of the table, and over them the layers, newest first."""
    for layer in reversed(layers):
        if layer.wiped[kind]:
            rows = {
                rest: value
                for rest, value in rows.items()
                if layer.get(kind, partition, rest) is MISSING
            }
        rows.update(layer.rows[kind].get(partition, {}))
    return {rest: value for rest, value in rows.items() if value is not None}
