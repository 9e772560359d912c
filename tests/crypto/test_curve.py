from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.errors import BadSignature, InvalidKey
from tests.crypto.fields import flipped

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
# Every u whose point has order 1, 2, 4 or 8, the unreduced spellings included.
SMALL_ORDER = [
    0,
    1,
    P - 1,
    P,
    P + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


def public(u: int) -> PublicKey:
    return PublicKey(b"\x05" + u.to_bytes(32, "little"))


def test_agreement_gives_the_bytes_of_rfc_7748() -> None:
    # Section 5.2, first vector.
    ours = PrivateKey(
        bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    )
    theirs = PublicKey(
        bytes.fromhex("05e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    )
    assert ours.agree(theirs).hex() == (
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    )


def test_both_sides_agree() -> None:
    alice, bob = KeyPair.generate(), KeyPair.generate()
    assert alice.private.agree(bob.public) == bob.private.agree(alice.public)


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_a_key_that_contributes_nothing_is_refused(u: int) -> None:
    with pytest.raises(InvalidKey):
        PrivateKey.generate().agree(public(u))


@pytest.mark.parametrize("data", [b"", bytes(32), bytes(33), b"\x05" + bytes(31), bytes(34)])
def test_a_public_key_is_five_and_thirty_two_bytes(data: bytes) -> None:
    with pytest.raises(InvalidKey):
        PublicKey(data)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_private_key_is_thirty_two_bytes(size: int) -> None:
    with pytest.raises(InvalidKey):
        PrivateKey(bytes(size))


@given(st.binary(min_size=32, max_size=32))
def test_a_private_key_is_clamped(data: bytes) -> None:
    key = PrivateKey(data)
    assert key.data[0] & 7 == 0
    assert key.data[31] >> 6 == 1
    assert key.public_key() == PrivateKey(key.data).public_key()


def test_a_private_key_does_not_show_itself() -> None:
    key = PrivateKey(b"\x40" + bytes(30) + b"\x40")
    assert repr(key) == "PrivateKey(…)"
    assert "40" not in repr(KeyPair(key, public(9)))


@given(st.binary(max_size=200))
@settings(max_examples=30)
def test_a_signature_is_valid_for_its_message_only(message: bytes) -> None:
    pair = KeyPair.generate()
    signature = pair.private.sign(message)
    pair.public.verify(message, signature)
    with pytest.raises(BadSignature):
        pair.public.verify(message + b"x", signature)
    with pytest.raises(BadSignature):
        KeyPair.generate().public.verify(message, signature)


def test_a_signature_with_any_bit_flipped_is_refused() -> None:
    pair = KeyPair.generate()
    signature = pair.private.sign(b"message")
    for at in range(64):
        for bit in range(8):
            with pytest.raises(BadSignature):
                pair.public.verify(b"message", flipped(signature, at, bit))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_is_sixty_four_bytes(size: int) -> None:
    with pytest.raises(BadSignature):
        KeyPair.generate().public.verify(b"message", bytes(size))


def test_a_signature_is_an_ed25519_signature_of_the_converted_key() -> None:
    for _ in range(8):
        pair = KeyPair.generate()
        signature = pair.private.sign(b"message")
        u = int.from_bytes(pair.public.data[1:], "little")
        y = (u - 1) * pow(u + 1, -1, P) % P
        sign = signature[63] & 0x80
        point = (y | sign << 248).to_bytes(32, "little")
        plain = signature[:63] + bytes((signature[63] ^ sign,))
        Ed25519PublicKey.from_public_bytes(point).verify(plain, b"message")


def test_the_scalar_of_a_signature_has_one_spelling() -> None:
    pair = KeyPair.generate()
    signature = pair.private.sign(b"message")
    s = int.from_bytes(signature[32:63] + bytes((signature[63] & 0x7F,)), "little")
    other = (s + L).to_bytes(32, "little")
    respelled = signature[:32] + other[:31] + bytes((other[31] | signature[63] & 0x80,))
    with pytest.raises(BadSignature):
        pair.public.verify(b"message", respelled)


def test_two_signatures_of_one_message_differ() -> None:
    key = PrivateKey.generate()
    assert key.sign(b"message") != key.sign(b"message")
    assert key.sign(b"message", bytes(64)) == key.sign(b"message", bytes(64))


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_a_key_of_small_order_signs_nothing(u: int) -> None:
    # With R the neutral element and s = 0, a lax verifier accepts every message.
    forged = b"\x01" + bytes(63)
    with pytest.raises(BadSignature):
        public(u).verify(b"message", forged)


def test_an_honest_key_is_canonical() -> None:
    assert all(KeyPair.generate().public.is_canonical() for _ in range(20))


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_a_key_of_small_order_is_not_canonical(u: int) -> None:
    assert not public(u).is_canonical()


def test_a_second_spelling_of_a_key_is_not_canonical() -> None:
    # 9 is the base point. Its two other spellings give the same agreement.
    assert public(9).is_canonical()
    for u in (9 + P, 9 + 2**255):
        assert not public(u).is_canonical()
        assert PrivateKey(bytes(32)).agree(public(u)) == PrivateKey(bytes(32)).agree(public(9))


def test_a_key_with_a_small_order_part_is_not_canonical() -> None:
    # u of B + (0, -1), the base point plus the point of order 2: 1 / 9 mod p.
    twisted = public(pow(9, -1, P))
    assert PrivateKey(bytes(32)).agree(twisted) == PrivateKey(bytes(32)).agree(public(9))
    assert not twisted.is_canonical()


def test_a_key_on_the_twist_is_not_canonical() -> None:
    assert not public(2).is_canonical()


@given(st.binary(min_size=32, max_size=32))
def test_any_key_is_used_or_refused(data: bytes) -> None:
    key = PublicKey(b"\x05" + data)
    key.is_canonical()
    with pytest.raises(BadSignature):
        key.verify(b"message", bytes(64))
