"""The keys a device uploads, checked before anything of them is kept.

PROTOCOL.md, section 4, describes the JSON object. `parse_registration` and `parse_refill` read
the two forms it has and raise only Malformed, TooLarge, InvalidKey or BadSignature, whatever
they are given; `KeyUpload.verify` then checks the signatures, which is the slow part. Devices
check all of it again: the server does it so that a faulty client hears of it, not its peers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from raychat import limits
from raychat.crypto.curve import PREFIX, PUBLIC_BYTES, SIGNATURE_BYTES, PublicKey
from raychat.errors import BadSignature, InvalidKey, Malformed, TooLarge

KYBER_PREFIX: Final = 8
KYBER_BYTES: Final = 1569
MAX_ID: Final = 2**32 - 1
_LASTING: Final = "signed_pre_key, last_resort and last_resort_pre_key"


class OneTimeKey(NamedTuple):
    """An X25519 key for one session."""

    id: int
    key: bytes


class SignedKey(NamedTuple):
    """A key with the identity key's signature over it."""

    id: int
    key: bytes
    signature: bytes


class Identity(NamedTuple):
    """Who a device is: its registration id, its 33-byte identity key and, if it is a linked one,
    its signature over the account it belongs to."""

    registration: int
    key: bytes
    device_signature: bytes | None = None


class Lasting(NamedTuple):
    """The keys that are given out again and again: the signed X25519 one, and those of last
    resort, Kyber and X25519, which stand in for one-time keys when there are none."""

    signed_pre_key: SignedKey
    last_resort: SignedKey
    last_resort_pre_key: OneTimeKey


@dataclass(frozen=True, slots=True)
class KeyUpload:
    """What one call uploads. `identity` is there in a registration, and `lasting` with it."""

    identity: Identity | None
    lasting: Lasting | None
    pre_keys: tuple[OneTimeKey, ...]
    kyber_pre_keys: tuple[SignedKey, ...]

    def signatures(self) -> int:
        """How many there are to check."""
        return len(self.kyber_pre_keys) + (2 if self.lasting else 0)

    def verify(self, identity: bytes) -> None:
        """Check every signature against a 33-byte identity key. Raises BadSignature.

        Takes about 100 µs for each.
        """
        signer = PublicKey(identity)
        for name, signed in self._signed():
            try:
                signer.verify(signed.key, signed.signature)
            except BadSignature:
                raise BadSignature(
                    f"The signature of {name} {signed.id} is not the identity key's over the"
                    " bytes of that key; sign it again."
                ) from None

    def _signed(self) -> Iterator[tuple[str, SignedKey]]:
        if self.lasting is not None:
            yield "signed_pre_key", self.lasting.signed_pre_key
            yield "last_resort", self.lasting.last_resort
        for signed in self.kyber_pre_keys:
            yield "kyber_pre_keys", signed


def parse_registration(fields: Mapping[str, object]) -> KeyUpload:
    """The keys of a new device: all but the one-time ones have to be there."""
    registration = _id(fields.get("registration_id"), "registration_id")
    key = _key(fields.get("identity"), "identity", PREFIX, PUBLIC_BYTES)
    if not PublicKey(key).is_canonical():
        raise InvalidKey("identity is not a proper X25519 key; make a new one.")
    lasting = _lasting(fields)
    if lasting is None:
        raise Malformed(f"A registration needs {_LASTING}.")
    return _upload(fields, Identity(registration, key), lasting)


def parse_refill(fields: Mapping[str, object]) -> KeyUpload:
    """More keys of a device that has an identity already; any of them may be left out."""
    for name in ("registration_id", "identity"):
        if fields.get(name) is not None:
            raise Malformed(f"{name} cannot be changed; register the device again.")
    return _upload(fields, None, _lasting(fields))


def _upload(
    fields: Mapping[str, object], identity: Identity | None, lasting: Lasting | None
) -> KeyUpload:
    pre_keys = tuple(_one_time(item, name) for name, item in _items(fields, "pre_keys"))
    kyber_pre_keys = tuple(
        _signed(item, name, KYBER_PREFIX, KYBER_BYTES)
        for name, item in _items(fields, "kyber_pre_keys")
    )
    # A key of last resort shares the one-time keys' ids: a message names just the id.
    last_pre_key = (lasting.last_resort_pre_key,) if lasting else ()
    _check_different("pre_keys and last_resort_pre_key", (*pre_keys, *last_pre_key))
    last_resort = (lasting.last_resort,) if lasting else ()
    _check_different("kyber_pre_keys and last_resort", (*kyber_pre_keys, *last_resort))
    return KeyUpload(identity, lasting, pre_keys, kyber_pre_keys)


def _lasting(fields: Mapping[str, object]) -> Lasting | None:
    given = [name for name in Lasting._fields if fields.get(name) is not None]
    if not given:
        return None
    if len(given) != len(Lasting._fields):
        raise Malformed(f"{_LASTING} come together or not at all.")
    signed_pre_key, last_resort, last_pre_key = (
        _object(fields[name], name) for name in Lasting._fields
    )
    return Lasting(
        _signed(signed_pre_key, "signed_pre_key", PREFIX, PUBLIC_BYTES),
        _signed(last_resort, "last_resort", KYBER_PREFIX, KYBER_BYTES),
        _one_time(last_pre_key, "last_resort_pre_key"),
    )


def _items(fields: Mapping[str, object], name: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    items = fields.get(name)
    if items is None:
        return
    if not isinstance(items, list):
        raise Malformed(f"{name} is a list.")
    if len(items) > limits.PRE_KEY_UPLOAD:
        raise TooLarge(f"At most {limits.PRE_KEY_UPLOAD} {name} go in one call; split them.")
    for place, item in enumerate(items):
        yield f"{name}[{place}]", _object(item, f"{name}[{place}]")


def _signed(item: Mapping[str, object], name: str, prefix: int, size: int) -> SignedKey:
    number = _id(item.get("id"), f"{name}.id")
    key = _key(item.get("key"), f"{name}.key", prefix, size)
    signature = _base64(item.get("signature"), f"{name}.signature")
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"{name}.signature is {SIGNATURE_BYTES} bytes.")
    return SignedKey(number, key, signature)


def _one_time(item: Mapping[str, object], name: str) -> OneTimeKey:
    number = _id(item.get("id"), f"{name}.id")
    return OneTimeKey(number, _key(item.get("key"), f"{name}.key", PREFIX, PUBLIC_BYTES))


def _check_different(name: str, keys: Sequence[OneTimeKey] | Sequence[SignedKey]) -> None:
    if len({key.id for key in keys}) != len(keys):
        raise Malformed(f"An id comes twice in {name}; count them on.")
    # One key under two ids would be given to two people, who each count on having it alone.
    if len({key.key for key in keys}) != len(keys):
        raise InvalidKey(f"A key comes twice in {name}; make each anew.")


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Malformed(f"{name} is an object.")
    return value


def _id(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise Malformed(f"{name} is a whole number from 0 to {MAX_ID}.")
    return value


def _key(value: object, name: str, prefix: int, size: int) -> bytes:
    key = _base64(value, name)
    if len(key) != size or key[0] != prefix:
        raise InvalidKey(f"{name} is {size} bytes, the first of them {prefix:#04x}.")
    return key


def _base64(value: object, name: str) -> bytes:
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except ValueError:
            pass
        else:
            # The library lets unused bits at the end pass: two texts for the same bytes.
            if base64.b64encode(data).decode() == value:
                return data
    raise Malformed(f"{name} is base64 of the standard alphabet, padded.")
