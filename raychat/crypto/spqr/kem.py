"""ML-KEM-768 with an encapsulation that begins before the whole key has come.

Specifications: "The ML-KEM Braid Protocol", section 1 (incremental interface); FIPS 203,
algorithms 14 (K-PKE.Encrypt) and 17 (ML-KEM.Encaps_internal). The first and largest part of a
ciphertext depends on the key only through its 32-byte seed rho and its hash:

    header  rho | SHA3-256(ek)     64 bytes, of the encapsulation key ek = vector | rho
    vector  t-hat                1152 bytes
    first   u                     960 bytes, made from the header
    second  v                     128 bytes, made when the vector is there

Keys are made, and secrets taken out, by the library. Encapsulation is this project's own, since
the library only does it in one piece; a ciphertext is an ordinary one, and what the library
takes out of it is what was put in.

The own part has no branch and no look-up that depends on a secret, but what the interpreter and
numpy do beneath it is not known to take constant time. Someone who measures this device
precisely enough might learn of the 32-byte randomness of one encapsulation, and thereby one
epoch secret. By itself that opens no message: keys are derived from all epoch secrets since the
handshake together, and from the X25519 ratchet besides. It would serve one who has also copied
the state of a session and can break X25519, against whom the next epoch, in which the other
side encapsulates, heals the session again.

numpy is imported with the first encapsulation (a session has one in some 90 messages each way),
since it takes 50 ms and a short command needs none of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from raychat.errors import InvalidMessage

if TYPE_CHECKING:
    from raychat.crypto.spqr.polynomials import Numbers

SEED_BYTES: Final = 64
HEADER_BYTES: Final = 64
VECTOR_BYTES: Final = 1152
FIRST_BYTES: Final = 960
SECOND_BYTES: Final = 128
RANDOM_BYTES: Final = 32

_RANK: Final = 3


class PublicParts(NamedTuple):
    """An encapsulation key in the two parts in which it travels."""

    header: bytes
    vector: bytes


@dataclass(frozen=True, slots=True, repr=False)
class DecapsulationKey:
    """A private key, as the 64-byte seed it is expanded from."""

    seed: bytes

    @classmethod
    def generate(cls) -> DecapsulationKey:
        return cls(os.urandom(SEED_BYTES))

    def public(self) -> PublicParts:
        key = MLKEM768PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw()
        vector, rho = key[:VECTOR_BYTES], key[VECTOR_BYTES:]
        return PublicParts(rho + hashlib.sha3_256(key).digest(), vector)

    def decapsulate(self, first: bytes, second: bytes) -> bytes:
        """The 32-byte secret; for a damaged ciphertext one that nobody else has."""
        return MLKEM768PrivateKey.from_seed_bytes(self.seed).decapsulate(first + second)

    def __repr__(self) -> str:
        return "DecapsulationKey(…)"


class Begun(NamedTuple):
    """What `begin` gives: the first part of the ciphertext, and the secret."""

    first: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "Begun(…)"


@dataclass(frozen=True, slots=True, repr=False)
class Encapsulation:
    """One encapsulation to the key with this header. `random` must never serve for another."""

    header: bytes
    random: bytes

    @classmethod
    def to(cls, header: bytes) -> Encapsulation:
        return cls(header, os.urandom(RANDOM_BYTES))

    def begin(self) -> Begun:
        """Encaps1 of the Braid."""
        from raychat.crypto.spqr import polynomials as poly

        secret, coins = self._derived()
        small = poly.sample_small([coins + bytes((number,)) for number in range(2 * _RANK)])
        ephemeral, noise = poly.transform(small[:_RANK]), small[_RANK:]
        product = poly.restore(poly.inner_product(_matrix(self.header[:32]), ephemeral))
        return Begun(poly.compress((product + noise) % poly.Q, 10), secret)

    def finish(self, vector: bytes) -> bytes:
        """The second part of the ciphertext: Encaps2 of the Braid.

        Raises InvalidMessage if the vector is not that of the header, or not reduced.
        """
        from raychat.crypto.spqr import polynomials as poly

        rho, digest = self.header[:32], self.header[32:]
        if not hmac.compare_digest(hashlib.sha3_256(vector + rho).digest(), digest):
            raise InvalidMessage("The encapsulation key does not fit its header.")
        theirs = poly.unpack(vector).reshape(_RANK, poly.SIZE)
        if theirs.max() >= poly.Q:
            raise InvalidMessage("The encapsulation key is not reduced.")
        _, coins = self._derived()
        numbers = (*range(_RANK), 2 * _RANK)
        small = poly.sample_small([coins + bytes((number,)) for number in numbers])
        ephemeral, noise = poly.transform(small[:_RANK]), small[_RANK]
        message = poly.message(self.random)
        product = poly.restore(poly.inner_product(theirs, ephemeral))
        return poly.compress((product + noise + message) % poly.Q, 4)

    def _derived(self) -> tuple[bytes, bytes]:
        keys = hashlib.sha3_512(self.random + self.header[32:]).digest()
        return keys[:32], keys[32:]

    def __repr__(self) -> str:
        return "Encapsulation(…)"


def prepare(header: bytes) -> None:
    """Compute what `begin` needs of a header, so that it takes half as long soon afterwards."""
    _matrix(header[:32])


@lru_cache(maxsize=16)
def _matrix(rho: bytes) -> Numbers:
    """A-hat of FIPS 203, transposed: row i and column j of it are drawn from rho | i | j."""
    from raychat.crypto.spqr import polynomials as poly

    places = range(_RANK)
    seeds = [rho + bytes((row, column)) for row in places for column in places]
    return poly.sample_uniform(seeds).reshape(_RANK, _RANK, poly.SIZE)
