"""The reference library beside sessions: sender keys, safety numbers, sealed sender.

One class for all of it, around a device of peer.py (see groups.mjs).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from raychat.crypto.certificates import SenderCertificate
from raychat.crypto.curve import PublicKey
from raychat.crypto.group_message import DistributionId
from raychat.crypto.sealed_content import ContentHint
from raychat.ids import AccountId, Address, account_text
from tests.interop.peer import PeerDevice


class Certified(NamedTuple):
    """A chain of certificates as the reference library issues it."""

    root: bytes
    server_key: bytes
    server: bytes
    server_content: bytes
    sender: bytes
    sender_content: bytes


class Unsealed(NamedTuple):
    """A sealed message as the reference library reads it, its certificate not validated."""

    kind: int
    message: bytes
    certificate: bytes
    hint: int
    group: bytes | None


class Split(NamedTuple):
    """What the reference library would send the devices of one account."""

    devices: list[int]
    registration_ids: list[int]
    body: bytes


class GroupPeer:
    def __init__(self, device: PeerDevice) -> None:
        self.device = device
        self.address = device.address
        self.identity_key = device.identity_key

    def sender_key(self, distribution: DistributionId) -> bytes:
        return _bytes(self._call("senderKey", distribution=_uuid(distribution)))

    def drop_sender_keys(self) -> None:
        """Forget all of them, its own too: the next one is new."""
        self._call("dropSenderKey")

    def take_sender_key(self, sender: Address, body: bytes) -> None:
        self._call("takeSenderKey", peer=_named(sender), body=_text(body))

    def encrypt(self, distribution: DistributionId, plaintext: bytes) -> bytes:
        return _bytes(
            self._call("groupEncrypt", distribution=_uuid(distribution), plaintext=_text(plaintext))
        )

    def decrypt(self, sender: Address, body: bytes) -> bytes:
        return _bytes(self._call("groupDecrypt", peer=_named(sender), body=_text(body)))

    def safety_number(
        self,
        local: tuple[bytes, PublicKey],
        remote: tuple[bytes, PublicKey],
        *,
        version: int,
        iterations: int = 5200,
    ) -> tuple[str, bytes]:
        """The text and the code."""
        made = self._call(
            "safetyNumber",
            iterations=iterations,
            version=version,
            localId=_text(local[0]),
            localKey=_text(local[1].data),
            remoteId=_text(remote[0]),
            remoteKey=_text(remote[1].data),
        )
        return made["text"], _bytes(made["code"])

    def compare_codes(self, ours: bytes, scanned: bytes) -> bool:
        return bool(self._call("compareCodes", ours=_text(ours), scanned=_text(scanned)))

    def certify(
        self, sender: Address, key: PublicKey, expires: int, phone: str | None = None
    ) -> Certified:
        issued = self._call(
            "certify", sender=_named(sender), key=_text(key.data), expires=expires, phone=phone
        )
        return Certified(**{name: _bytes(value) for name, value in issued.items()})

    def validate(self, certificate: SenderCertificate, roots: list[PublicKey], now: int) -> bool:
        return bool(
            self._call(
                "validate",
                certificate=_text(certificate.to_bytes()),
                roots=[_text(root.data) for root in roots],
                now=now,
            )
        )

    def seal(
        self,
        reader: Address,
        key: PublicKey,
        distribution: DistributionId,
        plaintext: bytes,
        certificate: SenderCertificate,
        hint: ContentHint = ContentHint.DEFAULT,
        group: bytes | None = None,
    ) -> bytes:
        """A message of version 1 that holds a message to the group."""
        fields = _content(distribution, plaintext, certificate, hint, group)
        return _bytes(self._call("seal", peer=_named(reader), key=_text(key.data), **fields))

    def seal_for_many(
        self,
        readers: Iterable[Address],
        excluded: Iterable[AccountId],
        distribution: DistributionId,
        plaintext: bytes,
        certificate: SenderCertificate,
        hint: ContentHint = ContentHint.DEFAULT,
        group: bytes | None = None,
    ) -> bytes:
        """An upload of version 2 for devices with which there are sessions."""
        return _bytes(
            self._call(
                "sealForMany",
                peers=[_named(reader) for reader in readers],
                excluded=[account_text(account) for account in excluded],
                **_content(distribution, plaintext, certificate, hint, group),
            )
        )

    def split(self, body: bytes) -> tuple[dict[str, Split], list[str]]:
        """What each account is sent, by its written id, and the accounts left out."""
        found = self._call("split", body=_text(body))
        return {
            each["account"]: Split(each["devices"], each["registration_ids"], _bytes(each["body"]))
            for each in found["recipients"]
        }, found["excluded"]

    def unseal(self, body: bytes) -> Unsealed:
        opened = self._call("unseal", body=_text(body))
        group = opened["group"]
        return Unsealed(
            opened["kind"],
            _bytes(opened["message"]),
            _bytes(opened["certificate"]),
            opened["hint"],
            None if group is None else _bytes(group),
        )

    def _call(self, op: str, **arguments: object) -> Any:
        return self.device._call(op, **arguments)


def _content(
    distribution: DistributionId,
    plaintext: bytes,
    certificate: SenderCertificate,
    hint: ContentHint,
    group: bytes | None,
) -> dict[str, object]:
    return {
        "distribution": _uuid(distribution),
        "plaintext": _text(plaintext),
        "certificate": _text(certificate.to_bytes()),
        "hint": int(hint),
        "group": None if group is None else _text(group),
    }


def _named(address: Address) -> dict[str, object]:
    return {"account": account_text(address.account), "device": address.device}


def _uuid(distribution: DistributionId) -> str:
    return str(uuid.UUID(bytes=distribution))


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
