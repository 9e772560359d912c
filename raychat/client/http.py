"""The HTTP calls of PROTOCOL.md, section 4: registration, lookup, keys, devices and links."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from raychat import limits
from raychat.client.keys import LongKeys
from raychat.client.signals import DeviceBundle
from raychat.crypto import (
    IdentityKeyPair,
    KemPublicKey,
    KyberPreKey,
    PreKey,
    PreKeyBundle,
    PublicKey,
    SignedPreKey,
)
from raychat.errors import (
    BadRequest,
    CryptoError,
    Malformed,
    RaychatError,
    Timeout,
    Unavailable,
    from_code,
)
from raychat.ids import (
    MAX_DEVICE,
    AccountId,
    DeviceId,
    PhoneNumber,
    Secret,
    account_id,
    account_text,
)
from raychat.wire.frames import TOKEN_BYTES

CALL_SECONDS: Final = 20
"""Longer than the server waits for its hosts, so that its answer is the one that counts."""

_SHAPE: Final = (KeyError, TypeError, ValueError, AttributeError)
"""What taking apart an answer of another shape raises."""

ANSWER_BYTES: Final = limits.HTTP_BODY_BYTES


class AccountDevices(NamedTuple):
    """The devices the server has of an account, and the list its primary has signed."""

    signed: bytes | None
    devices: list[tuple[DeviceId, int]]
    seen: dict[DeviceId, int]
    """The day (since 1970) each was there last; of one's own devices only."""


class LinkToken(NamedTuple):
    """Who has opened a link; `id` names it."""

    id: str
    token: Secret

    @property
    def authorization(self) -> str:
        return f"Link {_url_text(self.token)}"


class Registration(NamedTuple):
    """A registration begun: a code of so many digits is on its way, valid for `seconds`."""

    id: str
    digits: int
    seconds: int


class Registered(NamedTuple):
    """What the server calls this device."""

    account: AccountId
    device: DeviceId
    incarnation: int
    token: Secret


class KeyCounts(NamedTuple):
    """One-time keys the server has left of this device."""

    pre_keys: int
    kyber_pre_keys: int


class Caller(NamedTuple):
    """Who makes authorised calls."""

    account: AccountId
    device: DeviceId
    token: Secret

    @property
    def authorization(self) -> str:
        return f"Bearer {account_text(self.account)}.{self.device}.{_url_text(self.token)}"


