"""The account as its primary device manages it: its lock, its number, its end."""

from __future__ import annotations

from raychat import limits
from raychat.client.account_api import AccountApi
from raychat.client.http import Caller
from raychat.client.numbers import phone_number
from raychat.client.proving import AskChallenge, AskCode, AskPin, prove, with_pin
from raychat.client.store import DeviceStore
from raychat.errors import BadRequest, Denied
from raychat.ids import PRIMARY, PhoneNumber


class OwnAccount:
    """Locks, moves and deletes. Errors are RaychatErrors; all but `has_lock` are Denied on a
    linked device."""

    def __init__(self, store: DeviceStore, api: AccountApi) -> None:
        self._store = store
        self._api = api

    def _caller(self) -> Caller:
        own = self._store.own()
        return Caller(own.account, own.device, own.token)

    def _primary(self) -> Caller:
        caller = self._caller()
        if caller.device != PRIMARY:
            raise Denied("Only the primary device may change the account; do it there.")
        return caller

    async def has_lock(self) -> bool:
        """Whether registering the number anew takes a PIN."""
        return await self._api.has_lock(self._caller())

    async def lock(self, pin: str) -> None:
        """From now on registering the number anew takes this PIN. Raises BadRequest."""
        if not limits.PIN_CHARS_MIN <= len(pin) <= limits.PIN_CHARS:
            raise BadRequest(
                f"A PIN has {limits.PIN_CHARS_MIN} to {limits.PIN_CHARS} characters; choose one"
                " you will remember."
            )
        await self._api.set_lock(self._primary(), pin)

    async def unlock(self) -> None:
        """Registering the number takes only a code again."""
        await self._api.remove_lock(self._primary())

    async def change_number(
        self,
        number: str,
        code: AskCode,
        *,
        pin: str | AskPin | None = None,
        challenge: AskChallenge | None = None,
        voice: bool = False,
    ) -> PhoneNumber:
        """Move the account, with its devices and chats, to another number, which is proven first.

        `pin` is that of the account that has had the number, which is deleted. Raises BadNumber,
        BadCode, CodeExpired, Locked, BadPin, RateLimited, Unavailable.
        """
        caller, new = self._primary(), phone_number(number)
        if new == self._store.own().number:
            raise BadRequest("That is the number of this account already.")
        proven = await prove(self._api, new, code, challenge=challenge, voice=voice)
        await with_pin(lambda given: self._api.change_number(caller, proven, given), pin)
        with self._store.transaction():
            self._store.move_to(new)
        return new

    async def delete(self, pin: str | AskPin | None = None) -> None:
        """Delete the account and all its devices at the server. This device's file stays."""
        caller = self._primary()
        await with_pin(lambda given: self._api.delete_account(caller, given), pin)
