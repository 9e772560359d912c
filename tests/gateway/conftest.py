from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.people import people
from tests.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A gateway and two hosts that share four people."""
    async with Stack(tmp_path, people(4), hosts=2) as stack:
        yield stack
