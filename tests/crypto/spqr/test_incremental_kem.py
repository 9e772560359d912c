from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from raychat.crypto.spqr import kem
from raychat.crypto.spqr.kem import DecapsulationKey, Encapsulation
from raychat.errors import InvalidMessage
from tests.crypto.fields import flipped


def encapsulated(key: DecapsulationKey) -> tuple[bytes, bytes, bytes]:
    """The two parts of a ciphertext, and the secret."""
    header, vector = key.public()
    encapsulation = Encapsulation.to(header)
    first, secret = encapsulation.begin()
    return first, encapsulation.finish(vector), secret


def test_the_library_takes_out_what_was_put_in() -> None:
    for _ in range(50):
        key = DecapsulationKey.generate()
        first, second, secret = encapsulated(key)
        library = MLKEM768PrivateKey.from_seed_bytes(key.seed)
        assert library.decapsulate(first + second) == secret
        assert key.decapsulate(first, second) == secret


def test_the_parts_of_a_key_are_those_of_the_librarys() -> None:
    key = DecapsulationKey.generate()
    header, vector = key.public()
    whole = MLKEM768PrivateKey.from_seed_bytes(key.seed).public_key().public_bytes_raw()
    assert vector + header[:32] == whole
    assert header[32:] == hashlib.sha3_256(whole).digest()


def test_the_parts_have_their_sizes() -> None:
    key = DecapsulationKey.generate()
    first, second, secret = encapsulated(key)
    assert [len(part) for part in key.public()] == [kem.HEADER_BYTES, kem.VECTOR_BYTES]
    assert [len(first), len(second)] == [kem.FIRST_BYTES, kem.SECOND_BYTES]
    assert len(secret) == 32


def test_each_encapsulation_is_another() -> None:
    key = DecapsulationKey.generate()
    assert len({part for _ in range(3) for part in encapsulated(key)}) == 9


@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_ciphertext_gives_another_secret(part: int) -> None:
    key = DecapsulationKey.generate()
    *parts, secret = encapsulated(key)
    parts[part] = flipped(parts[part], 50)
    assert key.decapsulate(*parts) != secret


def test_a_vector_that_does_not_fit_its_header_is_refused() -> None:
    header, vector = DecapsulationKey.generate().public()
    with pytest.raises(InvalidMessage):
        Encapsulation.to(header).finish(flipped(vector, 1000))


def test_an_unreduced_vector_is_refused() -> None:
    header, vector = DecapsulationKey.generate().public()
    unreduced = b"\xff\xff\xff" + vector[3:]
    header = header[:32] + hashlib.sha3_256(unreduced + header[:32]).digest()
    with pytest.raises(InvalidMessage):
        Encapsulation.to(header).finish(unreduced)


def test_nothing_secret_shows() -> None:
    key = DecapsulationKey.generate()
    encapsulation = Encapsulation.to(key.public().header)
    shown = repr((key, encapsulation, encapsulation.begin()))
    assert shown == "(DecapsulationKey(…), Encapsulation(…), Begun(…))"
