"""How keys lie in the store."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgpack

from raychat.ids import PRIMARY
from raychat.keys import records
from raychat.keys.upload import parse_registration
from raychat.store.protocol import TakenKeys

if TYPE_CHECKING:
    from conftest import Device


def test_records_are_compact_arrays(device: Device) -> None:
    upload = parse_registration(device.registration(1))
    assert upload.identity is not None and upload.lasting is not None
    keys = records.device_keys(upload.identity, upload.lasting)
    signed = upload.lasting.signed_pre_key
    assert keys.registration == 4711
    assert msgpack.unpackb(keys.signed_pre_key) == [signed.id, signed.key, signed.signature]
    assert keys.identity == upload.identity.key
    ((number, record),) = records.one_time_keys(upload.pre_keys)
    assert msgpack.unpackb(record) == [number, upload.pre_keys[0].key]
    assert len(record) < 40
    ((_, kyber),) = records.one_time_keys(upload.kyber_pre_keys)
    assert len(kyber) < 1569 + 64 + 12


def test_a_bundle_shows_what_was_uploaded(device: Device) -> None:
    fields = device.registration(1)
    upload = parse_registration(fields)
    assert upload.identity is not None and upload.lasting is not None
    keys = records.device_keys(upload.identity, upload.lasting)
    taken = TakenKeys(PRIMARY, 2, keys, keys.last_resort_pre_key, keys.last_resort)
    bundle = records.bundle(taken)
    assert (bundle["device"], bundle["incarnation"]) == (1, 2)
    assert bundle["identity"] == fields["identity"]
    assert bundle["pre_key"] == fields["last_resort_pre_key"]
    assert bundle["kyber_pre_key"] == fields["last_resort"]
    assert bundle["device_signature"] is None
    assert records.bundle(taken._replace(pre_key=None))["pre_key"] is None


def test_a_linked_device_shows_its_signature(device: Device) -> None:
    upload = parse_registration(device.registration())
    assert upload.identity is not None and upload.lasting is not None
    keys = records.device_keys(upload.identity._replace(device_signature=b"s" * 64), upload.lasting)
    taken = TakenKeys(PRIMARY, 2, keys, keys.last_resort_pre_key, keys.last_resort)
    assert base64.b64decode(records.bundle(taken)["device_signature"]) == b"s" * 64
