"""The service's calls about accounts: challenge, lock, other number, deletion; and its key log."""

from __future__ import annotations

import base64
from collections.abc import Callable

from aiohttp import web

from raychat.clock import wall_ms
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import BadPin, BadProof, ChallengeRequired, Denied, Locked, RateLimited
from raychat.ids import PRIMARY, AccountId, PhoneNumber, account_id, account_text
from tests.client.model import ServedDevice, ServedUser
from tests.transparency.keeper import Keeper

Calling = Callable[[web.Request], tuple[ServedUser, ServedDevice]]


class AccountCalls:
    """What it keeps of accounts besides the model server."""

    def __init__(self, registrations: dict[str, PhoneNumber], caller: Calling) -> None:
        self.registrations = registrations
        self.caller = caller
        self.pins: dict[AccountId, str] = {}
        self.tries = 5
        self.redeemed: set[str] = set()
        self.channels: list[str] = []
        self.answer: str | None = None
        """What solves the challenge; None if there is none."""
        self.pause = 0
        """Seconds until another code may be asked for; forgotten once it was told."""
        self.deleted: list[AccountId] = []
        self.log = Keeper()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/account/lock", self._get_lock),
            web.put("/v1/account/lock", self._put_lock),
            web.delete("/v1/account/lock", self._delete_lock),
            web.post("/v1/account/number", self._number),
            web.delete("/v1/account", self._delete),
            web.get("/v1/transparency/head", self._head),
            web.get("/v1/transparency/{account}", self._entry),
        ]

    # -- registration ----------------------------------------------------------------------

    def begin(self, fields: dict[str, str]) -> None:
        """Raises ChallengeRequired, RateLimited."""
        if self.pause:
            seconds, self.pause = self.pause, 0
            raise RateLimited(None, {"seconds": seconds})
        if self.answer is not None and fields.get("challenge") != self.answer:
            challenge = {"kind": "captcha", "provider": "hcaptcha", "site_key": "site-1"}
            raise ChallengeRequired(None, {"challenge": challenge})
        self.channels.append(fields.get("channel", "sms"))

    def redeem(self, registration: str, user: ServedUser, pin: str | None) -> None:
        """Raises Locked, BadPin."""
        if registration not in self.redeemed:
            self.check_pin(user, pin)
            self.redeemed.add(registration)

    def check_pin(self, user: ServedUser, pin: str | None) -> None:
        wanted = self.pins.get(user.account)
        if wanted is None or pin == wanted:
            return
        if pin is None:
            raise Locked(None, {"seconds": 60, "tries": self.tries})
        self.tries -= 1
        raise BadPin(None, {"tries": self.tries})

    # -- the account -----------------------------------------------------------------------

    def _primary(self, request: web.Request) -> ServedUser:
        user, device = self.caller(request)
        if device.device != PRIMARY:
            raise Denied
        return user

    async def _get_lock(self, request: web.Request) -> web.Response:
        user, _ = self.caller(request)
        return web.json_response({"locked": user.account in self.pins})

    async def _put_lock(self, request: web.Request) -> web.Response:
        self.pins[self._primary(request).account] = (await request.json())["pin"]
        return web.Response(status=204)

    async def _delete_lock(self, request: web.Request) -> web.Response:
        self.pins.pop(self._primary(request).account, None)
        return web.Response(status=204)

    async def _number(self, request: web.Request) -> web.Response:
        user = self._primary(request)
        user.number = self.registrations[(await request.json())["registration"]]
        return web.json_response({"account": account_text(user.account)})

    async def _delete(self, request: web.Request) -> web.Response:
        user = self._primary(request)
        fields = await request.json() if request.can_read_body else {}
        self.check_pin(user, fields.get("pin"))
        user.devices.clear()
        self.deleted.append(user.account)
        return web.Response(status=204)

    # -- the key log -----------------------------------------------------------------------

    def publish(self, account: AccountId, listed: bytes) -> None:
        """An honest server logs every list it takes."""
        digest = SignedDeviceList.parse(listed).digest()
        if digest not in self.log.lists.get(account, [])[-1:]:
            self.log.now = wall_ms()
            self.log.publish((account, digest))

    async def _head(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", 0))
        self.log.now = wall_ms()
        return self._proof(since, lambda: self.log.state(since).to_bytes())

    async def _entry(self, request: web.Request) -> web.Response:
        self.caller(request)
        account = account_id(request.match_info["account"])
        since, known = (int(request.query.get(name, 0)) for name in ("since", "known"))
        self.log.now = wall_ms()
        return self._proof(since, lambda: self.log.answer(account, since, known).to_bytes())

    def _proof(self, since: int, prove: Callable[[], bytes]) -> web.Response:
        if since > self.log.tree.size:
            raise BadProof
        return web.json_response({"proof": base64.b64encode(prove()).decode()})
