from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.accounts.webserver import Service, serving


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A web service of somebody else's."""
    async with serving() as service:
        yield service
