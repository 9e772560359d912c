from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.protobuf import varint
from raychat.crypto.sealed_upload import Upload, UploadEntry
from raychat.errors import InvalidMessage, LegacyVersion, RaychatError, TooLarge, UnknownVersion
from raychat.ids import AccountId, DeviceId
from raychat.limits import CIPHERTEXT_BYTES, UPLOAD_RECIPIENTS

SHARED = b"e" * 32 + b"c" * 40


def account(number: int) -> AccountId:
    return AccountId(number.to_bytes(16, "big"))


def entry(number: int, *devices: tuple[int, int]) -> UploadEntry:
    written = tuple((DeviceId(device), registration) for device, registration in devices)
    return UploadEntry(account(number), written, bytes((number % 256,)) * 48)


def upload(*entries: UploadEntry, excluded: tuple[AccountId, ...] = ()) -> Upload:
    return Upload(entries, excluded, SHARED)


WHOLE = upload(entry(1, (1, 0x111), (127, 0x3FFF)), entry(2, (3, 0)), excluded=(account(9),))


def test_an_upload_is_read_as_it_was_written() -> None:
    for each in (WHOLE, upload(), upload(excluded=(account(1),))):
        assert Upload.parse(each.to_bytes()) == each


def test_an_upload_has_these_bytes() -> None:
    assert WHOLE.to_bytes() == (
        b"\x23\x03"
        + (b"\x00" + account(1) + b"\x01\x81\x11\x7f\x3f\xff" + b"\x01" * 48)
        + (b"\x00" + account(2) + b"\x03\x00\x00" + b"\x02" * 48)
        + (b"\x00" + account(9) + b"\x00")
        + SHARED
    )


def test_what_an_account_receives_names_nobody() -> None:
    assert WHOLE.received(WHOLE.entries[0]) == b"\x22" + b"\x01" * 48 + SHARED


def test_devices_of_one_account_may_have_entries_of_their_own() -> None:
    two = upload(entry(1, (1, 1)), entry(2, (1, 1)), entry(1, (2, 2)))
    assert Upload.parse(two.to_bytes()) == two


@pytest.mark.parametrize(
    "bad",
    [
        upload(entry(1, (1, 1), (1, 2))),
        upload(entry(1, (1, 1)), entry(1, (1, 2))),
        upload(entry(1, (1, 1)), excluded=(account(1),)),
        upload(excluded=(account(1), account(1))),
        upload(entry(1, (128, 1))),
        upload(entry(1, (1, 1), (0, 1))),
        Upload((), (), SHARED[:47]),
        Upload((), (), bytes(CIPHERTEXT_BYTES + 1)),
        upload(entry(1, *((1, 1) for _ in range(128)))),
    ],
    ids=[
        "a device twice",
        "a device in two entries",
        "an account left out and named",
        "an account left out twice",
        "device 128",
        "device 0",
        "no message",
        "too long a message",
        "too many devices",
    ],
)
def test_an_upload_that_makes_no_sense_is_refused(bad: Upload) -> None:
    with pytest.raises(InvalidMessage):
        Upload.parse(bad.to_bytes())


def test_an_upload_cut_off_anywhere_is_refused() -> None:
    whole = WHOLE.to_bytes()
    for size in range(2, len(whole) - len(SHARED) + 48):
        with pytest.raises(InvalidMessage):
            Upload.parse(whole[:size])


def test_only_accounts_can_be_named() -> None:
    for kind in (1, 2, 255):
        data = WHOLE.to_bytes()
        with pytest.raises(InvalidMessage, match="account"):
            Upload.parse(data[:2] + bytes((kind,)) + data[3:])


def test_other_versions_are_refused_by_name() -> None:
    for data in (b"", b"\x22\x00" + SHARED):
        with pytest.raises(LegacyVersion):
            Upload.parse(data)
    with pytest.raises(UnknownVersion):
        Upload.parse(b"\x24\x00" + SHARED)


def test_a_count_over_the_limit_is_refused_before_anything_is_read() -> None:
    many = tuple(entry(number, (1, 1)) for number in range(UPLOAD_RECIPIENTS))
    assert len(Upload.parse(upload(*many).to_bytes()).entries) == UPLOAD_RECIPIENTS
    with pytest.raises(TooLarge):
        upload(*many, excluded=(account(UPLOAD_RECIPIENTS),)).to_bytes()
    for count in (UPLOAD_RECIPIENTS + 1, 2**63):
        with pytest.raises(TooLarge):
            Upload.parse(b"\x23" + varint(count))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_upload_or_refused(data: bytes) -> None:
    for body in (data, b"\x23" + data):
        with contextlib.suppress(RaychatError):
            Upload.parse(body)


@given(st.data())
def test_any_change_to_an_upload_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(WHOLE.to_bytes())
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=8)
    ):
        body[at] = byte
    with contextlib.suppress(RaychatError):
        read = Upload.parse(bytes(body))
        assert Upload.parse(read.to_bytes()) == read
