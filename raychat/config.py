"""Settings of a server, from the command line or `RAYCHAT_*` in the environment."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from raychat import limits
from raychat.secretfile import write_secret

PROVIDERS: Final = "providers.json"

Network = IPv4Network | IPv6Network


class Placement(StrEnum):
    """Which host runs a User: hosts that share all of them, or one each."""

    SHARDED = "sharded"
    DEDICATED = "dedicated"


class Sms(StrEnum):
    """Who sends texts and makes calls."""

    CONSOLE = "console"
    WEBHOOK = "webhook"
    TWILIO = "twilio"


class Captcha(StrEnum):
    """What shows before a text is sent that a person asks for it."""

    NONE = "none"
    HCAPTCHA = "hcaptcha"
    TURNSTILE = "turnstile"


def data_home() -> Path:
    """Where a server keeps its data unless told otherwise ($XDG_DATA_HOME/raychat-server)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "raychat-server"


def _private(url: str) -> bool:
    """Whether nobody on the way can read what is sent to a URL."""
    parts = urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    return not url or parts.scheme == "https" or here


class Providers(BaseSettings):
    """Services that registration needs. Every field can be set as RAYCHAT_<FIELD>.

    The accounts actor reads them from a file of mode 0600 (`keep`, `kept`): what a Ray actor is
    told stays in Ray's own store, which is no place for secrets.
    """

    model_config = SettingsConfigDict(
        env_prefix="RAYCHAT_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    sms: Sms = Sms.CONSOLE
    sms_webhook_url: str = Field(default="", repr=False)  # may hold a password
    sms_webhook_secret: SecretStr = SecretStr("")
    twilio_url: str = "https://api.twilio.com"
    twilio_account_sid: str = ""
    twilio_api_key: str = ""
    """An API key's SID, when `twilio_auth_token` is that key's secret."""
    twilio_auth_token: SecretStr = SecretStr("")
    twilio_from: str = ""
    twilio_messaging_service: str = ""
    captcha: Captcha = Captcha.NONE
    captcha_site_key: str = ""
    captcha_secret: SecretStr = SecretStr("")
    captcha_url: str = ""
    """Where answers are verified, if not where the provider's documentation says."""
    budget_scale: float = Field(default=1.0, ge=0.1)
    """Multiplies every budget of registration and lookup; for load tests."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: dict[str, bool] = {}
        if self.sms is Sms.WEBHOOK:
            needed["sms_webhook_url"] = bool(self.sms_webhook_url)
            needed["sms_webhook_secret"] = bool(self.sms_webhook_secret.get_secret_value())
        if self.sms is Sms.TWILIO:
            needed["twilio_account_sid"] = bool(self.twilio_account_sid)
            needed["twilio_auth_token"] = bool(self.twilio_auth_token.get_secret_value())
            needed["twilio_from"] = bool(self.twilio_from or self.twilio_messaging_service)
        if self.captcha is not Captcha.NONE:
            needed["captcha_site_key"] = bool(self.captcha_site_key)
            needed["captcha_secret"] = bool(self.captcha_secret.get_secret_value())
        for name in ("sms_webhook_url", "twilio_url", "captcha_url"):
            if not _private(getattr(self, name)):
                raise ValueError(f"RAYCHAT_{name.upper()} must begin with https://")
        missing = [f"RAYCHAT_{name.upper()}" for name, there in needed.items() if not there]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be set too")
        return self

    def keep(self, data: Path) -> None:
        """Write them where `kept` finds them."""
        fields = self.model_dump(mode="json") | {
            name: value.get_secret_value() for name, value in self if isinstance(value, SecretStr)
        }
        write_secret(data / PROVIDERS, json.dumps(fields).encode())

    @classmethod
    def kept(cls, data: Path) -> Self:
        """What was kept, else the defaults and the environment."""
        try:
            fields = json.loads((data / PROVIDERS).read_text())
        except FileNotFoundError:
            fields = {}
        return cls(**fields)


class Settings(BaseSettings):
    """What `raychat up` needs to know. Every field can be set as RAYCHAT_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="RAYCHAT_", extra="ignore", frozen=True)

    data: Path = Field(default_factory=data_home)
    host: str = "127.0.0.1"
    port: int = Field(default=8443, ge=0, le=65535)
    gateways: int = Field(default=1, ge=1, le=64)
    hosts: int = Field(default=1, ge=1, le=64)
    placement: Placement = Placement.SHARDED
    tls_cert: Path | None = None
    tls_key: Path | None = None
    dashboard: bool = True
    dashboard_port: int = Field(default=8265, ge=0, le=65535)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    ray_temp_dir: Path | None = None
    send_burst: int = Field(default=limits.SEND_BURST, ge=1)
    send_per_second: float = Field(default=limits.SEND_PER_SECOND, gt=0)
    log_level: str = "info"
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Addresses and networks, with commas between them, whose X-Forwarded-For is believed."""
    providers: Providers = Field(default_factory=Providers)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def run(self) -> Path:
        """Sockets and the state of a running server."""
        return self.data / "run"
