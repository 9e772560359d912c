"""How keys lie in a `KeyStore`, and how they look in a bundle.

Records are msgpack arrays: a signed key `[id, key, signature]`, a one-time key `[id, key]`.
A store does not look into them.
"""

from __future__ import annotations

import base64
from typing import Any

import msgpack

from raychat.keys.upload import Identity, Lasting, OneTimeKey, SignedKey
from raychat.store.protocol import DeviceKeys, TakenKeys


def device_keys(identity: Identity, lasting: Lasting) -> DeviceKeys:
    return DeviceKeys(
        identity.registration,
        identity.key,
        msgpack.packb(lasting.signed_pre_key),
        msgpack.packb(lasting.last_resort),
        msgpack.packb(lasting.last_resort_pre_key),
        identity.device_signature,
    )


def one_time_keys(keys: tuple[OneTimeKey, ...] | tuple[SignedKey, ...]) -> list[tuple[int, bytes]]:
    """(id, record) of each."""
    return [(key.id, msgpack.packb(key)) for key in keys]


def bundle(taken: TakenKeys) -> dict[str, Any]:
    """A bundle as PROTOCOL.md, section 4, has it: ready for JSON."""
    signature = taken.keys.device_signature
    pre_key = None
    if taken.pre_key is not None:
        number, key = msgpack.unpackb(taken.pre_key)
        pre_key = {"id": number, "key": _text(key)}
    return {
        "device": taken.device,
        "incarnation": taken.incarnation,
        "registration_id": taken.keys.registration,
        "identity": _text(taken.keys.identity),
        "signed_pre_key": _signed(taken.keys.signed_pre_key),
        "pre_key": pre_key,
        "kyber_pre_key": _signed(taken.kyber_pre_key),
        "device_signature": _text(signature) if signature is not None else None,
    }


def _signed(record: bytes) -> dict[str, Any]:
    number, key, signature = msgpack.unpackb(record)
    return {"id": number, "key": _text(key), "signature": _text(signature)}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
