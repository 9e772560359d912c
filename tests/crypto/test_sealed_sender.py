from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.sealed_sender import SealedReader, SealedSender
from raychat.crypto.sealed_upload import Upload
from raychat.crypto.sealed_v1 import seal_v1
from raychat.errors import (
    BadSignature,
    CryptoError,
    InvalidKey,
    InvalidMessage,
    LegacyVersion,
    TooLarge,
    UnknownVersion,
)
from raychat.ids import new_account_id
from raychat.limits import CIPHERTEXT_BYTES
from tests.crypto.device import NOW
from tests.crypto.sealed import EXPIRES, Authority, Sealer

AUTHORITY = Authority()
ALICE, BOB, CAROL = Sealer(AUTHORITY), Sealer(AUTHORITY), Sealer(AUTHORITY)


def bodies(sender: Sealer, reader: Sealer) -> list[bytes]:
    """One message sealed in both versions."""
    content = sender.content()
    upload = sender.sealed.seal_for([reader.reader], content, NOW)
    return [
        sender.sealed.seal(reader.identity.public, content, NOW),
        upload.received(upload.entries[0]),
    ]


def test_a_reader_learns_the_sender_and_the_message() -> None:
    for body in bodies(ALICE, BOB):
        opened = BOB.sealed.open(body, NOW)
        assert opened == ALICE.content()
        assert opened.certificate.sender == ALICE.address


def test_many_readers_share_one_ciphertext() -> None:
    second = Sealer(AUTHORITY, BOB.address.account, 2)
    readers = [each.reader for each in (BOB, CAROL, second)]
    left_out = new_account_id()
    upload = ALICE.sealed.seal_for(readers, ALICE.content(), NOW, excluded=[left_out])
    assert upload.excluded == (left_out,)
    assert Upload.parse(upload.to_bytes()) == upload
    openers = {each.address: each for each in (BOB, CAROL, second)}
    for entry in upload.entries:
        for device, registration_id in entry.devices:
            opener = openers.pop(BOB.address._replace(account=entry.account, device=device))
            assert registration_id == opener.reader.registration_id
            assert opener.sealed.open(upload.received(entry), NOW) == ALICE.content()
    assert not openers


def test_devices_with_one_identity_key_share_an_entry() -> None:
    key = BOB.identity.public
    readers = [
        SealedReader(BOB.address._replace(device=type(BOB.address.device)(device)), device, key)
        for device in (1, 2, 5)
    ]
    upload = ALICE.sealed.seal_for(readers, ALICE.content(), NOW)
    (entry,) = upload.entries
    assert entry.devices == ((1, 1), (2, 2), (5, 5))


def test_a_certificate_from_elsewhere_is_refused() -> None:
    stranger = Sealer(Authority())
    for body in bodies(stranger, BOB):
        with pytest.raises(BadSignature, match="trust root"):
            BOB.sealed.open(body, NOW)


def test_a_certificate_serves_until_it_expires_on_both_sides() -> None:
    for body in bodies(ALICE, BOB):
        BOB.sealed.open(body, EXPIRES)
        with pytest.raises(BadSignature, match="expired"):
            BOB.sealed.open(body, EXPIRES + 1)
    content = ALICE.content()
    ALICE.sealed.seal(BOB.identity.public, content, EXPIRES)
    with pytest.raises(BadSignature, match="expired"):
        ALICE.sealed.seal(BOB.identity.public, content, EXPIRES + 1)
    with pytest.raises(BadSignature, match="expired"):
        ALICE.sealed.seal_for([BOB.reader], content, EXPIRES + 1)


def test_one_cannot_seal_under_the_certificate_of_another() -> None:
    foreign = ALICE.content()
    with pytest.raises(InvalidKey):
        BOB.sealed.seal(CAROL.identity.public, foreign, NOW)
    with pytest.raises(InvalidKey):
        BOB.sealed.seal_for([CAROL.reader], foreign, NOW)
    # Nor under one that has the right key or the right device only.
    for address, key in (
        (CAROL.address, ALICE.identity.public),
        (ALICE.address, CAROL.identity.public),
    ):
        other = ALICE.content()._replace(certificate=AUTHORITY.certify(address, key))
        with pytest.raises(InvalidKey):
            ALICE.sealed.seal(BOB.identity.public, other, NOW)
    # And what was sealed around these checks does not open.
    forged = seal_v1(BOB.identity, CAROL.identity.public, foreign)
    with pytest.raises(InvalidMessage):
        CAROL.sealed.open(forged, NOW)


def test_a_message_of_one_s_own_that_comes_back_is_refused() -> None:
    own = SealedSender(ALICE.address, BOB.identity, AUTHORITY.roots)
    for body in bodies(ALICE, BOB):
        with pytest.raises(InvalidMessage, match="itself"):
            own.open(body, NOW)


def test_other_versions_are_refused_by_name() -> None:
    with pytest.raises(LegacyVersion):
        BOB.sealed.open(b"\x01" + bytes(200), NOW)
    with pytest.raises(UnknownVersion):
        BOB.sealed.open(b"\x33" + bytes(200), NOW)


def test_too_large_messages_are_refused_by_both_sides() -> None:
    large = ALICE.content(bytes(CIPHERTEXT_BYTES - 100))
    with pytest.raises(TooLarge):
        ALICE.sealed.seal(BOB.identity.public, large, NOW)
    with pytest.raises(TooLarge):
        ALICE.sealed.seal_for([BOB.reader], large, NOW)
    for body in (b"", b"\x11" * (CIPHERTEXT_BYTES + 1)):
        with pytest.raises(InvalidMessage):
            BOB.sealed.open(body, NOW)


@given(st.binary(max_size=200), st.sampled_from(["", "11", "22"]))
def test_any_bytes_are_refused(data: bytes, version: str) -> None:
    with contextlib.suppress(CryptoError):
        BOB.sealed.open(bytes.fromhex(version) + data, NOW)
        pytest.fail("a message out of nothing was opened")
