"""What is typed, read without holding up anything else."""

from __future__ import annotations

import asyncio
import io
import os

import pytest

from raychat.client.stdin import read_hidden, read_line, read_lines


async def test_lines_come_one_by_one_and_no_more_is_taken_than_asked_for() -> None:
    source = io.StringIO("one\r\ntwo\n\nlast")
    assert [await read_line(source) for _ in range(2)] == ["one", "two"]
    assert source.readline() == "\n"
    assert [await read_line(source) for _ in range(2)] == ["last", None]


async def test_waiting_for_a_line_holds_up_nothing() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as source:
        asking = asyncio.create_task(read_line(source))
        await asyncio.sleep(0.01)
        assert not asking.done()
        os.write(write, b"yes\n")
        assert await asyncio.wait_for(asking, 5) == "yes"
        os.close(write)


async def test_without_a_terminal_a_hidden_line_is_one_of_stdin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1234\n"))
    assert await read_hidden("PIN: ") == "1234"
    assert await read_hidden("PIN: ") is None


async def test_what_cannot_be_read_is_an_error() -> None:
    source = io.StringIO("x")
    source.close()
    with pytest.raises(ValueError, match="closed"):
        await read_line(source)


async def test_all_lines_come_with_their_ends() -> None:
    assert [line async for line in read_lines(io.StringIO("a\nb"))] == ["a\n", "b"]
