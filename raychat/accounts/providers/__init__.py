"""Providers of texts and calls, and which of them the settings choose."""

from __future__ import annotations

from pathlib import Path

from raychat.accounts.challenge import CaptchaChallenge, Challenge, NoChallenge
from raychat.accounts.providers.console import ConsoleSender
from raychat.accounts.providers.twilio import TwilioSender
from raychat.accounts.providers.webhook import WebhookSender
from raychat.accounts.sender import Sender
from raychat.config import Captcha, Providers, Sms


def sender(providers: Providers, data: Path) -> Sender:
    """The sender that settings name; the console one writes into the data directory."""
    match providers.sms:
        case Sms.CONSOLE:
            return ConsoleSender(data / "console.txt")
        case Sms.WEBHOOK:
            return WebhookSender(providers.sms_webhook_url, providers.sms_webhook_secret)
        case Sms.TWILIO:
            return TwilioSender(
                providers.twilio_account_sid,
                providers.twilio_auth_token,
                user=providers.twilio_api_key,
                sender=providers.twilio_from,
                service=providers.twilio_messaging_service,
                url=providers.twilio_url,
            )


def challenge(providers: Providers) -> Challenge:
    """The challenge that settings name."""
    if providers.captcha is Captcha.NONE:
        return NoChallenge()
    return CaptchaChallenge(
        providers.captcha.value,
        providers.captcha_site_key,
        providers.captcha_secret,
        providers.captcha_url,
    )


__all__ = ["ConsoleSender", "TwilioSender", "WebhookSender", "challenge", "sender"]
