from __future__ import annotations

import hmac

import pytest

from raychat.crypto.kdf import hkdf
from raychat.crypto.spqr.authenticator import Authenticator, check_mac
from raychat.errors import BadMac

SECRET = b"s" * 32


def test_a_mac_key_depends_on_every_secret_and_epoch_before() -> None:
    begun = Authenticator.begun(SECRET)
    keys = {
        begun.updated(2, SECRET).mac,
        begun.updated(3, SECRET).mac,
        begun.updated(2, b"t" * 32).mac,
        Authenticator.begun(b"t" * 32).updated(2, SECRET).mac,
        begun.updated(2, SECRET).updated(3, SECRET).mac,
    }
    assert len(keys) == 5


def test_the_first_keys_come_from_the_secret_alone() -> None:
    info = b"Signal_PQCKA_V1_MLKEM768:Authenticator Update" + (1).to_bytes(8, "big")
    assert b"".join(Authenticator.begun(SECRET)) == hkdf(bytes(32) + SECRET, info, 64)


def test_macs_tell_headers_ciphertexts_and_epochs_apart() -> None:
    auth = Authenticator.begun(SECRET)
    macs = {
        auth.header_mac(1, b"data"),
        auth.header_mac(2, b"data"),
        auth.ciphertext_mac(1, b"data"),
        auth.header_mac(1, b"date"),
    }
    assert len(macs) == 4
    label = b"Signal_PQCKA_V1_MLKEM768:ekheader" + (1).to_bytes(8, "big") + b"data"
    assert auth.header_mac(1, b"data") == hmac.digest(auth.mac, label, "sha256")


def test_a_wrong_mac_is_refused() -> None:
    check_mac(b"m" * 32, b"m" * 32)
    for wrong in (b"n" * 32, b"m" * 31, b""):
        with pytest.raises(BadMac):
            check_mac(b"m" * 32, wrong)


def test_nothing_secret_shows() -> None:
    assert repr(Authenticator.begun(SECRET)) == "Authenticator(…)"
