"""`search`, `export`, `history` and `send` with what they take."""

from __future__ import annotations

import json
import stat
from datetime import datetime
from pathlib import Path

import pytest

from raychat.client.client import Client
from raychat.client.commands.messages import moment_ms
from raychat.errors import BadRequest
from tests.client.shell import Shell

ALICE, BOB = "+15550001111", "+15550002222"


async def test_messages_are_found_by_words_sender_day_and_kind(talking: Shell) -> None:
    mine = ("--profile", "alice")
    await talking.done("send", BOB, "the café opens", *mine)

    async def found(*words: str) -> list[str]:
        return [each["text"] for each in await talking.objects("search", *words, *mine)]

    assert await found("CAFE") == ["the café opens"]
    assert await found("ell", "bob") == ["hello bob"]
    assert await found("--from", "me", "--with", BOB) == ["hello bob", "the café opens"]
    assert await found("--from", ALICE, "--limit", "1") == ["the café opens"]
    assert await found("--from", BOB) == []
    assert await found("hello", "--with", "+15559999999") == []
    assert await found("hello", "--from", "+15559999999") == []
    assert await found("hello", "--since", "2020-01-01", "--kind", "text") == ["hello bob"]
    assert await found("hello", "--until", "2020-01-01") == []
    assert await found("hello", "--kind", "poll", "--kind", "contact") == []
    assert "hello bob" in await talking.done("search", "hello", *mine)
    assert "[bad-request]" in await talking.error("search", "x", "--since", "yesterday", *mine)
    assert (await talking.run("search", "x", "--kind", "song", *mine))[0] == 2


async def test_the_history_is_searched_and_exported_while_a_chat_is_open(
    talking: Shell, tmp_path: Path
) -> None:
    async with Client("alice", home=tmp_path):
        assert len(await talking.objects("search", "hello", "--profile", "alice")) == 1
        assert "hello bob" in await talking.done("export", "--profile", "alice")


async def test_the_history_is_exported_as_json_lines_or_text(
    talking: Shell, tmp_path: Path
) -> None:
    mine = ("--profile", "alice")
    lines = (await talking.done("export", *mine)).splitlines()
    assert [json.loads(line) for line in lines] == await talking.objects("history", *mine)
    assert f"[{BOB}]" in await talking.done("export", "--format", "text", *mine)
    assert f"[{BOB}]" not in await talking.done("export", BOB, "--format", "text", *mine)

    target = tmp_path / "all.txt"
    words = ("export", BOB, "-o", str(target), "--format", "text", *mine)
    code, out, err = await talking.run(*words)
    assert (code, out) == (0, "")
    assert "not encrypted" in err
    assert "hello bob" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "[bad-request]" in await talking.error(*words)
    assert await talking.object(*words, "--force") == {
        "file": str(target),
        "format": "text",
        "messages": 1,
    }
    assert "[not-found]" in await talking.error("export", "+15559999999", *mine)
    nowhere = ("export", "-o", str(tmp_path / "no" / "where"), *mine)
    assert "[bad-request]" in await talking.error(*nowhere)


async def test_a_message_answers_another_or_is_viewed_once(talking: Shell) -> None:
    mine = ("--profile", "bob")
    (first,) = await talking.objects("history", *mine)
    reply = await talking.object("send", ALICE, "yes", "--reply-to", str(first["key"]), *mine)
    assert reply["reply"] == {"key": first["key"], "text": "hello bob"}
    once = await talking.object("send", ALICE, "secret", "--view-once", *mine)
    assert once["view_once"]
    assert "[not-found]" in await talking.error("send", ALICE, "x", "--reply-to", "77", *mine)


async def test_colours_are_there_when_wanted_and_only_then(talking: Shell) -> None:
    words = ("history", "--profile", "alice")
    assert "\x1b[" not in await talking.done(*words)
    assert "\x1b[" in await talking.done(*words, "--color")
    assert "\x1b[" not in await talking.done(*words, "--no-color")


def test_a_day_ends_with_its_last_moment() -> None:
    first = datetime(2026, 11, 24).astimezone().timestamp() * 1000
    assert moment_ms("2026-11-24") == first
    assert moment_ms("2026-11-24", end=True) == first + 86_400_000 - 1
    assert moment_ms("2026-11-24T18:30", end=True) == moment_ms("2026-11-24T18:30")
    assert moment_ms("2026-11-24T18:30+00:00") == 1_795_545_000_000
    for text in ("", "today", "2026-13-01"):
        with pytest.raises(BadRequest):
            moment_ms(text)
