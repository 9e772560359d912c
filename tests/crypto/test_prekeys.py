from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.prekeys import IdentityKeyPair, KyberPreKey, PreKey, PreKeyBundle, SignedPreKey
from raychat.errors import BadSignature, InvalidKey, StoreError, StoreTooNew
from tests.crypto.device import NOW, Device
from tests.crypto.fields import flipped

IDENTITY = IdentityKeyPair.generate()
RECORDS = [
    PreKey.generate(1),
    SignedPreKey.generate(IDENTITY, 2**32 - 1, NOW),
    KyberPreKey.generate(IDENTITY, 3, NOW),
    KyberPreKey.generate(IDENTITY, 4, NOW, last_resort=True),
]


def changed(bundle: PreKeyBundle, field: str, value: Any) -> PreKeyBundle:
    changes: dict[str, Any] = {field: value}
    return replace(bundle, **changes)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_reads_back(record: PreKey | SignedPreKey | KyberPreKey) -> None:
    assert type(record).from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_refused(record: PreKey | SignedPreKey | KyberPreKey) -> None:
    data = record.to_bytes()
    for damaged in (b"", data[:-1], data + b"\x00", b"\x00" + data[1:]):
        with pytest.raises(StoreError):
            type(record).from_bytes(damaged)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_a_later_format_is_refused_by_name(
    record: PreKey | SignedPreKey | KyberPreKey,
) -> None:
    with pytest.raises(StoreTooNew):
        type(record).from_bytes(b"\x02" + record.to_bytes()[1:])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    for kind in (PreKey, SignedPreKey, KyberPreKey):
        with pytest.raises(StoreError):
            kind.from_bytes(b"\x03" + data)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_does_not_show_its_private_key(
    record: PreKey | SignedPreKey | KyberPreKey,
) -> None:
    assert "PrivateKey(…)" in repr(record)


def test_an_identity_key_pair_reads_back() -> None:
    assert IdentityKeyPair.from_bytes(IDENTITY.to_bytes()) == IDENTITY
    assert isinstance(IdentityKeyPair.from_bytes(IDENTITY.to_bytes()), IdentityKeyPair)
    assert "PrivateKey(…)" in repr(IDENTITY)


def test_pre_keys_are_signed_by_the_identity_key() -> None:
    signed = SignedPreKey.generate(IDENTITY, 1, NOW)
    IDENTITY.public.verify(signed.public.data, signed.signature)
    kyber = KyberPreKey.generate(IDENTITY, 1, NOW)
    IDENTITY.public.verify(kyber.public.data, kyber.signature)


@pytest.mark.parametrize("field", ["signed_pre_key_signature", "kyber_pre_key_signature"])
def test_a_bundle_with_a_bad_signature_is_refused(field: str) -> None:
    bundle = Device().bundle()
    bundle.verify()
    with pytest.raises(BadSignature):
        changed(bundle, field, flipped(getattr(bundle, field), 10)).verify()


@pytest.mark.parametrize("field", ["identity_key", "signed_pre_key", "kyber_pre_key"])
def test_a_bundle_with_a_key_of_another_is_refused(field: str) -> None:
    bundle, other = Device().bundle(), Device().bundle()
    with pytest.raises(BadSignature):
        changed(bundle, field, getattr(other, field)).verify()


@pytest.mark.parametrize("field", ["pre_key", "pre_key_id"])
def test_a_one_time_key_comes_with_its_id(field: str) -> None:
    with pytest.raises(InvalidKey):
        changed(Device().bundle(), field, None)


@pytest.mark.parametrize(
    "field", ["registration_id", "signed_pre_key_id", "kyber_pre_key_id", "pre_key_id"]
)
@pytest.mark.parametrize("number", [-1, 2**32])
def test_ids_of_a_bundle_fit_in_32_bits(field: str, number: int) -> None:
    with pytest.raises(InvalidKey):
        changed(Device().bundle(), field, number)
