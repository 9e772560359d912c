"""Devices that register, link and remove one another over the HTTP API, with real signatures.

What they write is not encrypted: it is what the server does that is looked at.
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any

from raychat.crypto.device_list import (
    DeviceList,
    ListedDevice,
    SignedDeviceList,
    device_signature,
)
from raychat.crypto.prekeys import IdentityKeyPair, KyberPreKey, PreKey, SignedPreKey
from raychat.ids import PRIMARY, AccountId, DeviceId, InboxNumber, MessageId, Secret, account_text
from raychat.ids import account_id as parse_account
from raychat.wire import frames
from raychat.wire.frames import Kind, Part
from tests.stack import Stack, Wire

AT = 1_700_000_000_000


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data(field: str) -> bytes:
    return base64.b64decode(field)


def keys(identity: IdentityKeyPair, many: int = 1) -> dict[str, Any]:
    """What a device uploads when it is registered."""

    def signed(record: SignedPreKey | KyberPreKey) -> dict[str, Any]:
        key = {"id": record.key_id, "key": text(record.public.data)}
        return {**key, "signature": text(record.signature)}

    def plain(number: int) -> dict[str, Any]:
        return {"id": number, "key": text(PreKey.generate(number).public.data)}

    return {
        "registration_id": 7,
        "identity": text(identity.public.data),
        "signed_pre_key": signed(SignedPreKey.generate(identity, 1, 0)),
        "last_resort": signed(KyberPreKey.generate(identity, 9_000, 0)),
        "last_resort_pre_key": plain(9_000),
        "pre_keys": [plain(number) for number in range(1, many + 1)],
    }


class Phone:
    """One device. `listed` is the list it has signed, if it is a primary."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.identity = IdentityKeyPair.generate()
        self.account = AccountId(b"")
        self.device = DeviceId(0)
        self.incarnation = 0
        self.token = Secret(b"")
        self.listed: DeviceList | None = None
        self._signed: dict[DeviceList, bytes] = {}

    # -- calls -----------------------------------------------------------------------------

    async def call(
        self, method: str, path: str, body: object = None, authorization: str | None = None
    ) -> tuple[int, Any]:
        """The status and what the answer says."""
        if authorization is None and self.token:
            name = f"{account_text(self.account)}.{self.device}"
            authorization = f"Bearer {name}.{_token(self.token)}"
        headers = {"Authorization": authorization} if authorization else {}
        url = self.stack.url + path
        async with self.stack.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json() if response.status != 204 else None

    async def ok(self, *call: Any, **more: Any) -> Any:
        status, body = await self.call(*call, **more)
        assert status < 300, body
        return body

    async def error(self, *call: Any, **more: Any) -> tuple[int, str]:
        status, body = await self.call(*call, **more)
        assert status >= 400, body
        return status, body["error"]

    # -- registering and linking -----------------------------------------------------------

    async def register(self, number: str) -> Phone:
        """Become the primary of a number's account."""
        path = await self.prove(number)
        account = parse_account((await self.ok("POST", f"{path}/account", {}))["account"])
        self.sign(account, 1)
        self.take(await self.ok("POST", f"{path}/device", self.registration()))
        return self

    async def prove(self, number: str) -> str:
        """A registration whose code was given; its path."""
        begun = await self.ok("POST", "/v1/registrations", {"number": number})
        said = (self.stack.folder / "console.txt").read_text().splitlines()
        code = re.findall(r"\d{6}", [line for line in said if number in line][-1])[-1]
        path = f"/v1/registrations/{begun['registration']}"
        await self.ok("POST", f"{path}/code", {"code": code})
        return path

    def registration(self) -> dict[str, Any]:
        return {"keys": keys(self.identity), "list": text(self.signed())}

    def sign(self, account: AccountId, version: int, *others: ListedDevice) -> None:
        first = ListedDevice(PRIMARY, self.identity.public, AT)
        self.listed = DeviceList(account, version, AT, (first, *others))

    def signed(self, listed: DeviceList | None = None) -> bytes:
        """A list as it was signed first: a signature has chance in it, and repeating has none."""
        made = listed or self.listed
        assert made is not None
        if made not in self._signed:
            self._signed[made] = SignedDeviceList.sign(made, self.identity).to_bytes()
        return self._signed[made]

    def take(self, answer: dict[str, Any]) -> None:
        self.account = parse_account(answer["account"])
        self.device, self.incarnation = DeviceId(answer["device"]), answer["incarnation"]
        self.set_token(answer["token"])

    def set_token(self, written: str) -> None:
        self.token = Secret(base64.urlsafe_b64decode(written + "="))

    async def link(self, number: int, phone: Phone | None = None) -> Phone:
        """Link a new device to this primary, all the way."""
        link = Link(phone or Phone(self.stack))
        await link.open()
        await self.answer(link, number)
        await link.finish()
        self.listed = link.listed
        return link.phone

    async def answer(self, link: Link, number: int) -> None:
        assert self.listed is not None
        asked = await self.ok("GET", f"/v1/links/{link.id}")
        assert data(asked["request"]) == b"request"
        entry = ListedDevice(DeviceId(number), link.phone.identity.public, AT)
        link.listed = self.listed.with_device(entry, AT)
        await self.ok("PUT", f"/v1/links/{link.id}", self.offer(link, number))

    def offer(self, link: Link, number: int) -> dict[str, Any]:
        assert link.listed is not None
        listed = text(self.signed(link.listed))
        return {"device": number, "list": listed, "message": text(b"message")}

    async def remove(self, number: int) -> None:
        """Sign a list without a device."""
        assert self.listed is not None
        self.listed = self.listed.without(DeviceId(number), AT)
        await self.ok("PUT", "/v1/devices", {"list": text(self.signed())})

    # -- messages --------------------------------------------------------------------------

    def hello(self, seen: int = 0, revision: int = 0) -> bytes:
        who = (frames.VERSION, self.account, self.device, self.token)
        return frames.pack_hello(frames.Hello(*who, InboxNumber(seen), (), revision))

    async def wire(self, seen: int = 0, revision: int = 0) -> Wire:
        wire = await self.stack.wire()
        await wire.say(self.hello(seen, revision))
        await wire.hear(frames.Welcome)
        return wire


