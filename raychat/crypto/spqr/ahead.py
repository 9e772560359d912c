"""Work that is done before its turn, so that no message has to wait for much of it.

The Braid has a few expensive steps, each once in some 90 messages. A message that shows that one
is near does part of it already and leaves the result here for a later message. Nothing depends
on that: what is not here is made when it is asked for, as after a restart. A result is given out
once: a secret does not stay when it has served, and what was drawn at random does not serve
again if the step that took it is undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

KEPT: Final = 32
"""Results that wait at the same time, some kilobytes each; the oldest give way."""


class Ahead(Generic[Key, Value]):
    """Results of `make` by what they are made of."""

    def __init__(self, make: Callable[[Key], Value]) -> None:
        self._make = make
        self._kept: dict[Key, Value] = {}

    def prepare(self, key: Key) -> None:
        """Make the result now, unless it is here."""
        if key not in self._kept:
            self.keep(key, self._make(key))

    def keep(self, key: Key, value: Value) -> None:
        """Put in a result that has come up in another step."""
        kept = self._kept
        kept[key] = value
        if len(kept) > KEPT:
            kept.pop(next(iter(kept)), None)

    def take(self, key: Key) -> Value:
        """The result, made now if it is not here. It is not kept any longer."""
        found = self._kept.pop(key, None)
        return self._make(key) if found is None else found

    def __repr__(self) -> str:
        return f"Ahead({len(self._kept)})"
