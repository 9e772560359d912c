from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair
from raychat.crypto.fingerprint import ACCOUNTS, ITERATIONS, PHONE_NUMBERS, SafetyNumber, half
from raychat.crypto.protobuf import bytes_field, number_field
from raychat.errors import CryptoError, InvalidMessage, LegacyVersion, UnknownVersion
from raychat.ids import new_account_id

ALICE, BOB = new_account_id(), new_account_id()
ALICE_KEY, BOB_KEY = KeyPair.generate().public, KeyPair.generate().public
OURS = SafetyNumber.of(ALICE, ALICE_KEY, BOB, BOB_KEY)
THEIRS = SafetyNumber.of(BOB, BOB_KEY, ALICE, ALICE_KEY)


def test_both_sides_see_the_same_sixty_digits() -> None:
    assert OURS.text == THEIRS.text
    assert len(OURS.text) == 60
    assert OURS.text.isdecimal()
    assert OURS.text[:30] <= OURS.text[30:]


def test_the_groups_are_the_text_in_fives() -> None:
    assert "".join(OURS.groups) == OURS.text
    assert [len(group) for group in OURS.groups] == [5] * 12


def test_each_side_s_code_matches_the_other_s() -> None:
    assert OURS.matches(THEIRS.code)
    assert THEIRS.matches(OURS.code)
    assert not OURS.matches(OURS.code)


def test_another_key_or_another_id_gives_another_number() -> None:
    for other in (
        SafetyNumber.of(BOB, KeyPair.generate().public, ALICE, ALICE_KEY),
        SafetyNumber.of(BOB, BOB_KEY, ALICE, KeyPair.generate().public),
        SafetyNumber.of(new_account_id(), BOB_KEY, ALICE, ALICE_KEY),
    ):
        assert other.text != OURS.text
        assert not OURS.matches(other.code)


def test_a_half_is_5200_hashes_over_key_and_id() -> None:
    key = ALICE_KEY.data
    digest = b"\x00\x00" + key + ALICE
    for _ in range(ITERATIONS):
        digest = hashlib.sha512(digest + key).digest()
    assert half(ALICE, ALICE_KEY) == digest[:32]


def test_the_version_stands_in_the_code_only() -> None:
    first = SafetyNumber(OURS.local, OURS.remote, PHONE_NUMBERS)
    assert first.text == OURS.text
    assert first.code[:2] == b"\x08\x01"
    assert OURS.code[:2] == b"\x08\x02"


def test_a_code_of_another_version_is_refused_by_name() -> None:
    first = SafetyNumber(THEIRS.local, THEIRS.remote, PHONE_NUMBERS)
    with pytest.raises(LegacyVersion):
        OURS.matches(first.code)
    with pytest.raises(UnknownVersion):
        first.matches(OURS.code)


def test_what_is_no_code_is_refused() -> None:
    whole = bytes_field(1, bytes(32))
    for bad in (
        b"",
        b"https://example.org",
        number_field(1, ACCOUNTS) + bytes_field(2, whole),
        bytes_field(2, whole) + bytes_field(3, whole),
        number_field(1, ACCOUNTS) + bytes_field(2, whole) + bytes_field(3, bytes_field(1, b"x")),
        THEIRS.code + bytes_field(9, bytes(300)),
    ):
        with pytest.raises(InvalidMessage):
            OURS.matches(bad)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_code_or_refused(data: bytes) -> None:
    for code in (data, THEIRS.code + data, data + THEIRS.code):
        with contextlib.suppress(CryptoError):
            OURS.matches(code)
