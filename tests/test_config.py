"""Settings from the environment, and the secrets among them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from raychat.accounts import providers
from raychat.accounts.challenge import CaptchaChallenge, NoChallenge
from raychat.accounts.providers import ConsoleSender, TwilioSender, WebhookSender
from raychat.config import PROVIDERS, Providers, Settings

TWILIO = {
    "RAYCHAT_SMS": "twilio",
    "RAYCHAT_TWILIO_ACCOUNT_SID": "AC0",
    "RAYCHAT_TWILIO_AUTH_TOKEN": "hush",
    "RAYCHAT_TWILIO_FROM": "+15550009999",
}
WEBHOOK = {
    "RAYCHAT_SMS": "webhook",
    "RAYCHAT_SMS_WEBHOOK_URL": "https://example.org/codes",
    "RAYCHAT_SMS_WEBHOOK_SECRET": "hush",
}
CAPTCHA = {
    "RAYCHAT_CAPTCHA": "turnstile",
    "RAYCHAT_CAPTCHA_SITE_KEY": "a site key",
    "RAYCHAT_CAPTCHA_SECRET": "hush",
}


def given(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Providers:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings().providers


def test_without_settings_codes_go_to_the_console_and_nothing_is_asked(tmp_path: Path) -> None:
    chosen = Settings().providers
    assert isinstance(providers.sender(chosen, tmp_path), ConsoleSender)
    assert isinstance(providers.challenge(chosen), NoChallenge)
    assert chosen.budget_scale == 1


@pytest.mark.parametrize(
    ("environment", "kind"), [(TWILIO, TwilioSender), (WEBHOOK, WebhookSender)]
)
def test_the_environment_chooses_a_provider(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], kind: type
) -> None:
    chosen = given(monkeypatch, environment | CAPTCHA)
    assert isinstance(providers.sender(chosen, tmp_path), kind)
    assert isinstance(providers.challenge(chosen), CaptchaChallenge)


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        *((TWILIO, name) for name in TWILIO if name != "RAYCHAT_SMS"),
        *((WEBHOOK, name) for name in WEBHOOK if name != "RAYCHAT_SMS"),
        *((CAPTCHA, name) for name in CAPTCHA if name != "RAYCHAT_CAPTCHA"),
    ],
)
def test_half_a_provider_is_refused_by_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], missing: str
) -> None:
    rest = {name: value for name, value in environment.items() if name != missing}
    with pytest.raises(ValidationError, match=missing) as error:
        given(monkeypatch, rest)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("url", ["http://example.org/", "ftp://127.0.0.1/x", "example.org"])
def test_codes_are_not_posted_where_others_can_read_along(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(ValidationError, match="https"):
        given(monkeypatch, WEBHOOK | {"RAYCHAT_SMS_WEBHOOK_URL": url})


def test_a_service_on_this_machine_needs_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:8080/codes"
    assert given(monkeypatch, WEBHOOK | {"RAYCHAT_SMS_WEBHOOK_URL": url}).sms_webhook_url == url


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hush" not in repr(given(monkeypatch, TWILIO | CAPTCHA))
    assert "hush" not in repr(Settings())


def test_what_was_kept_is_found_again_by_its_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = given(monkeypatch, TWILIO | CAPTCHA)
    chosen.keep(tmp_path)
    chosen.keep(tmp_path)
    for name in TWILIO | CAPTCHA:
        monkeypatch.delenv(name)
    assert Providers.kept(tmp_path) == chosen
    assert (tmp_path / PROVIDERS).stat().st_mode & 0o777 == 0o600


def test_where_nothing_was_kept_the_defaults_hold(tmp_path: Path) -> None:
    assert Providers.kept(tmp_path) == Providers()


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCHAT_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert Settings().trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    monkeypatch.setenv("RAYCHAT_TRUSTED_PROXIES", "everybody")
    with pytest.raises(ValidationError):
        Settings()
