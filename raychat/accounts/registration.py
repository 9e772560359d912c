"""The rules of a registration. Pure: no clock, no randomness, no store.

    Started ──right code──> Verified ──redeem──> Redeemed ──redeem──> the same
       └──wrong code──> Started with one try less

Each state ends `limits.CODE_SECONDS` after the start, whatever has happened since. A redeemed
registration may be redeemed again until then: the device may not have heard the answer.

A registration knows the number, its own id and the code as hashes only (see `pepper`).
Times are milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hmac import compare_digest

from raychat import limits
from raychat.accounts.pepper import NumberHash, PoolKey, Proof, RegistrationKey
from raychat.errors import BadCode, CodeExpired, Denied
from raychat.ids import AccountId


@dataclass(frozen=True, slots=True)
class Started:
    """A code was sent to the number; nobody has proven to have it."""

    key: RegistrationKey
    number: NumberHash
    proof: Proof
    expires: int
    tries: int
    prefix: PoolKey


@dataclass(frozen=True, slots=True)
class Verified:
    """The device has the code, so it has the number."""

    key: RegistrationKey
    number: NumberHash
    proof: Proof
    expires: int


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The registration has given the device its account."""

    key: RegistrationKey
    number: NumberHash
    proof: Proof
    expires: int
    account: AccountId


Registration = Started | Verified | Redeemed


def start(
    key: RegistrationKey, number: NumberHash, prefix: PoolKey, proof: Proof, now: int
) -> Started:
    expires = now + limits.CODE_SECONDS * 1000
    return Started(key, number, proof, expires, limits.CODE_TRIES, prefix)


def check(registration: Registration, proof: Proof, now: int) -> Registration:
    """The state after a code was given. Still Started means that it was the wrong one.

    Keep the new state before telling anyone, or a crash gives the try back. Raises CodeExpired
    when the time or the tries are used up, BadCode for another code than the one that verified.
    """
    _check_time(registration, now)
    right = compare_digest(registration.proof, proof)
    match registration:
        case Started(tries=tries) if tries <= 0:
            # Said whether the code is right or not: else the tries would not bound guessing.
            raise CodeExpired("Too many wrong codes were given; ask for a new one.")
        case Started(key, number, kept, expires) if right:
            return Verified(key, number, kept, expires)
        case Started(tries=tries):
            return replace(registration, tries=tries - 1)
        case Verified() | Redeemed():
            if not right:
                raise BadCode
            return registration


def proven(registration: Registration, now: int) -> Verified | Redeemed:
    """The registration if it may be redeemed. Raises CodeExpired, Denied."""
    _check_time(registration, now)
    if isinstance(registration, Started):
        raise Denied("The number is not verified yet; give the code that was sent to it first.")
    return registration


def redeem(registration: Verified, account: AccountId) -> Redeemed:
    """The state after the number's account was found or made."""
    return Redeemed(
        registration.key, registration.number, registration.proof, registration.expires, account
    )


def _check_time(registration: Registration, now: int) -> None:
    if now >= registration.expires:
        raise CodeExpired
