from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.message import CiphertextMessage, MessageKind
from raychat.crypto.protobuf import bytes_field, number_field
from raychat.crypto.sealed_content import ContentHint, SealedContent, SealedKind
from raychat.errors import CryptoError, InvalidMessage
from tests.crypto.sealed import Authority, Sealer

SEALER = Sealer(Authority())
CERTIFICATE = SEALER.certificate.to_bytes()


@pytest.mark.parametrize("kind", SealedKind)
@pytest.mark.parametrize("hint", ContentHint)
@pytest.mark.parametrize("group", [b"", b"a group"])
def test_a_content_is_read_as_it_was_written(
    kind: SealedKind, hint: ContentHint, group: bytes
) -> None:
    content = SEALER.content(b"message", kind, hint, group)
    read = SealedContent.parse(content.to_bytes())
    assert read == content
    assert type(read.kind) is SealedKind
    assert type(read.hint) is ContentHint


def test_a_default_hint_and_no_group_are_left_out() -> None:
    content = SEALER.content(b"message")
    assert content.to_bytes() == (
        number_field(1, 2) + bytes_field(2, CERTIFICATE) + bytes_field(3, b"message")
    )


def test_a_hint_of_a_newer_peer_is_the_default() -> None:
    data = SEALER.content(b"message").to_bytes() + number_field(4, 3)
    assert SealedContent.parse(data).hint is ContentHint.DEFAULT


@pytest.mark.parametrize("kind", [0, 3, 4, 9])
def test_another_kind_is_refused(kind: int) -> None:
    data = number_field(1, kind) + bytes_field(2, CERTIFICATE) + bytes_field(3, b"")
    with pytest.raises(InvalidMessage, match=f"kind {kind}"):
        SealedContent.parse(data)


def test_a_message_of_a_session_goes_in_and_comes_out() -> None:
    for kind in MessageKind:
        content = SEALER.content(b"message", SealedKind.of(kind))
        assert content.session_message() == CiphertextMessage(kind, b"message")
    for other in (SealedKind.SENDER_KEY, SealedKind.PLAINTEXT):
        with pytest.raises(InvalidMessage, match="no session"):
            SEALER.content(b"message", other).session_message()


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_content_without_a_field_is_refused(missing: int) -> None:
    parts = {1: number_field(1, 1), 2: bytes_field(2, CERTIFICATE), 3: bytes_field(3, b"")}
    SealedContent.parse(b"".join(parts.values()))
    with pytest.raises(InvalidMessage, match=f"no field {missing}"):
        SealedContent.parse(b"".join(part for number, part in parts.items() if number != missing))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_content_or_refused(data: bytes) -> None:
    for read in (data, SEALER.content(b"").to_bytes() + data):
        with contextlib.suppress(CryptoError):
            SealedContent.parse(read)
