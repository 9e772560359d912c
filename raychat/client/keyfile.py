"""The key that opens a device's file, and where both are kept.

    $RAYCHAT_HOME (else $XDG_DATA_HOME/raychat) / PROFILE / device.db    history and keys, encrypted
                                                            device.key   the key, mode 0600
                                                            device.lock  held while in use

By default the key lies beside the file: whoever can read this directory as this user can read
the history. That protects backups of the one without the other and nothing more. With a
passphrase the key is sealed under it (scrypt, then ChaCha20-Poly1305), and the passphrase is
asked for each time the device is opened.

A key file is one line of text: `raychat-key-1 plain KEY`, or `raychat-key-1 scrypt LOG2N SALT
SEALED`, in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from raychat.errors import StoreError, StoreLocked
from raychat.ids import Secret

KEY_BYTES: Final = 32
DEFAULT_PROFILE: Final = "default"

_FORMAT: Final = "raychat-key-1"
_LOG2_N: Final = 16
_R: Final = 8
_SALT_BYTES: Final = 16
_PROFILE: Final = re.compile(r"[A-Za-z0-9+_][A-Za-z0-9+_.\-]{0,63}")
# The sealing key is fresh for each salt and seals once.
_NONCE: Final = bytes(12)


def data_home() -> Path:
    """The directory of all profiles: $RAYCHAT_HOME, else $XDG_DATA_HOME/raychat."""
    own = os.environ.get("RAYCHAT_HOME")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "raychat"


def directory(profile: str | None = None, home: Path | None = None) -> Path:
    """Where a profile is kept. Raises StoreError for a name that is no file name."""
    name = profile or os.environ.get("RAYCHAT_PROFILE") or DEFAULT_PROFILE
    if not _PROFILE.fullmatch(name):
        raise StoreError("A profile's name has letters, digits and + _ . - only.")
    return (home or data_home()) / name


def create(path: Path, passphrase: str | None = None) -> Secret:
    """Draw a key and write its file, readable by this user only. Raises StoreError."""
    key = secrets.token_bytes(KEY_BYTES)
    if passphrase is None:
        line = f"{_FORMAT} plain {_text(key)}\n"
    else:
        salt = secrets.token_bytes(_SALT_BYTES)
        cipher = ChaCha20Poly1305(_stretch(passphrase, salt, _LOG2_N))
        sealed = cipher.encrypt(_NONCE, key, _FORMAT.encode())
        line = f"{_FORMAT} scrypt {_LOG2_N} {_text(salt)} {_text(sealed)}\n"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise StoreError(
            f"The key file {path.name} cannot be written: {error.strerror}."
        ) from error
    return Secret(key)


def read(path: Path, passphrase: str | None = None) -> Secret:
    """The key in a key file. Raises StoreLocked for a missing or wrong passphrase, StoreError."""
    try:
        fields = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"The key file {path.name} cannot be read.") from error
    try:
        match fields:
            case [format_, "plain", key] if format_ == _FORMAT:
                return _key(_bytes(key))
            case [format_, "scrypt", log2_n, salt, sealed] if format_ == _FORMAT:
                if passphrase is None:
                    raise StoreLocked(
                        "This device is locked by a passphrase; set RAYCHAT_PASSPHRASE or give "
                        "--passphrase."
                    )
                if not 10 <= int(log2_n) <= 20:
                    raise StoreError("The key file asks for too much memory.")
                cipher = ChaCha20Poly1305(_stretch(passphrase, _bytes(salt), int(log2_n)))
                return _key(cipher.decrypt(_NONCE, _bytes(sealed), _FORMAT.encode()))
    except InvalidTag:
        raise StoreLocked("That is not the passphrase of this device.") from None
    except (ValueError, binascii.Error):
        pass
    raise StoreError(f"The key file {path.name} is damaged or of a newer raychat.")


def _stretch(passphrase: str, salt: bytes, log2_n: int) -> bytes:
    n = 1 << log2_n
    memory = 128 * _R * n + (1 << 20)
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=n, r=_R, p=1, maxmem=memory, dklen=KEY_BYTES
    )


def _key(data: bytes) -> Secret:
    if len(data) != KEY_BYTES:
        raise ValueError("a key of another size")
    return Secret(data)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
