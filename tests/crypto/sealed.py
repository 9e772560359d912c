"""A certificate authority and devices that seal, for the tests."""

from __future__ import annotations

from raychat.crypto.certificates import SenderCertificate, ServerCertificate, TrustRoots
from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.sealed_content import ContentHint, SealedContent, SealedKind
from raychat.crypto.sealed_sender import SealedReader, SealedSender
from raychat.ids import AccountId, Address, DeviceId, new_account_id
from tests.crypto.device import DAY, NOW

EXPIRES = NOW + DAY


class Authority:
    """A trust root and one server under it."""

    def __init__(self, key_id: int = 1) -> None:
        self.root = KeyPair.generate()
        self.server_key = KeyPair.generate()
        self.server = ServerCertificate.issue(key_id, self.server_key.public, self.root.private)
        self.roots = TrustRoots((self.root.public,))

    def certify(self, sender: Address, key: PublicKey, expires: int = EXPIRES) -> SenderCertificate:
        return SenderCertificate.issue(sender, key, expires, self.server, self.server_key.private)


class Sealer:
    """A device with a certificate."""

    def __init__(
        self, authority: Authority, account: AccountId | None = None, device: int = 1
    ) -> None:
        self.address = Address(account or new_account_id(), DeviceId(device))
        self.identity = KeyPair.generate()
        self.sealed = SealedSender(self.address, self.identity, authority.roots)
        self.certificate = authority.certify(self.address, self.identity.public)
        self.reader = SealedReader(self.address, 1000 + device, self.identity.public)

    def content(
        self,
        message: bytes = b"a message",
        kind: SealedKind = SealedKind.WHISPER,
        hint: ContentHint = ContentHint.DEFAULT,
        group: bytes = b"",
    ) -> SealedContent:
        return SealedContent(kind, self.certificate, message, hint, group)
