"""Secrets in files: written durably, wholly there or not at all, readable by their owner alone."""

from __future__ import annotations

import os
from pathlib import Path


def write_secret(path: Path, secret: bytes) -> None:
    """Make a file of mode 0600, or replace one, in a directory that exists. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    # The new name is durable only when its directory is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
