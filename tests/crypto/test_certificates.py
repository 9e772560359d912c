from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.certificates import (
    SenderCertificate,
    ServerCertificate,
    TrustRoots,
)
from raychat.crypto.curve import KeyPair, PrivateKey
from raychat.crypto.protobuf import bytes_field, number_field
from raychat.errors import BadSignature, CryptoError, InvalidKey, InvalidMessage
from raychat.ids import Address, DeviceId, account_text, new_account_id
from raychat.limits import CERTIFICATE_BYTES
from tests.crypto.device import NOW
from tests.crypto.fields import flipped
from tests.crypto.sealed import EXPIRES, Authority

AUTHORITY = Authority(key_id=7)
ADDRESS = Address(new_account_id(), DeviceId(3))
KEY = KeyPair.generate().public
CERTIFICATE = AUTHORITY.certify(ADDRESS, KEY)


def fixed64(number: int) -> bytes:
    return b"\x19" + number.to_bytes(8, "little")


PARTS = {
    2: number_field(2, ADDRESS.device),
    3: fixed64(EXPIRES),
    4: bytes_field(4, KEY.data),
    5: bytes_field(5, AUTHORITY.server.to_bytes()),
    6: bytes_field(6, account_text(ADDRESS.account).encode()),
}


def signed(*parts: bytes) -> bytes:
    """A sender certificate with just these fields, properly signed."""
    content = b"".join(parts)
    signature = AUTHORITY.server_key.private.sign(content)
    return bytes_field(1, content) + bytes_field(2, signature)


def with_part(number: int, part: bytes) -> bytes:
    return signed(*(PARTS | {number: part}).values())


def test_certificates_are_read_as_they_were_written() -> None:
    assert SenderCertificate.parse(CERTIFICATE.to_bytes()) == CERTIFICATE
    assert ServerCertificate.parse(AUTHORITY.server.to_bytes()) == AUTHORITY.server
    assert (CERTIFICATE.sender, CERTIFICATE.key) == (ADDRESS, KEY)
    assert (AUTHORITY.server.key_id, AUTHORITY.server.key) == (7, AUTHORITY.server_key.public)


def test_a_phone_number_is_in_it_only_if_wanted() -> None:
    assert CERTIFICATE.phone_number is None
    issued = SenderCertificate.issue(
        ADDRESS,
        KEY,
        EXPIRES,
        AUTHORITY.server,
        AUTHORITY.server_key.private,
        phone_number="+15550001111",
    )
    assert SenderCertificate.parse(issued.to_bytes()) == issued
    assert issued.phone_number == "+15550001111"


def test_a_certificate_holds_until_it_expires() -> None:
    AUTHORITY.roots.check(CERTIFICATE, NOW)
    AUTHORITY.roots.check(CERTIFICATE, EXPIRES)
    with pytest.raises(BadSignature, match="expired"):
        AUTHORITY.roots.check(CERTIFICATE, EXPIRES + 1)


def test_any_one_of_the_trust_roots_will_do_and_none_will_not() -> None:
    other = Authority()
    both = (other.root.public, AUTHORITY.root.public)
    TrustRoots(both).check(CERTIFICATE, NOW)
    for roots in (other.roots, TrustRoots(())):
        with pytest.raises(BadSignature, match="trust root"):
            roots.check(CERTIFICATE, NOW)


def test_only_the_named_server_can_sign_for_its_certificate() -> None:
    thief = KeyPair.generate()
    with pytest.raises(InvalidKey):
        SenderCertificate.issue(ADDRESS, KEY, EXPIRES, AUTHORITY.server, thief.private)
    forged = replace(CERTIFICATE, signature=thief.private.sign(CERTIFICATE.content))
    with pytest.raises(BadSignature, match="its server"):
        AUTHORITY.roots.check(forged, NOW)


def test_a_server_cannot_name_itself() -> None:
    mallory = KeyPair.generate()
    server = ServerCertificate.issue(7, mallory.public, mallory.private)
    issued = SenderCertificate.issue(ADDRESS, KEY, EXPIRES, server, mallory.private)
    with pytest.raises(BadSignature, match="trust root"):
        AUTHORITY.roots.check(issued, NOW)


def test_a_revoked_server_certificate_holds_no_more() -> None:
    roots = replace(AUTHORITY.roots, revoked=frozenset((7,)))
    with pytest.raises(BadSignature, match="revoked"):
        roots.check(CERTIFICATE, NOW)


