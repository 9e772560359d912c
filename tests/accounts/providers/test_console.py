"""Codes that go to a file instead of a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from raychat.accounts.providers.console import ConsoleSender
from raychat.accounts.sender import Channel, CodeMessage
from raychat.errors import Unavailable
from raychat.ids import PhoneNumber

NUMBER = PhoneNumber("+15550001111")


def message(code: str = "123456", channel: Channel = Channel.SMS) -> CodeMessage:
    return CodeMessage(NUMBER, channel, code, 600)


async def test_each_code_is_a_line_that_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "console.txt"
    console = ConsoleSender(path)
    await console.send(message())
    await console.send(message("654321", Channel.VOICE))
    assert path.read_text().splitlines() == [
        "SMS to +15550001111: your raychat code is 123456",
        "Call to +15550001111: your raychat code is 654321",
    ]
    await console.close()


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "console.txt"
    path.touch(0o644)
    await ConsoleSender(path).send(message())
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as failure:
        await ConsoleSender(tmp_path).send(message())
    assert failure.value.retryable
    assert "5550001111" not in str(failure.value) and "123456" not in str(failure.value)
