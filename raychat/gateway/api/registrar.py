"""What the API needs of accounts/, which may run in another process."""

from __future__ import annotations

from typing import Protocol

from raychat.accounts.service import Begun
from raychat.ids import AccountId


class Registrar(Protocol):
    """See `raychat.accounts.service.Accounts`, whose errors these raise."""

    # -- registration and lookup -----------------------------------------------------------

    async def start(self, number: str, channel: str, address: str, answer: str | None) -> Begun: ...

    async def check(self, registration: str, code: str, address: str) -> None: ...

    async def redeem(self, registration: str, pin: str | None) -> AccountId: ...

    async def locked_holder(self, registration: str) -> AccountId | None: ...

    async def lookup(self, number: str, asker: AccountId, address: str) -> AccountId: ...

    async def ready(self, account: AccountId) -> None:
        """The host of a new account exists."""

    # -- the life of an account ------------------------------------------------------------

    async def see(self, account: AccountId, day: int) -> None: ...

    async def has_lock(self, account: AccountId) -> bool: ...

    async def set_lock(self, account: AccountId, pin: str) -> None: ...

    async def remove_lock(self, account: AccountId) -> None: ...

    async def change_number(
        self, account: AccountId, registration: str, pin: str | None
    ) -> AccountId | None: ...

    async def remove(self, account: AccountId, pin: str | None) -> None: ...

    async def leaving(self) -> list[AccountId]: ...

    async def gone(self, account: AccountId) -> None: ...
