"""The HTTP calls: what the server may answer, and the typed error each becomes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from raychat.client.http import Caller, HttpApi, LinkToken, Registration, publication
from raychat.client.keys import LongKeys
from raychat.client.tls import server_url, session
from raychat.crypto import IdentityKeyPair, KyberPreKey, PreKey, SignedPreKey
from raychat.errors import (
    BadCode,
    BadRequest,
    Locked,
    Malformed,
    NoKeys,
    RaychatError,
    Timeout,
    Unavailable,
)
from raychat.ids import AccountId, DeviceId, PhoneNumber, Secret

ME = Caller(AccountId(bytes(16)), DeviceId(1), Secret(b"\xff" * 32))
BOB = AccountId(b"b" * 16)
LINK = LinkToken("3132333435", Secret(bytes(32)))
REGISTRATION = Registration("key", 6, 600)


class Answers:
    """A server that gives one answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.body: Any = {}
        self.raw: bytes | None = None
        self.status = 200
        self.requests: list[tuple[str, str, str | None]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        header = request.headers.get("Authorization")
        self.requests.append((request.method, request.path, header))
        if self.raw is not None:
            return web.Response(body=self.raw, status=self.status)
        return web.json_response(self.body, status=self.status)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def api(answers: Answers) -> AsyncIterator[HttpApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.handle)
    async with TestServer(app) as server, ClientSession() as http:
        yield HttpApi(http, str(server.make_url("")))


def bundle() -> dict[str, Any]:
    identity = IdentityKeyPair.generate()
    keys = publication(
        7,
        identity,
        LongKeys(
            SignedPreKey.generate(identity, 1, 0),
            KyberPreKey.generate(identity, 2, 0, last_resort=True),
            SignedPreKey.generate(identity, 4, 0),
        ),
        [PreKey.generate(3)],
        [],
    )
    return {
        "device": 1,
        "incarnation": 2,
        "registration_id": keys["registration_id"],
        "identity": keys["identity"],
        "signed_pre_key": keys["signed_pre_key"],
        "kyber_pre_key": keys["last_resort"],
        "pre_key": keys["pre_keys"][0],
    }


async def test_a_bundle_is_read_and_its_signatures_hold(api: HttpApi, answers: Answers) -> None:
    linked = {"device": 2, "pre_key": None, "device_signature": "c2ln"}
    answers.body = {"list": "c2lnbmVk", "devices": [bundle(), bundle() | linked]}
    listed, (first, second) = await api.bundles(ME, BOB)
    assert listed == b"signed"
    assert (first.device, first.incarnation, first.bundle.pre_key_id) == (1, 2, 3)
    assert second.bundle.pre_key is None
    assert (first.signature, second.signature) == (None, b"sig")
    first.bundle.verify()
    ((method, path, header),) = answers.requests
    assert (method, path) == ("GET", "/v1/keys/62626262-6262-6262-6262-626262626262")
    assert header is not None
    assert header.startswith("Bearer 00000000-0000-0000-0000-000000000000.1.____")
    assert "=" not in header


@pytest.mark.parametrize(
    "change",
    [
        {"device": 0},
        {"device": 128},
        {"device": "x"},
        {"identity": "AAAA"},
        {"identity": "?"},
        {"identity": None},
        {"signed_pre_key": None},
        {"kyber_pre_key": {"id": 1, "key": "AAAA", "signature": "AAAA"}},
        {"registration_id": 2**32},
    ],
)
async def test_a_bundle_that_is_none_is_malformed(
    api: HttpApi, answers: Answers, change: dict[str, Any]
) -> None:
    answers.body = {"devices": [bundle() | change]}
    with pytest.raises(RaychatError):
        await api.bundles(ME, BOB)
    for body in ({}, [], {"devices": 5}, None, {"devices": [[]]}):
        answers.body = body
        with pytest.raises(Malformed):
            await api.bundles(ME, BOB)


@pytest.mark.parametrize("body", [{}, [], None, {"account": 5}, {"account": "x"}, "text"])
async def test_answers_that_are_not_as_agreed(api: HttpApi, answers: Answers, body: object) -> None:
    answers.body = body
    for call in (
        api.begin(PhoneNumber("+1555")),
        api.redeem(REGISTRATION),
        api.finish(REGISTRATION, {}, b"list"),
        api.devices(ME),
        api.devices(ME, BOB),
        api.rotate_token(ME),
        api.open_link(b"12345", b"request"),
        api.link_request(ME, b"12345"),
        api.finish_link(LINK, {}, b"signature"),
        api.lookup(ME, PhoneNumber("+1555")),
        api.key_counts(ME),
    ):
        with pytest.raises(Malformed):
            await call


@pytest.mark.parametrize(("device", "token"), [(0, bytes(32)), (128, bytes(32)), (1, bytes(31))])
async def test_a_registration_out_of_range_is_malformed(
    api: HttpApi, answers: Answers, device: int, token: bytes
) -> None:
    answers.body = {
        "account": "00000000-0000-0000-0000-000000000001",
        "device": device,
        "incarnation": 1,
        "token": base64.b64encode(token).decode(),
    }
    with pytest.raises(Malformed):
        await api.finish(REGISTRATION, {}, b"list")


async def test_errors_keep_their_code(api: HttpApi, answers: Answers) -> None:
    answers.status = 403
    answers.body = {"error": "bad-code", "detail": "No.", "retryable": False}
    with pytest.raises(BadCode, match="No"):
        await api.confirm(REGISTRATION, "1")
    answers.body = {"error": "no-keys", "detail": "None.", "retryable": False}
    with pytest.raises(NoKeys):
        await api.bundles(ME, BOB)
    answers.body = {"error": "locked", "detail": "Wait.", "retryable": False, "seconds": 9}
    with pytest.raises(Locked) as caught:
        await api.redeem(REGISTRATION, "1234")
    assert caught.value.data["seconds"] == 9
    answers.body = {"error": "of-a-later-version", "detail": "Hm.", "retryable": True}
    with pytest.raises(RaychatError, match="Hm"):
        await api.begin(PhoneNumber("+1555"))
    for status, kind in ((502, Unavailable), (404, BadRequest), (302, BadRequest)):
        answers.status, answers.raw = status, b"<html>"
        with pytest.raises(kind):
            await api.key_counts(ME)


async def test_an_answer_that_is_not_json_or_too_long(api: HttpApi, answers: Answers) -> None:
    answers.raw = b"<html>"
    with pytest.raises(BadRequest):
        await api.key_counts(ME)
    answers.raw = b" " * (1024 * 1024 + 1)
    with pytest.raises(Malformed):
        await api.key_counts(ME)


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with session() as http:
        for server in ("http://127.0.0.1:1", "http://no such host"):
            with pytest.raises((Unavailable, BadRequest)):
                await HttpApi(http, server).begin(PhoneNumber("+1555"))


async def test_a_server_that_does_not_answer(
    api: HttpApi, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raychat.client.http.CALL_SECONDS", 0)
    with pytest.raises(Timeout):
        await api.key_counts(ME)


async def test_the_servers_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYCHAT_SERVER", raising=False)
    assert server_url() == "http://127.0.0.1:8443"
    monkeypatch.setenv("RAYCHAT_SERVER", "https://chat.example/")
    assert server_url() == "https://chat.example"
    assert server_url("other.example:1") == "https://other.example:1"
    with pytest.raises(BadRequest):
        server_url("ftp://chat.example")
    monkeypatch.setenv("RAYCHAT_TLS_CA", "/no/such/file")
    with pytest.raises(BadRequest, match="RAYCHAT_TLS_CA"):
        session()
