"""What the tables of the SQLite store share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from raychat.errors import StoreError


@contextmanager
def ours() -> Iterator[None]:
    """SQLite's errors as ours. They carry no values, only what failed."""
    try:
        yield
    except apsw.Error as error:
        raise StoreError(f"The accounts cannot be read or written: {error}.") from error
