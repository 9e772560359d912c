"""Codes posted to a service of the operator's own."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from raychat.accounts.providers.webhook import SIGNATURE, WebhookSender
from raychat.accounts.sender import Channel, CodeMessage
from raychat.clock import ManualClock
from raychat.errors import BadNumber, Unavailable
from raychat.ids import PhoneNumber
from tests.accounts.webserver import Service

MESSAGE = CodeMessage(PhoneNumber("+15550001111"), Channel.VOICE, "123456", 600)


@pytest.fixture
async def sender(service: Service) -> AsyncIterator[WebhookSender]:
    sender = WebhookSender(f"{service.url}/codes", SecretStr("hush"), ManualClock())
    yield sender
    await sender.close()


async def test_a_code_is_posted_as_documented(sender: WebhookSender, service: Service) -> None:
    service.status = 202
    await sender.send(MESSAGE)
    asked = service.asked[0]
    assert (asked.method, asked.path) == ("POST", "/codes")
    assert asked.headers["Content-Type"] == "application/json"
    fields = json.loads(asked.body)
    assert len(fields.pop("id")) == 36
    assert fields == {
        "number": "+15550001111",
        "channel": "voice",
        "code": "123456",
        "text": "your raychat code is 123456",
        "seconds": 600,
    }


async def test_who_knows_the_secret_can_tell_that_it_is_ours(
    sender: WebhookSender, service: Service
) -> None:
    await sender.send(MESSAGE)
    asked = service.asked[0]
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", asked.headers[SIGNATURE])
    assert found is not None
    assert int(found[1]) == ManualClock().now // 1000
    signed = found[1].encode() + b"." + asked.body
    assert hmac.digest(b"hush", signed, "sha256").hex() == found[2]


async def test_each_code_has_an_id_of_its_own(sender: WebhookSender, service: Service) -> None:
    await sender.send(MESSAGE)
    await sender.send(MESSAGE)
    first, second = (json.loads(asked.body)["id"] for asked in service.asked)
    assert first != second


async def test_a_number_that_cannot_be_reached_is_said(
    sender: WebhookSender, service: Service
) -> None:
    service.status = 422
    with pytest.raises(BadNumber):
        await sender.send(MESSAGE)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 500, 503])
async def test_all_other_answers_are_trouble_and_redirects_are_not_followed(
    sender: WebhookSender, service: Service, status: int
) -> None:
    service.status = status
    service.headers = {"Location": f"{service.url}/elsewhere"}
    with pytest.raises(Unavailable):
        await sender.send(MESSAGE)
    assert len(service.asked) == 1
