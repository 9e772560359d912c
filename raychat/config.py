"""Settings of a server, from the command line or `RAYCHAT_*` in the environment."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from raychat import limits


class Placement(StrEnum):
    """Which host runs a User: hosts that share all of them, or one each."""

    SHARDED = "sharded"
    DEDICATED = "dedicated"


def data_home() -> Path:
    """Where a server keeps its data unless told otherwise ($XDG_DATA_HOME/raychat-server)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "raychat-server"


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

    @property
    def run(self) -> Path:
        """Sockets and the state of a running server."""
        return self.data / "run"
