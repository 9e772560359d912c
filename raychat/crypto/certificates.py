"""Certificates of sealed sender: who a sealed message is from, without the server's seeing it.

    trust root  signs  ServerCertificate(key id, key)
    that key    signs  SenderCertificate(account, device, identity key, expiry)

The trust root is an offline key whose public half clients are built with. A server certificate
and its private key are on the server, which issues every device a sender certificate that is
valid for a short time, typically a day. The device puts it into each sealed message, and the
reader checks the whole chain with `TrustRoots.check`.

Signatures are XEdDSA, over the written bytes of a certificate's content, so these are kept.
The form is that of Signal's messages ("Technology preview: Sealed sender for Signal" describes
the scheme; there is no specification). In it an account may be written as text or as bytes, and
a server certificate in full or by a number that both sides know. We write the first of each, as
the reference does, and read both.

A `SenderCertificate` only says what it claims until it has been checked. Nothing in this module
is secret but the keys handed to `issue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from raychat.crypto.curve import PrivateKey, PublicKey
from raychat.crypto.protobuf import bytes_field, fixed64_field, number_field, parse
from raychat.errors import BadSignature, InvalidKey, InvalidMessage
from raychat.ids import MAX_DEVICE, AccountId, Address, DeviceId, account_id, account_text
from raychat.limits import CERTIFICATE_BYTES

_E164_BYTES: Final = 32
_EXPIRES: Final = 3


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The trust root's word that `key` is a key of the server. `content` is what is signed."""

    key_id: int
    key: PublicKey
    content: bytes
    signature: bytes

    @classmethod
    def issue(cls, key_id: int, key: PublicKey, trust_root: PrivateKey) -> Self:
        """For the keeper of the trust root."""
        content = number_field(1, key_id) + bytes_field(2, key.data)
        return cls(key_id, key, content, trust_root.sign(content))

    def to_bytes(self) -> bytes:
        return bytes_field(1, self.content) + bytes_field(2, self.signature)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises InvalidMessage. Nothing is verified yet."""
        content, signature = _signed(data)
        numbers, strings = parse(content, {1}, {2})
        try:
            return cls(numbers[1], _public_key(strings[2]), content, signature)
        except KeyError as missing:
            raise _missing(missing) from None


@dataclass(frozen=True, slots=True)
class SenderCertificate:
    """The server's word that the device `sender` has the identity key `key`.

    `expires` is in milliseconds since 1970. `server` is None in a certificate that names its
    server certificate by the number `server_id` only. `phone_number` is there for peers that
    want it; raychat's own certificates leave it out.
    """

    sender: Address
    key: PublicKey
    expires: int
    server: ServerCertificate | None
    server_id: int | None
    phone_number: str | None
    content: bytes
    signature: bytes

    @classmethod
    def issue(
        cls,
        sender: Address,
        key: PublicKey,
        expires: int,
        server: ServerCertificate,
        server_key: PrivateKey,
        *,
        phone_number: str | None = None,
    ) -> Self:
        """For the server, which first makes sure that `sender` has just that key.

        Raises InvalidKey if `server_key` is not the key of `server`.
        """
        if server_key.public_key() != server.key:
            raise InvalidKey("The private key is not the one of the server certificate.")
        content = (
            (b"" if phone_number is None else bytes_field(1, phone_number.encode()))
            + number_field(2, sender.device)
            + fixed64_field(_EXPIRES, expires)
            + bytes_field(4, key.data)
            + bytes_field(5, server.to_bytes())
            + bytes_field(6, account_text(sender.account).encode())
        )
        signature = server_key.sign(content)
        return cls(sender, key, expires, server, None, phone_number, content, signature)

    def to_bytes(self) -> bytes:
        return bytes_field(1, self.content) + bytes_field(2, self.signature)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises InvalidMessage. Nothing is verified yet: see `TrustRoots.check`."""
        content, signature = _signed(data)
        numbers, strings = parse(content, {2, 8}, {1, 4, 5, 6, 7}, {_EXPIRES})
        if (5 in strings) is (8 in numbers):
            raise InvalidMessage("A certificate names one server certificate.")
        try:
            return cls(
                sender=Address(_account(strings), _device(numbers[2])),
                key=_public_key(strings[4]),
                expires=numbers[_EXPIRES],
                server=ServerCertificate.parse(strings[5]) if 5 in strings else None,
                server_id=numbers.get(8),
                phone_number=_phone_number(strings.get(1)),
                content=content,
                signature=signature,
            )
        except KeyError as missing:
            raise _missing(missing) from None


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """What a client is built with: the public keys it trusts to name servers.

    More than one, so that a root can be replaced while old clients are about. `revoked` are
    ids of server certificates whose private key was lost; `known` are those that a sender
    certificate may name by number.
    """

    keys: tuple[PublicKey, ...]
    revoked: frozenset[int] = frozenset()
    known: Mapping[int, ServerCertificate] = field(default_factory=dict)

    def check(self, certificate: SenderCertificate, now: int) -> None:
        """Raises BadSignature unless a trust root stands behind the certificate at `now`.

        Every root is tried before an answer is given, so that its time does not tell which.
        """
        server = certificate.server
        if server is None and certificate.server_id is not None:
            server = self.known.get(certificate.server_id)
        if server is None:
            raise BadSignature("The server certificate is not one that is known here.")
        if sum(_is_signed(root, server) for root in self.keys) == 0:
            raise BadSignature("The server certificate is not signed by a trust root.")
        if server.key_id in self.revoked:
            raise BadSignature("The server certificate has been revoked.")
        if not _is_signed(server.key, certificate):
            raise BadSignature("The sender certificate is not signed by its server.")
        if now > certificate.expires:
            raise BadSignature("The sender certificate has expired.")


def _is_signed(key: PublicKey, certificate: ServerCertificate | SenderCertificate) -> bool:
    try:
        key.verify(certificate.content, certificate.signature)
    except BadSignature:
        return False
    return True


def _signed(data: bytes) -> tuple[bytes, bytes]:
    if len(data) > CERTIFICATE_BYTES:
        raise InvalidMessage(f"A certificate has at most {CERTIFICATE_BYTES} bytes.")
    _, strings = parse(data, set(), {1, 2})
    try:
        return strings[1], strings[2]
    except KeyError as missing:
        raise _missing(missing) from None


def _account(strings: dict[int, bytes]) -> AccountId:
    if (6 in strings) is (7 in strings):
        raise InvalidMessage("A certificate names one account.")
    if 7 in strings:
        if len(strings[7]) != 16:
            raise InvalidMessage("The account of the certificate is not 16 bytes.")
        return AccountId(strings[7])
    try:
        account = account_id(strings[6].decode("ascii"))
    except ValueError:
        account = None
    if account is None or account_text(account).encode() != strings[6]:
        raise InvalidMessage("The account of the certificate is not a UUID.")
    return account


def _device(number: int) -> DeviceId:
    if not 1 <= number <= MAX_DEVICE:
        raise InvalidMessage(f"A device has a number of 1 to {MAX_DEVICE}.")
    return DeviceId(number)


def _phone_number(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        if len(data) <= _E164_BYTES:
            return data.decode("ascii")
    except UnicodeDecodeError:
        pass
    raise InvalidMessage("The phone number of the certificate is damaged.")


def _public_key(data: bytes) -> PublicKey:
    try:
        return PublicKey(data)
    except InvalidKey as error:
        raise InvalidMessage(f"The certificate holds an unusable key: {error.detail}") from None


def _missing(field_number: KeyError) -> InvalidMessage:
    return InvalidMessage(f"The certificate has no field {field_number.args[0]}.")