class Link:
    """A link that is under way, as the new device sees it."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.id = secrets.token_bytes(5).hex()
        self.token = ""
        self.listed: DeviceList | None = None

    @property
    def authorization(self) -> str:
        return f"Link {self.token}"

    async def open(self) -> None:
        body = {"id": self.id, "request": text(b"request")}
        self.token = (await self.phone.ok("POST", "/v1/links", body))["token"]

    async def message(self, wait: int = 0) -> bytes | None:
        path = f"/v1/links/{self.id}/message?wait={wait}"
        answer = await self.phone.ok("GET", path, authorization=self.authorization)
        return data(answer["message"]) if answer else None

    def membership(self) -> dict[str, Any]:
        assert self.listed is not None
        number = next(
            each.device
            for each in self.listed.devices
            if each.identity == self.phone.identity.public
        )
        key = self.listed.account_key
        word = device_signature(self.phone.identity, self.listed.account, key, number)
        return {"keys": keys(self.phone.identity), "device_signature": text(word)}

    async def finish(self) -> None:
        path = f"/v1/links/{self.id}/device"
        body = self.membership()
        self.phone.take(await self.phone.ok("POST", path, body, self.authorization))


def send(to: AccountId, number: int, parts: list[tuple[int, int]], body: bytes = b"hi") -> bytes:
    """A message to devices of an account, each with its incarnation."""
    made = [Part(DeviceId(n), incarnation, Kind.MESSAGE, body) for n, incarnation in parts]
    return frames.pack_send(frames.Send(to, MessageId(number), made))


def _token(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()
