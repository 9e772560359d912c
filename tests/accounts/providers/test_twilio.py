"""Twilio's documented requests, as a server of ours sees them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import pytest
import structlog
from pydantic import SecretStr

from raychat.accounts.providers.twilio import UNREACHABLE, TwilioSender
from raychat.accounts.sender import Channel, CodeMessage
from raychat.errors import BadNumber, Unavailable
from raychat.ids import PhoneNumber
from tests.accounts.webserver import Asked, Service

ACCOUNT = "AC00000000000000000000000000000000"
KEY = "SK00000000000000000000000000000000"
TOKEN = SecretStr("hush")
NUMBER = PhoneNumber("+15550001111")
TEXT = CodeMessage(NUMBER, Channel.SMS, "123456", 600)
CALL = CodeMessage(NUMBER, Channel.VOICE, "123456", 600)


def credentials(asked: Asked) -> str:
    scheme, _, value = asked.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(value).decode()


@pytest.fixture
async def sender(service: Service) -> AsyncIterator[TwilioSender]:
    service.status = 201
    service.answer = {"sid": "SM0", "status": "queued"}
    sender = TwilioSender(ACCOUNT, TOKEN, sender="+15550009999", url=service.url)
    yield sender
    await sender.close()


async def test_a_text_is_a_message_of_the_account(sender: TwilioSender, service: Service) -> None:
    await sender.send(TEXT)
    asked = service.asked[0]
    assert asked.method == "POST"
    assert asked.path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert asked.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert credentials(asked) == f"{ACCOUNT}:hush"
    assert asked.form == {
        "To": "+15550001111",
        "From": "+15550009999",
        "Body": "your raychat code is 123456",
        "ValidityPeriod": "600",
    }


async def test_a_call_says_the_code_digit_by_digit(sender: TwilioSender, service: Service) -> None:
    await sender.send(CALL)
    asked = service.asked[0]
    assert asked.path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    form = dict(asked.form)
    root = ElementTree.fromstring(form.pop("Twiml"))
    assert form == {"To": "+15550001111", "From": "+15550009999"}
    assert root.tag == "Response"
    said = [each.text or "" for each in root.iter("Say")]
    assert len(said) == 2 and all("1, 2, 3, 4, 5, 6" in text for text in said)


async def test_an_api_key_and_a_messaging_service_may_stand_in(service: Service) -> None:
    service.status = 201
    sender = TwilioSender(ACCOUNT, TOKEN, user=KEY, service="MG0", url=f"{service.url}/")
    await sender.send(TEXT)
    asked = service.asked[0]
    assert asked.path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert credentials(asked) == f"{KEY}:hush"
    assert asked.form["MessagingServiceSid"] == "MG0" and "From" not in asked.form
    with pytest.raises(Unavailable, match="no calls"):
        await sender.send(CALL)
    await sender.close()


@pytest.mark.parametrize("code", sorted(UNREACHABLE))
async def test_a_number_that_cannot_be_reached_is_said(
    sender: TwilioSender, service: Service, code: int
) -> None:
    service.status = 400
    service.answer = {"code": code, "message": "about +15550001111", "status": 400}
    with pytest.raises(BadNumber):
        await sender.send(TEXT)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, {"code": 20003, "message": "Authenticate", "status": 401}),
        (429, {"code": 20429, "message": "about +15550001111", "status": 429}),
        (500, b"<html>"),
        (400, {"code": "21211"}),
        (400, []),
        (307, {}),
    ],
)
async def test_all_other_answers_are_trouble_and_name_nobody(
    sender: TwilioSender, service: Service, status: int, answer: object
) -> None:
    service.status, service.answer = status, answer
    with structlog.testing.capture_logs() as logs, pytest.raises(Unavailable) as error:
        await sender.send(TEXT)
    shown = f"{logs} {error.value!r} {error.value.__cause__!r}"
    for secret in ("5550001111", "123456", "hush"):
        assert secret not in shown
    assert logs[0]["status"] == status


def test_a_message_on_its_way_shows_neither_number_nor_code() -> None:
    assert repr(TEXT) == "CodeMessage(sms)"
