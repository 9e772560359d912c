"""Secrets of a deployment in its data directory, and the token that guards Ray.

Ray's ports run code for whoever reaches them, so there is no cluster of ours without a token.
Ray reads these settings when it is imported: `use_ray_token` comes before that, which is why
this module does not import it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from raychat.secretfile import write_secret


def make_secret(path: Path, content: bytes) -> None:
    """Write a file only its owner can read; one that is there stays."""
    if not path.exists():
        write_secret(path, content)


def token_file(data: Path) -> Path:
    return data / "ray.token"


def use_ray_token(data: Path) -> None:
    """Make this process, and the Ray it starts or asks, use the token of a data directory."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    make_secret(token_file(data), secrets.token_hex(32).encode())
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file(data))
