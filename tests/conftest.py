"""Servers that tests of several rooms share."""

from __future__ import annotations

from tests.servers.cassandra.fixtures import cassandra

__all__ = ["cassandra"]