class HttpApi:
    """The calls, over a session that its owner closes. All raise RaychatErrors only."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        """`server` is the server's URL, like https://chat.example."""
        self._session = session
        self._server = server.rstrip("/")

    async def begin(
        self, number: PhoneNumber, *, voice: bool = False, challenge: str | None = None
    ) -> Registration:
        """Ask for a code, by a call instead of a message if `voice`. `challenge` is the answer to
        the one the server has set. Raises ChallengeRequired, BadNumber, RateLimited,
        Unavailable."""
        body = {"number": str(number), "channel": "voice" if voice else "sms"}
        if challenge is not None:
            body["challenge"] = challenge
        answer = await self._call("POST", "/v1/registrations", body)
        match answer:
            case {"registration": str(key), "digits": int(digits), "seconds": int(seconds)}:
                return Registration(key, digits, seconds)
        raise Malformed("The server's answer to a registration is not as agreed.")

    async def confirm(self, registration: Registration, code: str) -> None:
        """Give the code back. Raises BadCode, CodeExpired, Unavailable."""
        await self._call("POST", f"/v1/registrations/{registration.id}/code", {"code": code})

    async def redeem(
        self, registration: Registration, pin: str | None = None
    ) -> tuple[AccountId, bytes | None]:
        """The account of a number that was proven, and the signed list it has, if any.

        Raises Locked, BadPin, CodeExpired, Unavailable.
        """
        path = f"/v1/registrations/{registration.id}/account"
        answer = await self._call("POST", path, {} if pin is None else {"pin": pin})
        try:
            listed = answer.get("list")
            return account_id(answer["account"]), _bytes(listed) if listed else None
        except _SHAPE as error:
            raise Malformed("The server's answer to a registration is not as agreed.") from error

    async def finish(
        self,
        registration: Registration,
        keys: dict[str, Any],
        listed: bytes,
        pin: str | None = None,
    ) -> Registered:
        """Publish the device's keys and its signed list. May be repeated until it succeeds.

        Raises ListStale, Locked, BadPin, CodeExpired, Unavailable.
        """
        path = f"/v1/registrations/{registration.id}/device"
        body: dict[str, Any] = {"keys": keys, "list": _text(listed)}
        if pin is not None:
            body["pin"] = pin
        return _registered(await self._call("POST", path, body))

    async def lookup(self, caller: Caller, number: PhoneNumber) -> AccountId:
        """Whose number it is. Raises NotFound, Unavailable."""
        answer = await self._call("POST", "/v1/lookup", {"number": str(number)}, caller)
        try:
            return account_id(answer["account"])
        except _SHAPE as error:
            raise Malformed("The server's answer to a lookup is not as agreed.") from error

    async def key_counts(self, caller: Caller) -> KeyCounts:
        answer = await self._call("GET", "/v1/keys", None, caller)
        match answer:
            case {"pre_keys": int(pre_keys), "kyber_pre_keys": int(kyber)}:
                return KeyCounts(pre_keys, kyber)
        raise Malformed("The server's count of keys is not as agreed.")

    async def put_keys(self, caller: Caller, keys: dict[str, Any]) -> None:
        await self._call("PUT", "/v1/keys", {"keys": keys}, caller)

    async def bundles(
        self, caller: Caller, account: AccountId, devices: Sequence[DeviceId] | None = None
    ) -> tuple[bytes | None, list[DeviceBundle]]:
        """The signed list of an account, and a bundle of each of its devices (or of some).

        Raises NotFound, NoKeys, RateLimited, Malformed.
        """
        some = "" if devices is None else "?devices=" + ",".join(map(str, devices))
        answer = await self._call("GET", f"/v1/keys/{account_text(account)}{some}", None, caller)
        try:
            listed = answer.get("list")
            bundles = [_bundle(device) for device in answer["devices"]]
            return _bytes(listed) if listed else None, bundles
        except (*_SHAPE, CryptoError) as error:
            raise Malformed("The server's bundle of keys is not as agreed.") from error

    # -- devices ---------------------------------------------------------------------------

    async def devices(self, caller: Caller, account: AccountId | None = None) -> AccountDevices:
        """The devices of an account, one's own by default. Raises NotFound, RateLimited."""
        path = "/v1/devices" if account is None else f"/v1/devices/{account_text(account)}"
        answer = await self._call("GET", path, None, caller)
        try:
            listed, found = answer.get("list"), answer["devices"]
            return AccountDevices(
                _bytes(listed) if listed else None,
                [(_device(each["device"]), int(each["incarnation"])) for each in found],
                {_device(e["device"]): int(e["seen_day"]) for e in found if "seen_day" in e},
            )
        except _SHAPE as error:
            raise Malformed("The server's list of devices is not as agreed.") from error

    async def put_list(self, caller: Caller, listed: bytes) -> None:
        """Give the server the newly signed list. Raises ListStale."""
        await self._call("PUT", "/v1/devices", {"list": _text(listed)}, caller)

    async def leave(self, caller: Caller) -> None:
        """Remove this linked device from its account."""
        await self._call("DELETE", "/v1/devices/self", None, caller)

    async def rotate_token(self, caller: Caller) -> Secret:
        """Another token; the present one works until that is first used."""
        answer = await self._call("POST", "/v1/token", {}, caller)
        try:
            return _token(answer["token"])
        except _SHAPE as error:
            raise Malformed("The server's token is not as agreed.") from error

    async def put_blocks(self, caller: Caller, accounts: Iterable[AccountId]) -> None:
        """Whose messages the server is to drop: these and nobody else's."""
        named = sorted(account_text(account) for account in accounts)
        await self._call("PUT", "/v1/blocks", {"accounts": named}, caller)

    # -- linking ---------------------------------------------------------------------------

    async def open_link(self, link: bytes, request: bytes) -> tuple[LinkToken, int]:
        """Open a link for a new device; it lives so many seconds. Raises LinkTaken."""
        body = {"id": link.hex(), "request": _text(request)}
        answer = await self._call("POST", "/v1/links", body)
        try:
            return LinkToken(link.hex(), _token(answer["token"])), int(answer["seconds"])
        except _SHAPE as error:
            raise Malformed("The server's answer to a link is not as agreed.") from error

    async def link_request(self, caller: Caller, link: bytes) -> bytes:
        """What the new device has left. Raises LinkExpired."""
        answer = await self._call("GET", f"/v1/links/{link.hex()}", None, caller)
        try:
            return _bytes(answer["request"])
        except _SHAPE as error:
            raise Malformed("The server's link is not as agreed.") from error

    async def answer_link(
        self, caller: Caller, link: bytes, device: DeviceId, listed: bytes, message: bytes
    ) -> None:
        """Let the new device in. Raises LinkExpired, ListStale, DeviceList."""
        body = {"device": device, "list": _text(listed), "message": _text(message)}
        await self._call("PUT", f"/v1/links/{link.hex()}", body, caller)

    async def link_message(self, token: LinkToken, wait: int) -> bytes | None:
        """The primary's answer, None if there was none within `wait` seconds.

        Raises LinkExpired.
        """
        path = f"/v1/links/{token.id}/message?wait={wait}"
        answer = await self._call("GET", path, None, token, wait)
        try:
            return None if answer is None else _bytes(answer["message"])
        except _SHAPE as error:
            raise Malformed("The server's link is not as agreed.") from error

    async def finish_link(
        self, token: LinkToken, keys: dict[str, Any], signature: bytes
    ) -> Registered:
        """Become a device of the account. May be repeated until it succeeds."""
        body = {"keys": keys, "device_signature": _text(signature)}
        return _registered(await self._call("POST", f"/v1/links/{token.id}/device", body, token))

    async def log_state(self, since: int) -> bytes:
        """The state of the key log, for who has seen `since` epochs of it: a `State`, not checked
        yet. Raises BadProof if it never was so long."""
        return _log_proof(await self._call("GET", f"/v1/transparency/head?since={since}", None))

    async def log_answer(self, caller: Caller, account: AccountId, since: int, known: int) -> bytes:
        """What the key log has of an account: an `Answer`, not checked yet."""
        path = f"/v1/transparency/{account_text(account)}?since={since}&known={known}"
        return _log_proof(await self._call("GET", path, None, caller))

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        caller: Caller | LinkToken | None = None,
        wait: int = 0,
    ) -> Any:
        headers = {"Authorization": caller.authorization} if caller else {}
        try:
            async with (
                asyncio.timeout(CALL_SECONDS + wait),
                self._session.request(
                    method, self._server + path, json=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                data = await _read(response)
                if response.status < 300:
                    return _json(data) if data else None
                raise _failure(response.status, data)
        except TimeoutError as error:
            raise Timeout from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._server) from error
        except ValueError as error:  # the URL, or JSON that is none
            raise BadRequest(f"{self._server} does not answer as a raychat server.") from error


def unreachable(server: str) -> Unavailable:
    """The error for a server that cannot be reached."""
    return Unavailable(f"The server at {server} cannot be reached; is it running?")


def publication(
    registration_id: int | None,
    identity: IdentityKeyPair | None,
    long_keys: LongKeys | None,
    pre_keys: Sequence[PreKey],
    kyber: Sequence[KyberPreKey],
) -> dict[str, Any]:
    """The `keys` object of a registration or a refill."""
    keys: dict[str, Any] = {}
    if identity is not None:
        keys["registration_id"] = registration_id
        keys["identity"] = _text(identity.public.data)
    if long_keys is not None:
        keys["signed_pre_key"] = _signed(long_keys.signed_pre_key)
        keys["last_resort"] = _signed(long_keys.last_resort)
        keys["last_resort_pre_key"] = _one_time(long_keys.last_resort_pre_key)
    if pre_keys:
        keys["pre_keys"] = [_one_time(key) for key in pre_keys]
    if kyber:
        keys["kyber_pre_keys"] = [_signed(key) for key in kyber]
    return keys


def _signed(key: SignedPreKey | KyberPreKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "key": _text(key.public.data),
        "signature": _text(key.signature),
    }


def _one_time(key: PreKey | SignedPreKey) -> dict[str, Any]:
    return {"id": key.key_id, "key": _text(key.public.data)}


def _registered(answer: Any) -> Registered:
    try:
        return Registered(
            account_id(answer["account"]),
            _device(answer["device"]),
            int(answer["incarnation"]),
            _token(answer["token"]),
        )
    except _SHAPE as error:
        raise Malformed("The server's answer to a registration is not as agreed.") from error


def _device(value: Any) -> DeviceId:
    if type(value) is not int or not 1 <= value <= MAX_DEVICE:
        raise ValueError("not a device")
    return DeviceId(value)


def _token(text: str) -> Secret:
    token = Secret(_bytes(text))
    if len(token) != TOKEN_BYTES:
        raise ValueError("not a token")
    return token


def _url_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bundle(fields: dict[str, Any]) -> DeviceBundle:
    device, incarnation = _device(fields["device"]), int(fields["incarnation"])
    signed, kyber, one_time = fields["signed_pre_key"], fields["kyber_pre_key"], fields["pre_key"]
    bundle = PreKeyBundle(
        registration_id=int(fields["registration_id"]),
        identity_key=PublicKey(_bytes(fields["identity"])),
        signed_pre_key_id=int(signed["id"]),
        signed_pre_key=PublicKey(_bytes(signed["key"])),
        signed_pre_key_signature=_bytes(signed["signature"]),
        kyber_pre_key_id=int(kyber["id"]),
        kyber_pre_key=KemPublicKey(_bytes(kyber["key"])),
        kyber_pre_key_signature=_bytes(kyber["signature"]),
        pre_key_id=int(one_time["id"]) if one_time else None,
        pre_key=PublicKey(_bytes(one_time["key"])) if one_time else None,
    )
    signature = fields.get("device_signature")
    return DeviceBundle(device, incarnation, bundle, _bytes(signature) if signature else None)


def _log_proof(answer: Any) -> bytes:
    try:
        return _bytes(answer["proof"])
    except _SHAPE as error:
        raise Malformed("The server's proof is not as agreed.") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > ANSWER_BYTES:
            raise Malformed("The server's answer is over the size limit.")
    return bytes(data)


def _json(data: bytes) -> Any:
    return json.loads(data)


def _failure(status: int, data: bytes) -> RaychatError:
    try:
        answer = _json(data)
    except ValueError:
        answer = None
    match answer:
        case {"error": str(code), "detail": str(detail), **more}:
            return from_code(code, detail, {str(name): value for name, value in more.items()})
    if status >= 500:
        return Unavailable(f"The server answered with status {status}; try again in a moment.")
    return BadRequest(f"The server refused the call with status {status}.")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """Base64 of either alphabet, with or without padding."""
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
