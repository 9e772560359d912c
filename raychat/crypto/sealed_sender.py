"""Sealed sender: messages whose sender only the reader learns.

    sealed = SealedSender(my_address, my_identity, trust_roots)
    content = SealedContent(SealedKind.of(message.kind), my_certificate, message.body)
    body = sealed.seal(their_identity, content, now)            # for one device
    upload = sealed.seal_for(readers, content, now)             # one ciphertext for many
    content = sealed.open(body, now)                            # either of them
    content.certificate.sender                                  # the device it is from

`open` returns nothing that has not passed every check: the MACs, the sender's key against the
certificate, the certificate's chain and its time. The class has no other way to the content, so
no caller can forget one. What it proves is who sealed the message, to the reader alone; the
message inside is then decrypted by the session or sender key of that device, and only by that.

Sealing hides the sender in the message, not the connection it was sent over, and statistics of
who answers whom still tell (Martiny et al., NDSS 2021).

Versions 1 and 2 are described in `sealed_v1.py` and `sealed_v2.py`, the form that a server
splits in `sealed_upload.py`. `now` is in milliseconds since 1970; no clock is read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from raychat.crypto import sealed_v1, sealed_v2
from raychat.crypto.certificates import TrustRoots
from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.sealed_content import SealedContent
from raychat.crypto.sealed_upload import Upload, UploadEntry
from raychat.errors import (
    BadSignature,
    InvalidKey,
    InvalidMessage,
    LegacyVersion,
    TooLarge,
    UnknownVersion,
)
from raychat.ids import AccountId, Address, DeviceId
from raychat.limits import CIPHERTEXT_BYTES


class SealedReader(NamedTuple):
    """A device that a message is sealed for."""

    address: Address
    registration_id: int
    identity_key: PublicKey


class SealedSender:
    """Seals messages of the device `local`, and opens those for it."""

    def __init__(self, local: Address, identity: KeyPair, roots: TrustRoots) -> None:
        self._local = local
        self._identity = identity
        self._roots = roots

    def seal(self, reader: PublicKey, content: SealedContent, now: int) -> bytes:
        """For one device, in version 1.

        Raises BadSignature if our certificate has expired (fetch another), InvalidKey if it is
        not ours or the reader's key is unusable, TooLarge.
        """
        self._check_own(content, now)
        body = sealed_v1.seal_v1(self._identity, reader, content)
        if len(body) > CIPHERTEXT_BYTES:
            raise TooLarge
        return body

    def seal_for(
        self,
        readers: Iterable[SealedReader],
        content: SealedContent,
        now: int,
        *,
        excluded: Iterable[AccountId] = (),
    ) -> Upload:
        """For many devices, in version 2. `excluded` are accounts left out on purpose.

        Raises what `seal` does.
        """
        self._check_own(content, now)
        entries: dict[tuple[AccountId, PublicKey], list[tuple[DeviceId, int]]] = {}
        for (account, device), registration_id, key in readers:
            entries.setdefault((account, key), []).append((device, registration_id))
        keys = [key for _, key in entries]
        sealed = sealed_v2.seal_v2(self._identity, keys, content)
        if len(sealed.shared) + sealed_v2.MATERIAL_BYTES + 1 > CIPHERTEXT_BYTES:
            raise TooLarge
        return Upload(
            tuple(
                UploadEntry(account, tuple(devices), material)
                for ((account, _), devices), material in zip(
                    entries.items(), sealed.materials, strict=True
                )
            ),
            tuple(excluded),
            sealed.shared,
        )

    def open(self, body: bytes, now: int) -> SealedContent:
        """The content of a message for this device, whose sender has been proved.

        Raises BadSignature if the certificate does not hold, InvalidMessage (of which BadMac),
        LegacyVersion, UnknownVersion.
        """
        content = self._opened(body)
        certificate = content.certificate
        self._roots.check(certificate, now)
        if certificate.sender == self._local:
            raise InvalidMessage("This device has sent the message itself.")
        return content

    def _opened(self, body: bytes) -> SealedContent:
        if not body or len(body) > CIPHERTEXT_BYTES:
            raise InvalidMessage(f"A sealed message has 1 to {CIPHERTEXT_BYTES} bytes.")
        version = body[0] >> 4
        if version == sealed_v1.VERSION:
            return sealed_v1.open_v1(self._identity, body)
        if version == sealed_v2.VERSION:
            return sealed_v2.open_v2(self._identity, body)
        if version < sealed_v1.VERSION:
            raise LegacyVersion("The sealed message is of a version too old.")
        raise UnknownVersion("The sealed message is of a newer version.")

    def _check_own(self, content: SealedContent, now: int) -> None:
        certificate = content.certificate
        if certificate.key != self._identity.public or certificate.sender != self._local:
            raise InvalidKey("The certificate is not one of this device.")
        if now > certificate.expires:
            raise BadSignature("Our sender certificate has expired; fetch another.")
