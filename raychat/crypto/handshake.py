"""PQXDH: two devices agree on the first secrets of a session, one of them being offline.

Specification: "The PQXDH Key Agreement Protocol", sections 3.3 (initiator) and 3.4
(responder), with X25519, SHA-256 and Kyber1024. With IK, SPK, OPK the identity, signed and
one-time keys, EK the initiator's base key and SS the Kyber secret, both sides compute

    FF * 32 | DH(IKa, SPKb) | DH(EKa, IKb) | DH(EKa, SPKb) [| DH(EKa, OPKb)] | SS

and derive 96 bytes: root key, chain key, authentication key of the post-quantum ratchet.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.crypto.kem import KemPrivateKey
from raychat.crypto.prekeys import IdentityKeyPair, PreKeyBundle
from raychat.errors import InvalidKey

_INFO: Final = b"WhisperText_X25519_SHA-256_CRYSTALS-KYBER-1024"
# Keeps the input apart from a signature's first hash, which begins with FE (PQXDH, 2.2).
_DISCONTINUITY: Final = b"\xff" * 32


class SharedSecrets(NamedTuple):
    """The outcome, 32 bytes each. `pq_auth` seeds the post-quantum ratchet."""

    root: bytes
    chain: bytes
    pq_auth: bytes

    def __repr__(self) -> str:
        return "SharedSecrets(…)"


def initiate(
    identity: IdentityKeyPair, base: KeyPair, bundle: PreKeyBundle
) -> tuple[SharedSecrets, bytes]:
    """The secrets, and the Kyber ciphertext by which the peer gets them too.

    `base` is a fresh key pair for this session only. Raises BadSignature if the bundle is not
    signed by its identity key, InvalidKey if one of its keys is unusable.
    """
    bundle.verify()
    ciphertext, kem_secret = bundle.kyber_pre_key.encapsulate()
    agreements = [
        identity.private.agree(bundle.signed_pre_key),
        base.private.agree(bundle.identity_key),
        base.private.agree(bundle.signed_pre_key),
    ]
    if bundle.pre_key is not None:
        agreements.append(base.private.agree(bundle.pre_key))
    return _derive(agreements, kem_secret), ciphertext


def respond(
    identity: IdentityKeyPair,
    signed_pre_key: KeyPair,
    pre_key: KeyPair | None,
    kyber_pre_key: KemPrivateKey,
    *,
    their_identity: PublicKey,
    their_base: PublicKey,
    kyber_ciphertext: bytes,
) -> SharedSecrets:
    """The secrets as the receiver of the first message computes them.

    Raises InvalidKey for an unusable key of the peer, InvalidMessage for an unusable
    ciphertext. That the peer really holds `their_identity` shows only when the MAC of its
    message passes.
    """
    # The base key names the session, so it must have one spelling only.
    if not their_base.is_canonical():
        raise InvalidKey("The base key is not a canonical key of prime order.")
    agreements = [
        signed_pre_key.private.agree(their_identity),
        identity.private.agree(their_base),
        signed_pre_key.private.agree(their_base),
    ]
    if pre_key is not None:
        agreements.append(pre_key.private.agree(their_base))
    return _derive(agreements, kyber_pre_key.decapsulate(kyber_ciphertext))


def _derive(agreements: list[bytes], kem_secret: bytes) -> SharedSecrets:
    keys = hkdf(_DISCONTINUITY + b"".join(agreements) + kem_secret, _INFO, 96)
    return SharedSecrets(keys[:32], keys[32:64], keys[64:])
