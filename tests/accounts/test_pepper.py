"""The pepper is made once, lies in a file of its own, and separates what it hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raychat.accounts.pepper import Pepper
from raychat.errors import StoreLocked
from raychat.ids import AccountId, PhoneNumber

NUMBER = PhoneNumber("+15550001111")


def test_a_created_pepper_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.pepper"
    assert Pepper.load(path) is None
    made = Pepper.create(path)
    again = Pepper.load(path)
    assert again is not None
    assert again.number(NUMBER) == made.number(NUMBER)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["x.pepper"]


def test_what_a_crash_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "x.pepper.new").write_bytes(b"half")
    Pepper.create(tmp_path / "x.pepper")
    assert Pepper.load(tmp_path / "x.pepper") is not None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pepper").write_bytes(b"short")
    with pytest.raises(StoreLocked):
        Pepper.load(tmp_path / "x.pepper")


def test_two_peppers_share_no_hash() -> None:
    one, other = Pepper(b"1" * 32), Pepper(b"2" * 32)
    assert one.number(NUMBER) != other.number(NUMBER)
    assert one.fingerprint() != other.fingerprint()


def test_a_code_is_bound_to_its_registration() -> None:
    pepper = Pepper(b"1" * 32)
    here, there = pepper.registration("here"), pepper.registration("there")
    assert pepper.code(here, "123456") != pepper.code(there, "123456")
    assert pepper.code(here, "123456") == pepper.code(here, "123456")


def test_kinds_of_things_hash_differently() -> None:
    pepper = Pepper(b"1" * 32)
    assert len({pepper.number(PhoneNumber("+1")), pepper.registration("+1")}) == 2


def test_half_a_surrogate_pair_hashes_like_any_text() -> None:
    assert len(Pepper(b"1" * 32).registration("\ud800")) == 32


def test_a_pepper_does_not_show_itself() -> None:
    assert "1111" not in repr(Pepper(b"1" * 32))
    assert "31313131" not in repr(Pepper(b"1" * 32))


def test_a_pin_is_hashed_for_its_account_and_shows_nothing() -> None:
    pepper = Pepper(b"1" * 32)
    one, other = AccountId(b"a" * 16), AccountId(b"b" * 16)
    assert pepper.pin(one, "2580") != pepper.pin(other, "2580")
    assert pepper.pin(one, "2580") != pepper.pin(one, "2581")
    assert repr(pepper.pin(one, "2580")) == "Secret(32 bytes)"


def test_a_prefix_is_hashed_unlike_a_number() -> None:
    pepper = Pepper(b"1" * 32)
    hashes = {
        pepper.prefix(NUMBER),
        pepper.number(NUMBER),
        pepper.prefix("+1555"),
        pepper.prefix(""),
    }
    assert len(hashes) == 4
