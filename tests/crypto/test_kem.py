from __future__ import annotations

import pytest

from raychat.crypto.kem import KemPrivateKey, KemPublicKey
from raychat.errors import InvalidKey, InvalidMessage
from tests.crypto.fields import flipped


def test_both_sides_get_one_secret() -> None:
    private = KemPrivateKey.generate()
    ciphertext, secret = private.public_key().encapsulate()
    assert private.decapsulate(ciphertext) == secret
    assert len(secret) == 32
    assert len(ciphertext) == 1569
    assert ciphertext[0] == 8


def test_a_key_follows_from_its_seed() -> None:
    private = KemPrivateKey.generate()
    assert KemPrivateKey(private.seed).public_key() == private.public_key()


def test_a_damaged_ciphertext_gives_another_secret() -> None:
    private = KemPrivateKey.generate()
    ciphertext, secret = private.public_key().encapsulate()
    assert private.decapsulate(flipped(ciphertext, 700)) != secret


@pytest.mark.parametrize("data", [b"", b"\x08" + bytes(1567), b"\x08" + bytes(1569)])
def test_a_public_key_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidKey):
        KemPublicKey(data)


@pytest.mark.parametrize("kind", [0, 7, 10])
def test_another_kind_of_key_is_refused(kind: int) -> None:
    private = KemPrivateKey.generate()
    with pytest.raises(InvalidKey):
        KemPublicKey(bytes((kind,)) + private.public_key().data[1:])
    ciphertext, _ = private.public_key().encapsulate()
    with pytest.raises(InvalidMessage):
        private.decapsulate(bytes((kind,)) + ciphertext[1:])


def test_a_public_key_with_unreduced_numbers_is_refused() -> None:
    with pytest.raises(InvalidKey):
        KemPublicKey(b"\x08" + b"\xff" * 1568).encapsulate()


@pytest.mark.parametrize("size", [0, 1568, 1570])
def test_a_ciphertext_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidMessage):
        KemPrivateKey.generate().decapsulate((b"\x08" * size)[:size])


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_seed_is_sixty_four_bytes(size: int) -> None:
    with pytest.raises(InvalidKey):
        KemPrivateKey(bytes(size))


def test_a_private_key_does_not_show_itself() -> None:
    assert repr(KemPrivateKey(b"s" * 64)) == "KemPrivateKey(…)"
