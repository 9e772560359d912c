"""The HTTP calls of PROTOCOL.md, section 4: registration, lookup and keys."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from raychat import limits
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

CALL_SECONDS: Final = 20
"""Longer than the server waits for its hosts, so that its answer is the one that counts."""

_SHAPE: Final = (KeyError, TypeError, ValueError, AttributeError)
"""What taking apart an answer of another shape raises."""

ANSWER_BYTES: Final = limits.HTTP_BODY_BYTES


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
        token = base64.urlsafe_b64encode(self.token).rstrip(b"=").decode()
        return f"Bearer {account_text(self.account)}.{self.device}.{token}"


class HttpApi:
    """The calls, over a session that its owner closes. All raise RaychatErrors only."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        """`server` is the server's URL, like https://chat.example."""
        self._session = session
        self._server = server.rstrip("/")

    async def begin(self, number: PhoneNumber) -> Registration:
        """Ask for a code. Raises BadNumber, RateLimited, Unavailable."""
        answer = await self._call("POST", "/v1/registrations", {"number": str(number)})
        match answer:
            case {"registration": str(key), "digits": int(digits), "seconds": int(seconds)}:
                return Registration(key, digits, seconds)
        raise Malformed("The server's answer to a registration is not as agreed.")

    async def confirm(self, registration: Registration, code: str) -> None:
        """Give the code back. Raises BadCode, CodeExpired, Unavailable."""
        await self._call("POST", f"/v1/registrations/{registration.id}/code", {"code": code})

    async def finish(self, registration: Registration, keys: dict[str, Any]) -> Registered:
        """Publish the device's keys. May be repeated until it succeeds."""
        path = f"/v1/registrations/{registration.id}/device"
        answer = await self._call("POST", path, {"keys": keys})
        try:
            registered = Registered(
                account_id(answer["account"]),
                DeviceId(int(answer["device"])),
                int(answer["incarnation"]),
                Secret(_bytes(answer["token"])),
            )
        except _SHAPE as error:
            raise Malformed("The server's answer to a registration is not as agreed.") from error
        if not 1 <= registered.device <= MAX_DEVICE or len(registered.token) != 32:
            raise Malformed("The server's answer to a registration is not as agreed.")
        return registered

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

    async def bundles(self, caller: Caller, account: AccountId) -> list[DeviceBundle]:
        """A bundle of each device of an account. Raises NotFound, NoKeys, Malformed."""
        answer = await self._call("GET", f"/v1/keys/{account_text(account)}", None, caller)
        try:
            return [_bundle(device) for device in answer["devices"]]
        except (*_SHAPE, CryptoError) as error:
            raise Malformed("The server's bundle of keys is not as agreed.") from error

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, caller: Caller | None = None
    ) -> Any:
        headers = {"Authorization": caller.authorization} if caller else {}
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
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
    long_keys: tuple[SignedPreKey, KyberPreKey] | None,
    pre_keys: Sequence[PreKey],
    kyber: Sequence[KyberPreKey],
) -> dict[str, Any]:
    """The `keys` object of a registration or a refill."""
    keys: dict[str, Any] = {}
    if identity is not None:
        keys["registration_id"] = registration_id
        keys["identity"] = _text(identity.public.data)
    if long_keys is not None:
        keys["signed_pre_key"], keys["last_resort"] = (_signed(key) for key in long_keys)
    if pre_keys:
        keys["pre_keys"] = [{"id": k.key_id, "key": _text(k.public.data)} for k in pre_keys]
    if kyber:
        keys["kyber_pre_keys"] = [_signed(key) for key in kyber]
    return keys


def _signed(key: SignedPreKey | KyberPreKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "key": _text(key.public.data),
        "signature": _text(key.signature),
    }


def _bundle(fields: dict[str, Any]) -> DeviceBundle:
    device, incarnation = int(fields["device"]), int(fields["incarnation"])
    if not 1 <= device <= MAX_DEVICE:
        raise ValueError("not a device")
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
    return DeviceBundle(DeviceId(device), incarnation, bundle)


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
        case {"error": str(code), "detail": str(detail)}:
            return from_code(code, detail)
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
