"""Secrets of a deployment in its data directory, and the token that guards Ray.

Ray's ports run code for whoever reaches them, so there is no cluster of ours without a token.
Ray reads these settings when it is imported: `use_ray_token` comes before that, which is why
this module does not import it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_secret(path: Path, content: bytes) -> None:
    """Write a file only its owner can read, whole or not at all; one that is there stays."""
    if path.exists():
        return
    part = path.with_suffix(".new")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def token_file(data: Path) -> Path:
    return data / "ray.token"


def use_ray_token(data: Path) -> None:
    """Make this process, and the Ray it starts or asks, use the token of a data directory."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    make_secret(token_file(data), secrets.token_hex(32).encode())
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file(data))
