"""What of an upload is taken, and what each refusal is."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import BadSignature, InvalidKey, Malformed, RaychatError, TooLarge
from raychat.keys.upload import MAX_ID, KeyUpload, parse_refill, parse_registration

if TYPE_CHECKING:
    from conftest import Device

KEY_LISTS = ["pre_keys", "kyber_pre_keys"]
SIGNED = ["signed_pre_key", "last_resort"]
LASTING = [*SIGNED, "last_resort_pre_key"]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def raw(key: Any) -> bytes:
    return base64.b64decode(key)


def test_a_registration_is_read_and_verified(device: Device) -> None:
    fields = device.registration(3)
    upload = parse_registration(fields)
    assert upload.identity is not None and upload.lasting is not None
    assert upload.identity.registration == 4711
    assert upload.identity.key == device.identity.public.data
    assert upload.lasting.signed_pre_key.id == 1
    assert [key.id for key in upload.pre_keys] == [1, 2, 3]
    assert upload.kyber_pre_keys[2].key == raw(fields["kyber_pre_keys"][2]["key"])
    assert upload.signatures() == 5
    upload.verify(upload.identity.key)


def test_a_registration_may_come_without_one_time_keys(device: Device) -> None:
    fields = device.registration()
    del fields["pre_keys"], fields["kyber_pre_keys"]
    assert parse_registration(fields).signatures() == 2


@pytest.mark.parametrize("name", ["registration_id", "identity", *LASTING])
def test_a_registration_needs_each_lasting_key(device: Device, name: str) -> None:
    fields = device.registration()
    del fields[name]
    with pytest.raises(Malformed, match=name):
        parse_registration(fields)


def test_every_part_of_a_refill_may_be_left_out(device: Device) -> None:
    fields = device.refill(1, 1) | device.lasting(2)
    assert parse_refill({}) == KeyUpload(None, None, (), ())
    assert parse_refill(dict.fromkeys(fields)) == parse_refill({})
    for name in KEY_LISTS:
        parse_refill({name: fields[name]}).verify(device.identity.public.data)
    parse_refill(device.lasting(2)).verify(device.identity.public.data)


@pytest.mark.parametrize("name", LASTING)
def test_a_refill_renews_all_lasting_keys_or_none(device: Device, name: str) -> None:
    with pytest.raises(Malformed, match="together"):
        parse_refill({name: device.lasting(2)[name]})


@pytest.mark.parametrize("name", ["registration_id", "identity"])
def test_a_refill_cannot_change_who_the_device_is(device: Device, name: str) -> None:
    with pytest.raises(Malformed, match="register"):
        parse_refill({name: device.registration()[name]})


def test_fields_of_a_later_version_are_ignored(device: Device) -> None:
    fields = device.registration(1)
    fields["pre_keys"][0]["later"] = fields["later"] = [None]
    parse_registration(fields)


@pytest.mark.parametrize("name", [*KEY_LISTS, *LASTING])
@pytest.mark.parametrize("number", [-1, MAX_ID + 1, 1.0, "1", True, None])
def test_an_id_is_32_bits(device: Device, name: str, number: object) -> None:
    fields = device.registration(1)
    item = fields[name][0] if name in KEY_LISTS else fields[name]
    item["id"] = number
    with pytest.raises(Malformed, match=rf"{name}.*id is a whole number"):
        parse_registration(fields)


@pytest.mark.parametrize("number", [0, MAX_ID])
def test_the_ends_of_the_range_are_ids(device: Device, number: int) -> None:
    assert parse_refill({"pre_keys": device.one_time(number, 1)}).pre_keys[0].id == number


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key + "\n",
        lambda key: key.rstrip("=") + "=" * 4,
        lambda key: key[:-1],
        lambda key: key.replace("B", "-", 1) + "-",
        lambda key: "é" + key[1:],
        lambda key: 5,
        lambda key: None,
    ],
)
def test_base64_is_strict(device: Device, spoil: Any) -> None:
    fields = device.registration(1)
    fields["kyber_pre_keys"][0]["signature"] = spoil(fields["kyber_pre_keys"][0]["signature"])
    with pytest.raises(Malformed, match="base64"):
        parse_registration(fields)


def test_bytes_have_one_base64_text(device: Device) -> None:
    key = device.kyber(1, 1)[0]
    assert key["signature"].endswith("==")
    stem, last = key["signature"][:-3], key["signature"][-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    key["signature"] = stem + alphabet[alphabet.index(last) + 1] + "=="
    with pytest.raises(Malformed, match="base64"):
        parse_refill({"kyber_pre_keys": [key]})


@pytest.mark.parametrize("name", [*KEY_LISTS, *LASTING])
@pytest.mark.parametrize(
    "spoil",
    [lambda key: key[:-1], lambda key: key + b"\0", lambda key: b"\x07" + key[1:], lambda _: b""],
    ids=["short", "long", "prefix", "empty"],
)
def test_a_key_has_its_size_and_prefix(device: Device, name: str, spoil: Any) -> None:
    fields = device.registration(1)
    item = fields[name][0] if name in KEY_LISTS else fields[name]
    item["key"] = text(spoil(raw(item["key"])))
    with pytest.raises(InvalidKey, match=f"{name}.*bytes, the first"):
        parse_registration(fields)


@pytest.mark.parametrize("key", [b"\x05" + bytes(32), b"\x05" + b"\xff" * 32, b"\x05" + bytes(31)])
def test_an_identity_is_a_proper_key(device: Device, key: bytes) -> None:
    fields = device.registration() | {"identity": text(key)}
    with pytest.raises(InvalidKey, match="identity"):
        parse_registration(fields)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_is_64_bytes(device: Device, size: int) -> None:
    fields = device.registration()
    fields["last_resort"]["signature"] = text(bytes(size))
    with pytest.raises(BadSignature, match=r"last_resort\.signature"):
        parse_registration(fields)


@pytest.mark.parametrize("name", [*SIGNED, "kyber_pre_keys"])
def test_every_signature_is_checked(device: Device, stranger: Device, name: str) -> None:
    fields = device.registration(2)
    foreign = stranger.registration(2)[name]
    if name in KEY_LISTS:
        fields[name][1] = foreign[1]
    else:
        fields[name] = foreign
    upload = parse_registration(fields)
    with pytest.raises(BadSignature, match=name):
        upload.verify(device.identity.public.data)


def test_a_signature_is_over_its_own_key(device: Device) -> None:
    fields = device.refill(1, 2)
    one, other = fields["kyber_pre_keys"]
    one["signature"], other["signature"] = other["signature"], one["signature"]
    with pytest.raises(BadSignature):
        parse_refill(fields).verify(device.identity.public.data)


@pytest.mark.parametrize("name", KEY_LISTS)
def test_an_upload_is_bounded(device: Device, name: str) -> None:
    items = device.refill(1, 1)[name] * (limits.PRE_KEY_UPLOAD + 1)
    with pytest.raises(TooLarge, match="split"):
        parse_refill({name: items})


@pytest.mark.parametrize("name", KEY_LISTS)
def test_an_id_comes_once(device: Device, name: str) -> None:
    items = device.refill(1, 1)[name] + device.refill(1, 1)[name]
    with pytest.raises(Malformed, match="twice"):
        parse_refill({name: items})


@pytest.mark.parametrize("name", KEY_LISTS)
def test_a_key_comes_once(device: Device, name: str) -> None:
    item = device.refill(1, 1)[name][0]
    with pytest.raises(InvalidKey, match="twice"):
        parse_refill({name: [item, item | {"id": 2}]})


def test_keys_of_last_resort_share_the_ids_of_the_one_time_keys(device: Device) -> None:
    fields = device.lasting(1)
    number = fields["last_resort"]["id"]
    with pytest.raises(Malformed, match="twice"):
        parse_refill(fields | {"kyber_pre_keys": device.kyber(number, 1)})
    fields["last_resort_pre_key"]["id"] += 1
    parse_refill(fields | {"pre_keys": device.one_time(number, 1)})
    with pytest.raises(Malformed, match="twice"):
        parse_refill(fields | {"pre_keys": device.one_time(number + 1, 1)})


def test_a_key_of_last_resort_is_no_one_time_key_as_well(device: Device) -> None:
    fields = device.lasting(1)
    again = fields["last_resort_pre_key"] | {"id": 1}
    with pytest.raises(InvalidKey, match="twice"):
        parse_refill(fields | {"pre_keys": [again]})


@pytest.mark.parametrize("name", [*KEY_LISTS, *LASTING])
@pytest.mark.parametrize("value", [7, "text", True, {"0": 1}, [[1]]])
def test_other_shapes_are_malformed(device: Device, name: str, value: object) -> None:
    with pytest.raises(Malformed):
        parse_registration(device.registration() | {name: value})


@pytest.fixture
def proper(device: Device) -> dict[str, Any]:
    return device.registration(2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "key", "signature", "pre_keys", "identity"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_hostile_uploads_raise_only_our_errors(
    device: Device, proper: dict[str, Any], data: st.DataObject
) -> None:
    """A proper upload in which anything, at any depth, is replaced by something else."""
    fields = deepcopy(proper)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = fields
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(JSON)
            break
    for parse in (parse_registration, parse_refill):
        try:
            upload = parse(fields)
            upload.verify(device.identity.public.data)
        except RaychatError as error:
            assert isinstance(error, Malformed | TooLarge | InvalidKey | BadSignature)
