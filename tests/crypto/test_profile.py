from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.profile import FIELD_SIZES, ProfileKey
from raychat.errors import BadMac, CryptoError, InvalidKey, InvalidMessage, TooLarge
from tests.crypto.fields import flipped

KEY = ProfileKey.generate()


@given(st.binary(max_size=FIELD_SIZES[-1] - 1))
def test_a_field_comes_back(value: bytes) -> None:
    assert KEY.decrypt("name", KEY.encrypt("name", value)) == value


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x01", b"a\x00\x00", b"a\x01\x00"])
def test_zeros_at_the_end_are_kept(value: bytes) -> None:
    assert KEY.decrypt("name", KEY.encrypt("name", value)) == value


def test_fields_have_few_sizes() -> None:
    sizes = {len(KEY.encrypt("name", bytes(size))) - 28 for size in range(FIELD_SIZES[-1])}
    assert sizes == set(FIELD_SIZES)


def test_a_field_too_long_is_refused() -> None:
    with pytest.raises(TooLarge):
        KEY.encrypt("about", bytes(FIELD_SIZES[-1]))


def test_the_same_value_never_looks_the_same() -> None:
    assert KEY.encrypt("name", b"x") != KEY.encrypt("name", b"x")


def test_a_field_cannot_be_passed_off_for_another() -> None:
    with pytest.raises(BadMac):
        KEY.decrypt("about", KEY.encrypt("name", b"x"))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(BadMac):
        ProfileKey.generate().decrypt("name", KEY.encrypt("name", b"x"))


def test_any_change_is_refused() -> None:
    data = KEY.encrypt("name", b"x")
    for at in range(len(data)):
        with pytest.raises(BadMac):
            KEY.decrypt("name", flipped(data, at))


def test_a_padding_without_its_mark_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raychat.crypto.profile._END", b"")
    data = KEY.encrypt("name", b"")
    monkeypatch.undo()
    with pytest.raises(InvalidMessage, match="padding"):
        KEY.decrypt("name", data)


def test_a_key_is_thirty_two_bytes_and_does_not_show_itself() -> None:
    with pytest.raises(InvalidKey):
        ProfileKey(bytes(31))
    assert repr(KEY) == "ProfileKey(…)"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for read in (data, data.ljust(92, b"\x00")[:92]):
        with contextlib.suppress(CryptoError):
            KEY.decrypt("name", read)
            pytest.fail("a field out of nothing was opened")
