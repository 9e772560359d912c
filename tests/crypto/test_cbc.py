from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.cbc import cbc_decrypt, cbc_encrypt
from raychat.errors import InvalidMessage

KEY, IV = bytes(range(32)), bytes(range(16))


def raw(blocks: bytes) -> bytes:
    """Encrypted as they are, without padding."""
    encryptor = Cipher(AES(KEY), CBC(IV)).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


@given(st.binary(max_size=100))
def test_what_is_encrypted_decrypts_and_fills_whole_blocks(plaintext: bytes) -> None:
    ciphertext = cbc_encrypt(KEY, IV, plaintext)
    assert len(ciphertext) == (len(plaintext) // 16 + 1) * 16
    assert cbc_decrypt(KEY, IV, ciphertext) == plaintext


def test_the_first_block_has_the_bytes_of_sp_800_38a() -> None:
    # NIST SP 800-38A, F.2.5, CBC-AES256.
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    block = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    expected = bytes.fromhex("f58c4c04d6e5f1ba779eabfb5f7bfbd6")
    assert cbc_encrypt(key, IV, block)[:16] == expected


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_a_ciphertext_is_whole_blocks(size: int) -> None:
    with pytest.raises(InvalidMessage, match="blocks"):
        cbc_decrypt(KEY, IV, bytes(size))


@pytest.mark.parametrize(
    "end", [b"\x00", b"\x11", b"\xff", b"\x01\x02", b"\x00" + b"\x10" * 15], ids=bytes.hex
)
def test_damaged_padding_is_refused(end: bytes) -> None:
    with pytest.raises(InvalidMessage, match="padding"):
        cbc_decrypt(KEY, IV, raw(bytes(16 - len(end)) + end))


def test_padding_is_at_most_one_block() -> None:
    with pytest.raises(InvalidMessage, match="padding"):
        cbc_decrypt(KEY, IV, raw(bytes(15) + b"\x11" * 17))
