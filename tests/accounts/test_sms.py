"""Texts that go to a file instead of a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from raychat.accounts.sms import ConsoleSms
from raychat.errors import Unavailable
from raychat.ids import PhoneNumber

NUMBER = PhoneNumber("+15550001111")


async def test_each_text_is_a_line_that_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "console.txt"
    sms = ConsoleSms(path)
    await sms.send(NUMBER, "your raychat code is 123456")
    await sms.send(NUMBER, "your raychat code is 654321")
    assert path.read_text().splitlines() == [
        "SMS to +15550001111: your raychat code is 123456",
        "SMS to +15550001111: your raychat code is 654321",
    ]


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "console.txt"
    path.touch(0o644)
    await ConsoleSms(path).send(NUMBER, "x")
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as failure:
        await ConsoleSms(tmp_path).send(NUMBER, "your raychat code is 123456")
    assert failure.value.retryable
    assert "5550001111" not in str(failure.value) and "123456" not in str(failure.value)
