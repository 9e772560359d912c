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

Much of a step can be done before its turn: see `prepare`, and `ahead` for what becomes of it.
numpy is imported when that first happens, since it takes 50 ms and a short command needs none of
it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from raychat.crypto.spqr.ahead import Ahead
from raychat.errors import InvalidMessage

if TYPE_CHECKING:
    from raychat.crypto.spqr.polynomials import Numbers

KEY_BYTES: Final = 64
SEED_BYTES: Final = 32
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
        return cls(os.urandom(KEY_BYTES))

    def prepare(self) -> None:
        """Do most of what the next step will need."""
        _EXPANDED.prepare(self.seed)

    def public(self) -> PublicParts:
        private = _EXPANDED.take(self.seed)
        _EXPANDED.keep(self.seed, private)
        key = private.public_key().public_bytes_raw()
        vector, rho = key[:VECTOR_BYTES], key[VECTOR_BYTES:]
        return PublicParts(rho + hashlib.sha3_256(key).digest(), vector)

    def decapsulate(self, first: bytes, second: bytes) -> bytes:
        """The 32-byte secret; for a damaged ciphertext one that nobody else has."""
        return _EXPANDED.take(self.seed).decapsulate(first + second)

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

    def prepare(self) -> None:
        """Do half of what the next step will need."""
        _DRAWN.prepare(self)

    def begin(self) -> Begun:
        """Encaps1 of the Braid."""
        from raychat.crypto.spqr import polynomials as poly

        drawn = _DRAWN.take(self)
        product = poly.product(_MATRICES.take(self.header[:SEED_BYTES]), drawn.factor)
        return Begun(poly.compress(product + drawn.noise, 10), drawn.secret)

    def finish(self, vector: bytes) -> bytes:
        """The second part of the ciphertext: Encaps2 of the Braid.

        Raises InvalidMessage if the vector is not that of the header, or not reduced.
        """
        from raychat.crypto.spqr import polynomials as poly

        rho, digest = self.header[:SEED_BYTES], self.header[SEED_BYTES:]
        if not hmac.compare_digest(hashlib.sha3_256(vector + rho).digest(), digest):
            raise InvalidMessage("The encapsulation key does not fit its header.")
        theirs = poly.unpack(vector)
        if theirs.max() >= poly.Q:
            raise InvalidMessage("The encapsulation key is not reduced.")
        drawn = _DRAWN.take(self)
        return poly.compress(poly.product(theirs, drawn.factor) + drawn.last, 4)

    def __repr__(self) -> str:
        return "Encapsulation(…)"


class _Drawn(NamedTuple):
    """What an encapsulation uses of its randomness, in both of its steps."""

    secret: bytes
    factor: Numbers
    noise: Numbers
    last: Numbers
    """The noise of the second part, and the message that is sent under it."""

    def __repr__(self) -> str:
        return "_Drawn(…)"


def prepare(seed: bytes) -> None:
    """Do what `begin` will need of the seed with which a header begins."""
    _MATRICES.prepare(seed)


def _matrix(seed: bytes) -> Numbers:
    """A-hat of FIPS 203, transposed: row i and column j of it are drawn from seed | i | j."""
    from raychat.crypto.spqr import polynomials as poly

    places = range(_RANK)
    seeds = [seed + bytes((row, column)) for row in places for column in places]
    return poly.sample_uniform(seeds)


def _drawn(encapsulation: Encapsulation) -> _Drawn:
    from raychat.crypto.spqr import polynomials as poly

    header, random = encapsulation.header, encapsulation.random
    keys = hashlib.sha3_512(random + header[SEED_BYTES:]).digest()
    secret, coins = keys[:32], keys[32:]
    small = poly.sample_small([coins + bytes((number,)) for number in range(2 * _RANK + 1)])
    return _Drawn(
        secret,
        poly.factor(small[:, :_RANK]),
        small[:, _RANK : 2 * _RANK],
        small[:, 2 * _RANK :] + poly.message(random),
    )


_EXPANDED: Final = Ahead(MLKEM768PrivateKey.from_seed_bytes)
_MATRICES: Final = Ahead(_matrix)
_DRAWN: Final = Ahead(_drawn)
