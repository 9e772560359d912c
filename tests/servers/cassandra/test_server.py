"""The server that the tests of the Cassandra store stand on keeps what it answered for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.cassandra.server import CassandraFailed, CassandraServer

pytestmark = pytest.mark.cassandra


def test_it_serves_and_is_there_again_after_a_kill_and_after_a_stop(
    cassandra: CassandraServer,
) -> None:
    for end in (cassandra.kill, cassandra.stop):
        end()
        cassandra.start()
        assert cassandra.nodes[0].memory() > 0


def test_a_server_that_cannot_start_says_why(cassandra: CassandraServer, tmp_path: Path) -> None:
    with pytest.raises(CassandraFailed, match="never"):
        CassandraServer(tmp_path, sync="never").start()
