"""The key of a device's file: where it is, who may read it, what a passphrase does."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raychat.client import keyfile
from raychat.errors import StoreError, StoreLocked


def test_a_key_comes_back_and_is_this_users_only(tmp_path: Path) -> None:
    path = tmp_path / "profile" / "device.key"
    key = keyfile.create(path)
    assert len(key) == 32
    assert keyfile.read(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Secret" in repr(key)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    key = keyfile.create(tmp_path / "k")
    with pytest.raises(StoreError):
        keyfile.create(tmp_path / "k")
    assert keyfile.read(tmp_path / "k") == key


def test_a_passphrase_seals_the_key(tmp_path: Path) -> None:
    path = tmp_path / "k"
    key = keyfile.create(path, "pässphrase")
    assert keyfile.read(path, "pässphrase") == key
    assert keyfile._text(key) not in path.read_text()
    with pytest.raises(StoreLocked, match="RAYCHAT_PASSPHRASE"):
        keyfile.read(path)
    with pytest.raises(StoreLocked, match="not the passphrase"):
        keyfile.read(path, "passphrase")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "raychat-key-1 plain",
        "raychat-key-1 plain ????",
        "raychat-key-1 plain AAAA",
        "raychat-key-2 plain " + "A" * 43 + "=",
        "raychat-key-1 scrypt x AAAA AAAA",
        "raychat-key-1 scrypt 40 AAAA AAAA",
        "raychat-key-1 plain é",
    ],
)
def test_a_damaged_key_file_is_said_to_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(StoreError):
        keyfile.read(path, "x")


def test_a_missing_key_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        keyfile.read(tmp_path / "none")


def test_the_directory_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAYCHAT_HOME", "RAYCHAT_PROFILE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keyfile.directory() == tmp_path / ".local/share/raychat/default"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert keyfile.directory() == tmp_path / "data/raychat/default"
    monkeypatch.setenv("RAYCHAT_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("RAYCHAT_PROFILE", "bob")
    assert keyfile.directory() == tmp_path / "own/bob"
    assert keyfile.directory("carol", tmp_path) == tmp_path / "carol"


@pytest.mark.parametrize("name", ["../other", ".hidden", "a/b", "a b", "-x", "x" * 65])
def test_a_profile_stays_in_its_directory(name: str) -> None:
    with pytest.raises(StoreError):
        keyfile.directory(name)
