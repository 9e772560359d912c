from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto import sealed_v2
from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.sealed_content import SealedContent
from raychat.crypto.sealed_v2 import SealedV2, open_v2, seal_v2
from raychat.errors import BadMac, CryptoError, InvalidKey, InvalidMessage
from tests.crypto.fields import flipped
from tests.crypto.sealed import Authority, Sealer

AUTHORITY = Authority()
ALICE, BOB, CAROL = Sealer(AUTHORITY), Sealer(AUTHORITY), Sealer(AUTHORITY)
CONTENT = ALICE.content()
READERS = [BOB.identity.public, CAROL.identity.public]


def received(sealed: SealedV2, place: int = 0) -> bytes:
    return b"\x22" + sealed.materials[place] + sealed.shared


SEALED = seal_v2(ALICE.identity, READERS, CONTENT)
BODY = received(SEALED)


def test_each_reader_opens_the_same_ciphertext() -> None:
    for place, reader in enumerate((BOB, CAROL)):
        assert open_v2(reader.identity, received(SEALED, place)) == CONTENT


def test_the_material_of_another_reader_does_not_help() -> None:
    with pytest.raises(BadMac):
        open_v2(BOB.identity, received(SEALED, 1))


def test_the_sender_and_the_readers_do_not_show() -> None:
    for hidden in (*(key.data[1:] for key in READERS), ALICE.identity.public.data[1:]):
        assert hidden not in BODY
    assert CONTENT.message not in BODY


def test_it_is_damaged_by_any_change() -> None:
    for at in range(1, len(BODY)):
        with pytest.raises(InvalidMessage):
            open_v2(BOB.identity, flipped(BODY, at))
            pytest.fail(f"accepted with byte {at} damaged")


def test_the_certificate_must_be_of_the_key_that_sealed() -> None:
    sealed = seal_v2(KeyPair.generate(), READERS, CONTENT)
    with pytest.raises(BadMac, match="not sealed by"):
        open_v2(BOB.identity, received(sealed))


def test_a_reader_cannot_pass_it_on_as_the_sender_s_to_another_reader() -> None:
    # Bob knows the message's secret, and so can write what opens it for Carol, but not her tag.
    other = seal_v2(BOB.identity, READERS, CONTENT)
    with pytest.raises(BadMac):
        open_v2(CAROL.identity, received(other, 1))


def test_the_ephemeral_key_must_follow_from_the_secret() -> None:
    # A sender who picks it freely could give readers of one message different contents.
    secret, free, reader = bytes(32), KeyPair.generate(), BOB.identity.public
    mask = sealed_v2._reader_mask(free.private.agree(reader), free.public, reader)
    tag = sealed_v2._sender_tag(
        ALICE.identity.private.agree(reader), free.public, mask, ALICE.identity.public, reader
    )
    ciphertext = sealed_v2._aead(secret).encrypt(bytes(12), CONTENT.to_bytes(), None)
    with pytest.raises(BadMac, match="damaged"):
        open_v2(BOB.identity, b"\x22" + mask + tag + free.public.data[1:] + ciphertext)


def test_a_sender_whose_key_contributes_nothing_is_refused() -> None:
    nothing = PublicKey(b"\x05" + bytes(32))
    with pytest.raises(InvalidKey):
        seal_v2(ALICE.identity, [nothing], CONTENT)
    certificate = AUTHORITY.certify(ALICE.address, nothing)
    sealed = seal_v2(ALICE.identity, READERS, CONTENT._replace(certificate=certificate))
    with pytest.raises(InvalidMessage, match="unusable"):
        open_v2(BOB.identity, received(sealed))


def test_an_ephemeral_key_that_contributes_nothing_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="unusable"):
        open_v2(BOB.identity, BODY[:49] + bytes(32) + BODY[81:])


@pytest.mark.parametrize("size", [1, 49, 81, 96])
def test_a_message_cut_short_is_refused(size: int) -> None:
    with pytest.raises(InvalidMessage):
        open_v2(BOB.identity, BODY[:size])


def test_a_message_to_nobody_is_a_ciphertext_without_readers() -> None:
    assert seal_v2(ALICE.identity, [], CONTENT).materials == []


def test_what_is_inside_must_be_a_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SealedContent, "to_bytes", lambda _: b"\x08\x09")
    body = received(seal_v2(ALICE.identity, READERS, CONTENT))
    with pytest.raises(InvalidMessage, match="no field"):
        open_v2(BOB.identity, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for body in (data, BODY[:81] + data):
        with contextlib.suppress(CryptoError):
            open_v2(BOB.identity, b"\x22" + body)
            pytest.fail("a message out of nothing was opened")
