"""End-to-end encryption. An independent implementation, byte-compatible with version 4 of the
Signal protocol; what Signal has not specified or does otherwise says so in its module.

Where to start:

between two devices    `SessionCipher`, over a `ProtocolStore`
in a group             `GroupCipher`, over a `SenderKeyStore`
without a sender       `SealedSender`, which needs a `SenderCertificate` and `TrustRoots`; for the
                       server's part of it `SenderCertificate.issue` and `Upload`
the peer's identity    `SafetyNumber`
files                  `encrypt_file` and `decrypt_file`, or `AttachmentEncryptor` and
                       `AttachmentDecryptor` for one that comes in pieces
profiles               `ProfileKey`

The client uses all of it; of the server only the key and group rooms do, to check signatures
with `PublicKey.verify`.
"""

from __future__ import annotations

from raychat.crypto.attachment import Attachment, AttachmentDecryptor, AttachmentEncryptor
from raychat.crypto.attachment import decrypt as decrypt_file
from raychat.crypto.attachment import encrypt as encrypt_file
from raychat.crypto.certificates import SenderCertificate, ServerCertificate, TrustRoots
from raychat.crypto.cipher import IdentityChange, Opened, SessionCipher
from raychat.crypto.curve import KeyPair, PrivateKey, PublicKey
from raychat.crypto.fingerprint import SafetyNumber
from raychat.crypto.group_cipher import GroupCipher, OpenedGroupMessage, Shared
from raychat.crypto.group_message import DistributionId
from raychat.crypto.kem import KemPrivateKey, KemPublicKey
from raychat.crypto.message import CiphertextMessage, MessageKind
from raychat.crypto.prekeys import (
    IdentityKeyPair,
    KyberPreKey,
    PreKey,
    PreKeyBundle,
    SignedPreKey,
)
from raychat.crypto.profile import ProfileKey
from raychat.crypto.sealed_content import ContentHint, SealedContent, SealedKind
from raychat.crypto.sealed_sender import SealedReader, SealedSender
from raychat.crypto.sealed_upload import Upload, UploadEntry
from raychat.crypto.sender_keys import (
    MemorySenderKeyStore,
    SenderKeyRecord,
    SenderKeyStore,
    SendingKey,
)
from raychat.crypto.session import SessionRecord
from raychat.crypto.stores import (
    Direction,
    IdentityStore,
    KyberPreKeyStore,
    MemoryStore,
    PreKeyStore,
    ProtocolStore,
    SessionStore,
    SignedPreKeyStore,
)

__all__ = [
    "Attachment",
    "AttachmentDecryptor",
    "AttachmentEncryptor",
    "CiphertextMessage",
    "ContentHint",
    "Direction",
    "DistributionId",
    "GroupCipher",
    "IdentityChange",
    "IdentityKeyPair",
    "IdentityStore",
    "KemPrivateKey",
    "KemPublicKey",
    "KeyPair",
    "KyberPreKey",
    "KyberPreKeyStore",
    "MemorySenderKeyStore",
    "MemoryStore",
    "MessageKind",
    "Opened",
    "OpenedGroupMessage",
    "PreKey",
    "PreKeyBundle",
    "PreKeyStore",
    "PrivateKey",
    "ProfileKey",
    "ProtocolStore",
    "PublicKey",
    "SafetyNumber",
    "SealedContent",
    "SealedKind",
    "SealedReader",
    "SealedSender",
    "SenderCertificate",
    "SenderKeyRecord",
    "SenderKeyStore",
    "SendingKey",
    "ServerCertificate",
    "SessionCipher",
    "SessionRecord",
    "SessionStore",
    "Shared",
    "SignedPreKey",
    "SignedPreKeyStore",
    "TrustRoots",
    "Upload",
    "UploadEntry",
    "decrypt_file",
    "encrypt_file",
]
