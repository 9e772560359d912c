"""The store of a shard in Apache Cassandra: see `store`, and `schema` for its tables."""

from __future__ import annotations

from raychat.store.cassandra.session import Session, create_keyspace
from raychat.store.cassandra.store import CassandraStore

__all__ = ["CassandraStore", "Session", "create_keyspace"]
