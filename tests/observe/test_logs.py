"""Logs: a JSON object a line, and nothing private in it, even if somebody logs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from raychat.errors import BadToken
from raychat.ids import PhoneNumber, Secret
from raychat.observe import logs

Written = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What has been logged since."""
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_a_line_is_json_with_who_what_and_when(written: Written) -> None:
    logs.configure("host-0")
    structlog.get_logger("raychat.host").warning("link silent", peer="gateway-1")
    [line] = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "actor": "host-0",
        "event": "link silent",
        "level": "warning",
        "peer": "gateway-1",
    }


@pytest.mark.parametrize("name", sorted(logs.PRIVATE))
def test_what_may_be_private_is_hidden(written: Written, name: str) -> None:
    logs.configure("host-0")
    structlog.get_logger().error("oh", **{name: "+15550001111"})
    [line] = written()
    assert line[name] == "(hidden)"
    assert "0001111" not in json.dumps(line)


@pytest.mark.parametrize(
    "value",
    [PhoneNumber("+15550001111"), Secret(b"1111" * 8), b"1111", [Secret(b"1111")]],
    ids=["number", "secret", "bytes", "list"],
)
def test_numbers_and_bytes_are_hidden_under_any_name(written: Written, value: object) -> None:
    logs.configure("host-0")
    structlog.get_logger().error("oh", what=value)
    [line] = written()
    assert "1111" not in json.dumps(line)


def test_an_exception_is_on_the_same_line(written: Written) -> None:
    logs.configure("host-0")
    try:
        raise BadToken
    except BadToken:
        structlog.get_logger().exception("call failed")
    [line] = written()
    assert "BadToken" in line["exception"]


def test_lines_below_the_level_are_left_out(written: Written) -> None:
    logs.configure("host-0", "warning")
    log = structlog.get_logger()
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in written()] == ["yes"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        logs.configure("host-0", "loud")
