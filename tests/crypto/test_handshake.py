from __future__ import annotations

from dataclasses import replace

import pytest

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.handshake import SharedSecrets, initiate, respond
from raychat.crypto.prekeys import IdentityKeyPair
from raychat.errors import BadSignature, InvalidKey
from tests.crypto.device import Device
from tests.crypto.fields import flipped


def responded(
    bob: Device, alice: PublicKey, base: PublicKey, ciphertext: bytes, *, one_time: bool = True
) -> SharedSecrets:
    return respond(
        bob.identity,
        bob.store.load_signed_pre_key(1).pair,
        bob.store.load_pre_key(1).pair if one_time else None,
        bob.store.load_kyber_pre_key(1).private,
        their_identity=alice,
        their_base=base,
        kyber_ciphertext=ciphertext,
    )


@pytest.mark.parametrize("one_time", [True, False])
def test_both_sides_agree(one_time: bool) -> None:
    alice, bob, base = IdentityKeyPair.generate(), Device(), KeyPair.generate()
    secrets, ciphertext = initiate(alice, base, bob.bundle(one_time=one_time))
    assert responded(bob, alice.public, base.public, ciphertext, one_time=one_time) == secrets
    assert len({*secrets}) == 3
    assert {len(secret) for secret in secrets} == {32}


def test_every_key_counts() -> None:
    alice, bob, base = IdentityKeyPair.generate(), Device(), KeyPair.generate()
    secrets, ciphertext = initiate(alice, base, bob.bundle())
    other = KeyPair.generate().public
    assert responded(bob, other, base.public, ciphertext) != secrets
    assert responded(bob, alice.public, other, ciphertext) != secrets
    assert responded(bob, alice.public, base.public, flipped(ciphertext, 800)) != secrets
    assert responded(bob, alice.public, base.public, ciphertext, one_time=False) != secrets


def test_an_unsigned_bundle_is_refused() -> None:
    bundle = replace(Device().bundle(), signed_pre_key=KeyPair.generate().public)
    with pytest.raises(BadSignature):
        initiate(IdentityKeyPair.generate(), KeyPair.generate(), bundle)


@pytest.mark.parametrize("u", [0, 1, 9 + 2**255, pow(9, -1, 2**255 - 19)])
def test_a_base_key_with_a_second_spelling_is_refused(u: int) -> None:
    alice, bob, base = IdentityKeyPair.generate(), Device(), KeyPair.generate()
    _, ciphertext = initiate(alice, base, bob.bundle())
    odd = PublicKey(b"\x05" + u.to_bytes(32, "little"))
    with pytest.raises(InvalidKey):
        responded(bob, alice.public, odd, ciphertext)


def test_secrets_do_not_show_themselves() -> None:
    assert repr(SharedSecrets(b"r", b"c", b"p")) == "SharedSecrets(…)"
