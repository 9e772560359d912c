"""Captchas, as hCaptcha and Turnstile document how to verify them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from pydantic import SecretStr

from raychat import limits
from raychat.accounts.challenge import Asking, CaptchaChallenge, NoChallenge
from raychat.errors import ChallengeRequired, Unavailable
from raychat.ids import PhoneNumber
from tests.accounts.webserver import Service

NUMBER = PhoneNumber("+15550001111")


def asking(answer: str | None) -> Asking:
    return Asking(NUMBER, "192.0.2.7", answer)


@pytest.fixture
async def captcha(service: Service) -> AsyncIterator[CaptchaChallenge]:
    url = f"{service.url}/siteverify"
    captcha = CaptchaChallenge("turnstile", "a site key", SecretStr("hush"), url)
    yield captcha
    await captcha.close()


async def test_without_an_answer_it_is_said_what_to_solve(
    captcha: CaptchaChallenge, service: Service
) -> None:
    with pytest.raises(ChallengeRequired) as error:
        await captcha.check(asking(None))
    assert error.value.data == {
        "challenge": {"kind": "captcha", "provider": "turnstile", "site_key": "a site key"}
    }
    assert service.asked == []


async def test_an_answer_is_verified_as_documented(
    captcha: CaptchaChallenge, service: Service
) -> None:
    service.answer = {"success": True, "hostname": "example.org"}
    await captcha.check(asking("an answer"))
    asked = service.asked[0]
    assert (asked.method, asked.path) == ("POST", "/siteverify")
    assert asked.form == {"secret": "hush", "response": "an answer"}


async def test_hcaptcha_is_told_which_site_the_answer_is_for(service: Service) -> None:
    service.answer = {"success": True}
    captcha = CaptchaChallenge("hcaptcha", "a site key", SecretStr("hush"), service.url)
    await captcha.check(asking("an answer"))
    assert service.asked[0].form["sitekey"] == "a site key"
    await captcha.close()


@pytest.mark.parametrize("codes", [["invalid-input-response"], ["timeout-or-duplicate"], []])
async def test_a_wrong_answer_asks_again(
    captcha: CaptchaChallenge, service: Service, codes: list[str]
) -> None:
    service.answer = {"success": False, "error-codes": codes}
    with pytest.raises(ChallengeRequired, match="solve it anew") as error:
        await captcha.check(asking("an answer"))
    assert error.value.data["challenge"]["kind"] == "captcha"


async def test_an_answer_that_is_too_long_is_not_passed_on(
    captcha: CaptchaChallenge, service: Service
) -> None:
    with pytest.raises(ChallengeRequired):
        await captcha.check(asking("x" * (limits.CHALLENGE_CHARS + 1)))
    assert service.asked == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"success": False, "error-codes": ["invalid-input-secret"]}),
        (200, {}),
        (200, b"nonsense"),
        (500, {}),
        (200, {"success": False, "error-codes": ["internal-error"]}),
    ],
)
async def test_what_cannot_be_checked_sends_no_code_and_shows_no_secret(
    captcha: CaptchaChallenge, service: Service, status: int, answer: object
) -> None:
    service.status, service.answer = status, answer
    with structlog.testing.capture_logs() as logs, pytest.raises(Unavailable):
        await captcha.check(asking("an answer"))
    assert logs and "hush" not in str(logs) and "an answer" not in str(logs)


@pytest.mark.parametrize("success", ["true", 1, None])
async def test_only_true_is_success(
    captcha: CaptchaChallenge, service: Service, success: object
) -> None:
    service.answer = {"success": success}
    with pytest.raises(ChallengeRequired):
        await captcha.check(asking("an answer"))


async def test_no_challenge_lets_everybody_through() -> None:
    await NoChallenge().check(asking(None))
    await NoChallenge().close()


def test_who_asks_is_not_shown() -> None:
    assert repr(asking("an answer")) == "Asking(…)"
