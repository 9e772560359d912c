"""Safety numbers against the reference library: the same digits, the same codes."""

from __future__ import annotations

import pytest

from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.fingerprint import ACCOUNTS, PHONE_NUMBERS, SafetyNumber, half
from raychat.errors import LegacyVersion, UnknownVersion
from raychat.ids import new_account_id
from tests.interop.group_peer import GroupPeer
from tests.interop.peer import PeerDevice, PeerError

pytestmark = pytest.mark.interop

Person = tuple[bytes, PublicKey]


def people(version: int) -> tuple[Person, Person]:
    names = (
        (b"+15550001111", b"+15550002222")
        if version == PHONE_NUMBERS
        else (new_account_id(), new_account_id())
    )
    return (names[0], KeyPair.generate().public), (names[1], KeyPair.generate().public)


def number(local: Person, remote: Person, version: int) -> SafetyNumber:
    return SafetyNumber(half(*local), half(*remote), version)


@pytest.mark.parametrize("version", [PHONE_NUMBERS, ACCOUNTS])
def test_text_and_code_are_equal(theirs: PeerDevice, version: int) -> None:
    peer = GroupPeer(theirs)
    for _ in range(10):
        alice, bob = people(version)
        ours = number(alice, bob, version)
        assert (ours.text, ours.code) == peer.safety_number(alice, bob, version=version)


@pytest.mark.parametrize("version", [PHONE_NUMBERS, ACCOUNTS])
def test_each_side_reads_the_codes_of_the_other(theirs: PeerDevice, version: int) -> None:
    peer = GroupPeer(theirs)
    (alice, bob), (_, mallory) = people(version), people(version)
    ours = number(alice, bob, version)
    _, code = peer.safety_number(bob, alice, version=version)
    assert ours.matches(code)
    assert peer.compare_codes(code, ours.code)
    _, code = peer.safety_number((bob[0], mallory[1]), alice, version=version)
    assert not ours.matches(code)
    assert not peer.compare_codes(code, ours.code)
    # One's own code, shown back in a mirror.
    assert not ours.matches(ours.code)
    assert not peer.compare_codes(ours.code, ours.code)


def test_codes_of_another_version_are_refused_by_both(theirs: PeerDevice) -> None:
    peer = GroupPeer(theirs)
    alice, bob = people(ACCOUNTS)
    for version, other, error in (
        (ACCOUNTS, PHONE_NUMBERS, LegacyVersion),
        (PHONE_NUMBERS, ACCOUNTS, UnknownVersion),
    ):
        ours = number(alice, bob, version)
        _, code = peer.safety_number(bob, alice, version=other)
        with pytest.raises(error):
            ours.matches(code)
        with pytest.raises(PeerError):
            peer.compare_codes(code, ours.code)
