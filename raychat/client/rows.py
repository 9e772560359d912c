"""Reading rows of a database whose schema, not Python, knows the types of its columns."""

from __future__ import annotations

from typing import Any

import apsw


class Rows:
    """Base of what reads and writes some tables of a connection."""

    __slots__ = ("_db",)

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def _row(self, sql: str, *values: object) -> Any:
        """The first row, None without one."""
        return self._db.execute(sql, values).fetchone()

    def _rows(self, sql: str, *values: object) -> list[Any]:
        rows: list[Any] = self._db.execute(sql, values).fetchall()
        return rows