def test_a_server_certificate_may_be_named_by_a_number_both_know() -> None:
    parts = {number: part for number, part in PARTS.items() if number != 5}
    short = SenderCertificate.parse(signed(*parts.values(), number_field(8, 7)))
    assert (short.server, short.server_id) == (None, 7)
    replace(AUTHORITY.roots, known={7: AUTHORITY.server}).check(short, NOW)
    with pytest.raises(BadSignature, match="known"):
        AUTHORITY.roots.check(short, NOW)
    with pytest.raises(BadSignature, match="revoked"):
        replace(AUTHORITY.roots, known={7: AUTHORITY.server}, revoked=frozenset((7,))).check(
            short, NOW
        )


def test_an_account_may_be_written_as_bytes() -> None:
    parts = {number: part for number, part in PARTS.items() if number != 6}
    other = SenderCertificate.parse(signed(*parts.values(), bytes_field(7, ADDRESS.account)))
    assert other.sender == ADDRESS
    AUTHORITY.roots.check(other, NOW)


def test_every_byte_of_a_certificate_is_signed() -> None:
    whole = CERTIFICATE.to_bytes()
    for at in range(len(whole)):
        try:
            read = SenderCertificate.parse(flipped(whole, at))
        except InvalidMessage:
            continue
        with pytest.raises(BadSignature):
            AUTHORITY.roots.check(read, NOW)
            pytest.fail(f"accepted with byte {at} damaged")


@pytest.mark.parametrize("missing", list(PARTS))
def test_a_certificate_without_a_field_is_refused(missing: int) -> None:
    SenderCertificate.parse(signed(*PARTS.values()))
    with pytest.raises(InvalidMessage):
        SenderCertificate.parse(
            signed(*(part for number, part in PARTS.items() if number != missing))
        )


@pytest.mark.parametrize(
    ("number", "part"),
    [
        (2, number_field(2, 0)),
        (2, number_field(2, 128)),
        (3, number_field(3, EXPIRES)),
        (3, fixed64(EXPIRES) * 2),
        (3, b"\x1d" + bytes(4)),
        (4, bytes_field(4, bytes(33))),
        (5, bytes_field(5, b"")),
        (5, PARTS[5] + number_field(8, 7)),
        (6, bytes_field(6, account_text(ADDRESS.account).upper().encode())),
        (6, bytes_field(6, ADDRESS.account.hex().encode())),
        (6, bytes_field(6, b"\xff" * 36)),
        (6, PARTS[6] + bytes_field(7, ADDRESS.account)),
        (7, bytes_field(7, ADDRESS.account)),
        (1, bytes_field(1, b"\xff")),
        (1, bytes_field(1, b"1" * 33)),
    ],
)
def test_a_certificate_with_an_odd_field_is_refused(number: int, part: bytes) -> None:
    with pytest.raises(InvalidMessage):
        SenderCertificate.parse(with_part(number, part))


def test_an_account_of_another_size_is_refused() -> None:
    parts = {number: part for number, part in PARTS.items() if number != 6}
    with pytest.raises(InvalidMessage, match="16 bytes"):
        SenderCertificate.parse(signed(*parts.values(), bytes_field(7, bytes(15))))


def test_fields_of_newer_servers_are_stepped_over() -> None:
    more = signed(
        b"\x9d\x06" + bytes(4), *PARTS.values(), number_field(98, 1), b"\x99\x06" + bytes(8)
    )
    AUTHORITY.roots.check(SenderCertificate.parse(more), NOW)


def test_a_server_certificate_without_a_field_is_refused() -> None:
    signature = bytes_field(2, bytes(64))
    for content in (number_field(1, 1), bytes_field(2, KEY.data)):
        with pytest.raises(InvalidMessage, match="no field"):
            ServerCertificate.parse(bytes_field(1, content) + signature)
    for data in (b"", signature, bytes_field(1, b"")):
        with pytest.raises(InvalidMessage, match="no field"):
            ServerCertificate.parse(data)


def test_a_certificate_too_long_is_refused() -> None:
    whole = CERTIFICATE.to_bytes()
    filler = bytes_field(9, bytes(CERTIFICATE_BYTES - len(whole) - 3))
    SenderCertificate.parse(whole + filler)
    with pytest.raises(InvalidMessage, match="at most"):
        SenderCertificate.parse(whole + filler + b"\x48\x00")


def test_nothing_secret_is_shown() -> None:
    private = PrivateKey.generate()
    server = ServerCertificate.issue(1, private.public_key(), private)
    assert private.data.hex() not in repr(server)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    for parse in (SenderCertificate.parse, ServerCertificate.parse):
        for read in (data, bytes_field(1, data) + bytes_field(2, bytes(64))):
            with contextlib.suppress(CryptoError):
                parse(read)


@given(st.data())
def test_any_change_to_a_certificate_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(CERTIFICATE.to_bytes())
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=8)
    ):
        body[at] = byte
    with contextlib.suppress(CryptoError):
        SenderCertificate.parse(bytes(body))
