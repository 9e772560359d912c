"""The key that signs the heads of the key-transparency log: a file of its own beside the log.

Devices know the log by this key. Whoever loses the file can start no log that they accept, so it
belongs in the backup; whoever else has it can sign heads, but each of them is evidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from raychat.errors import StoreLocked
from raychat.secretfile import write_secret

SEED_BYTES: Final = 32


def load_or_create(path: Path, *, log_exists: bool) -> SigningKey:
    """The key in a file, which is made (mode 0600) if there is no log yet either.

    Raises StoreLocked if it is damaged, or missing while there is a log.
    """
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        if log_exists:
            raise StoreLocked(
                f"The key of the key log, {path.name}, is missing; restore it from the backup."
            ) from None
        return _create(path)
    if len(seed) != SEED_BYTES:
        raise StoreLocked(f"The key of the key log, {path.name}, is {SEED_BYTES} bytes.")
    return SigningKey(seed)


def _create(path: Path) -> SigningKey:
    key = SigningKey.generate()
    write_secret(path, bytes(key))
    return key
