"""One server for all tests of a run that need Cassandra, started by the first of them.

Skipped only where there is no Cassandra and no way to get one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.cassandra.server import CassandraMissing, CassandraServer


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraServer]:
    server = CassandraServer(tmp_path_factory.mktemp("cassandra"))
    try:
        server.start()
    except CassandraMissing as error:
        pytest.skip(f"no Cassandra here: {error}")
    yield server
    server.kill()
