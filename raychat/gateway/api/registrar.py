"""What the API needs of accounts/, which may run in another process."""

from __future__ import annotations

from typing import Protocol

from raychat.ids import AccountId


class Registrar(Protocol):
    """See `raychat.accounts.service.Accounts`, whose errors these raise."""

    async def start(self, number: str) -> tuple[str, int, int]: ...

    async def check(self, registration: str, code: str) -> None: ...

    async def redeem(self, registration: str) -> AccountId: ...

    async def lookup(self, number: str) -> AccountId: ...

    async def ready(self, account: AccountId) -> None:
        """The host of a new account exists."""
