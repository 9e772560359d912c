"""Statements to a Cassandra cluster, on acsylla: its driver works in threads of C++, and a
statement costs the loop a third of what it costs with the driver in Python.

Every failure is a `StoreError`. One of a write says nothing about whether it was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import acsylla

from raychat.errors import StoreError
from raychat.store.cassandra.schema import TABLES

Rows = list[tuple[Any, ...]]
Call = tuple[str, Sequence[Any]]
"""A statement and its parameters."""

REQUEST_SECONDS: Final = 3.0
DECISION_SECONDS: Final = 1.0
"""Of a lightweight transaction, which may have asked a node that is dead and not yet known to be:
whoever decides asks again, and another node."""

HEARTBEAT_SECONDS: Final = 2
"""A node that is connected and does not answer is left out after two of them."""

SPECULATIVE_MS: Final = 250
"""A statement that takes longer is sent to another node too; all but the lightweight transactions
come to the same when they are done twice."""

SCHEMA_SECONDS: Final = 60.0
QUORUM: Final = acsylla.Consistency.LOCAL_QUORUM
SERIAL: Final = acsylla.Consistency.LOCAL_SERIAL
PAGE_ROWS: Final = 1_000


class Session:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._prepared: dict[str, asyncio.Future[Any]] = {}

    @classmethod
    async def connect(
        cls, addresses: Sequence[str], port: int = 9042, keyspace: str = "raychat"
    ) -> Session:
        """Raises StoreError."""
        try:
            cluster = acsylla.create_cluster(
                list(addresses),
                port=port,
                consistency=QUORUM,
                serial_consistency=SERIAL,
                request_timeout=REQUEST_SECONDS,
                constant_reconnect_delay_ms=500,
                heartbeat_interval_sec=HEARTBEAT_SECONDS,
                idle_timeout_sec=2 * HEARTBEAT_SECONDS,
                speculative_execution_policy=acsylla.SpeculativeExecutionPolicy(
                    constant_delay_ms=SPECULATIVE_MS, max_speculative_executions=2
                ),
                log_level="disabled",
                application_name="raychat",
            )
            return cls(await cluster.create_session(keyspace=keyspace or None))
        except Exception as error:
            raise StoreError(f"No Cassandra at {', '.join(addresses)}: {error}") from error

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        """All rows of the answer, page by page. Raises StoreError."""
        prepared = await self._prepare(statement)
        rows: Rows = []
        state: bytes | None = None
        try:
            while True:
                bound = prepared.bind(list(parameters), page_size=PAGE_ROWS, page_state=state)
                bound.set_is_idempotent(True)
                result = await self._session.execute(bound)
                rows.extend(row.as_tuple() for row in result)
                if not result.has_more_pages():
                    return rows
                state = result.page_state()
        except Exception as error:
            raise _store_error(error) from error

    async def decide(self, statement: str, parameters: Sequence[Any]) -> bool:
        """A lightweight transaction: whether it was applied. Raises StoreError, and then nobody
        knows; it may even be applied later."""
        prepared = await self._prepare(statement)
        try:
            bound = prepared.bind(
                list(parameters),
                consistency=QUORUM,
                serial_consistency=SERIAL,
                timeout=DECISION_SECONDS,
            )
            result = await self._session.execute(bound)
            return bool(result.first().as_tuple()[0])
        except Exception as error:
            raise _store_error(error) from error

    async def agreed(self, statement: str, parameters: Sequence[Any]) -> Rows:
        """Read what lightweight transactions write, those under way included. Raises StoreError."""
        prepared = await self._prepare(statement)
        try:
            bound = prepared.bind(list(parameters), consistency=SERIAL)
            bound.set_is_idempotent(True)
            result = await self._session.execute(bound)
            return [row.as_tuple() for row in result]
        except Exception as error:
            raise _store_error(error) from error

    async def write_together(self, calls: Sequence[Call]) -> None:
        """Writes to one partition, which are one write to Cassandra. Raises StoreError."""
        if len(calls) == 1:
            await self.execute(*calls[0])
            return
        batch = acsylla.create_batch_unlogged(timeout=REQUEST_SECONDS)
        batch.set_consistency(QUORUM)
        batch.set_is_idempotent(True)
        for statement, parameters in calls:
            batch.add_statement((await self._prepare(statement)).bind(list(parameters)))
        try:
            await self._session.execute_batch(batch)
        except Exception as error:
            raise _store_error(error) from error

    async def define(self, statement: str) -> None:
        """Change the schema. Raises StoreError."""
        try:
            defined = acsylla.create_statement(statement, timeout=SCHEMA_SECONDS)
            await self._session.execute(defined)
        except Exception as error:
            raise _store_error(error) from error

    async def prepare(self, statements: Iterable[str]) -> None:
        """So that the first turns are as quick as others. Raises StoreError."""
        await asyncio.gather(*(self._prepare(statement) for statement in statements))

    async def _prepare(self, statement: str) -> Any:
        preparing = self._prepared.get(statement)
        if preparing is None:
            preparing = asyncio.ensure_future(self._session.create_prepared(statement))
            self._prepared[statement] = preparing
        try:
            return await asyncio.shield(preparing)
        except Exception as error:
            self._prepared.pop(statement, None)
            raise _store_error(error) from error

    async def close(self) -> None:
        await self._session.close()


def _store_error(error: Exception) -> StoreError:
    return StoreError(f"Cassandra: {type(error).__name__}: {error}")


async def create_keyspace(
    addresses: Sequence[str], port: int = 9042, keyspace: str = "raychat", replicas: int = 3
) -> None:
    """Make the tables if they are not there. One process at a time: Cassandra 5.0 agrees on
    changes of the schema by gossip, and two that create one table make it twice. StoreError."""
    session = await Session.connect(addresses, port, keyspace="")
    try:
        datacenter = (await session.execute("SELECT data_center FROM system.local"))[0][0]
        await session.define(
            f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication ="
            f" {{'class': 'NetworkTopologyStrategy', '{datacenter}': {replicas}}}"
        )
        for table in TABLES:
            await session.define(table.replace("NOT EXISTS ", f"NOT EXISTS {keyspace}.", 1))
    finally:
        await session.close()
