"""The HTTP calls about the account itself: its lock, its number, its end."""

from __future__ import annotations

from raychat.client.http import Caller, HttpApi, Registration
from raychat.errors import Malformed
from raychat.ids import AccountId, account_id

_ODD = "The server's answer about the account is not as agreed."


class AccountApi(HttpApi):
    """The calls, over a session that its owner closes. All raise RaychatErrors only."""

    async def has_lock(self, caller: Caller) -> bool:
        """Whether registering the account's number anew takes a PIN."""
        match await self._call("GET", "/v1/account/lock", None, caller):
            case {"locked": bool(locked)}:
                return locked
        raise Malformed(_ODD)

    async def set_lock(self, caller: Caller, pin: str) -> None:
        """Lock the number with a PIN, or with another one. Raises Denied, Malformed."""
        await self._call("PUT", "/v1/account/lock", {"pin": pin}, caller)

    async def remove_lock(self, caller: Caller) -> None:
        await self._call("DELETE", "/v1/account/lock", None, caller)

    async def change_number(
        self, caller: Caller, registration: Registration, pin: str | None = None
    ) -> AccountId:
        """Give the account the number that was proven. `pin` is of the account that has had it.

        Raises Locked, BadPin, CodeExpired, Denied.
        """
        body = {"registration": registration.id} | _pin(pin)
        answer = await self._call("POST", "/v1/account/number", body, caller)
        try:
            return account_id(answer["account"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Malformed(_ODD) from error

    async def delete_account(self, caller: Caller, pin: str | None = None) -> None:
        """Delete the account with all its devices. Raises Locked, BadPin, Denied."""
        await self._call("DELETE", "/v1/account", _pin(pin) or None, caller)


def _pin(pin: str | None) -> dict[str, str]:
    return {} if pin is None else {"pin": pin}
