"""The store of one host in one SQLite file: see `store`."""

from __future__ import annotations

from raychat.store.sqlite.store import LOG_PAGES, SMALL_LOG_PAGES, SqliteStore

__all__ = ["LOG_PAGES", "SMALL_LOG_PAGES", "SqliteStore"]
