"""The error tree: every error raychat raises or sends, with a stable code.

    RaychatError
    ├── BadRequest          what was sent cannot be understood or is not allowed
    │   ├── Malformed         not a frame of this protocol
    │   ├── TooLarge          over a limit of limits.py
    │   ├── Unsupported       a protocol or frame version this side does not speak
    │   ├── OutOfOrder        a frame that does not follow from what came before it
    │   ├── IdConflict        a client message id used again with another body
    │   ├── IdGap             a client message id that skips one
    │   ├── IdStale           a client message id too old to be compared
    │   ├── AckAhead          an acknowledgement of a number never sent
    │   ├── DeviceList        a message not addressed to just the recipient's devices
    │   ├── ListStale         a signed device list that is not newer than the one there is
    │   ├── TooLate           an edit or deletion after the time for it
    │   ├── LinkTaken         a link session of that name is there already
    │   └── BadNumber         not a phone number
    ├── Denied              who asks may not
    │   └── BadToken, NotRegistered, Replaced, BadCode, CodeExpired, LinkExpired,
    │       ChallengeRequired, Locked, BadPin
    ├── Unavailable         try again later; nothing was lost       (retryable)
    │   ├── Overloaded, RateLimited, InboxFull, Fenced, WrongOwner, Timeout
    ├── NotFound            no such account, device, session
    │   └── NoKeys            the account has no keys to start a session with
    ├── StoreError          a store that cannot be opened, read or written
    │   ├── StoreInUse, StoreTooNew, StoreLocked
    └── CryptoError         a message or key the Signal protocol refuses
        ├── DuplicateMessage  already decrypted once
        ├── UntrustedIdentity the peer's identity key changed
        ├── InvalidMessage    does not parse, or fails its MAC or padding
        │   └── BadMac
        ├── InvalidKey        a key that does not parse or contributes nothing
        ├── BadSignature      a pre-key or certificate not signed by whom it should be
        ├── GhostDevice       a device its account has not signed
        ├── ListRolledBack    a signed device list older than one that was seen
        ├── BadProof          a proof of the key-transparency log that does not hold
        ├── UnknownPreKey     names a pre-key this device does not have
        ├── NoSession         no session with that address
        ├── TooFarAhead       skips more messages than the limit
        ├── LegacyVersion     older than this implementation speaks
        ├── UnknownVersion    newer than this implementation speaks
        └── StaleSession      never acknowledged for 30 days: start a new one

`code` is what programs compare and what crosses the wire; it never changes meaning.
`str(error)` is for people: what was wrong and what to do. `retryable` says whether the same
request may succeed later. `data` is what a program needs besides the code (seconds to wait, tries
left): JSON values, never secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class RaychatError(Exception):
    """Base of all errors. `detail` overrides the class's own sentence."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "Something went wrong."

    def __init__(self, detail: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail or self.sentence)
        self.data: dict[str, Any] = dict(data or {})

    @property
    def detail(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.detail} [{self.code}]"


class BadRequest(RaychatError):
    code = "bad-request"
    sentence = "The request is not valid."


class Malformed(BadRequest):
    code = "malformed"
    sentence = "The bytes are not a frame of this protocol; check the client's version."


class TooLarge(BadRequest):
    code = "too-large"
    sentence = "The message is over the size limit; send it as an attachment."


class Unsupported(BadRequest):
    code = "unsupported"
    sentence = "This protocol version is not spoken here; update the older side."


class OutOfOrder(BadRequest):
    code = "out-of-order"
    sentence = "This frame does not follow from the ones before it; say hello first."


class IdConflict(BadRequest):
    code = "id-conflict"
    sentence = "This message id was already used for another message; use the next one."


class IdGap(BadRequest):
    code = "id-gap"
    retryable = True
    sentence = "Message ids are counted without gaps; send from the first unacknowledged one."


class IdStale(BadRequest):
    code = "id-stale"
    sentence = "This message id was used long ago; use the next one."


class AckAhead(BadRequest):
    code = "ack-ahead"
    sentence = "An envelope was acknowledged that was never sent."


class ListStale(BadRequest):
    code = "list-stale"
    sentence = "The device list is not newer than the current one; fetch that, sign a newer one."


class TooLate(BadRequest):
    code = "too-late"
    sentence = "The time to change that message is over; delete it for yourself, or write anew."


class LinkTaken(BadRequest):
    code = "link-taken"
    sentence = "That link code is in use already; make a new one."


class BadNumber(BadRequest):
    code = "bad-number"
    sentence = "That is not a phone number; write it with its country, like +15550001111."


class DeviceList(BadRequest):
    code = "device-list"
    retryable = True
    sentence = "The recipient's devices have changed; fetch their keys and send again."


class Denied(RaychatError):
    code = "denied"
    sentence = "That is not allowed."


class BadToken(Denied):
    code = "bad-token"
    sentence = "The device token is not valid; register the device again."


class LinkExpired(Denied):
    code = "link-expired"
    sentence = "The link code is no longer valid; show a new one on the device to be linked."


class NotRegistered(Denied):
    code = "not-registered"
    sentence = "This device is not registered yet; run `raychat register NUMBER` first."


class Replaced(Denied):
    code = "replaced"
    sentence = "This device has connected elsewhere; close it there, or register this one anew."


class BadCode(Denied):
    code = "bad-code"
    sentence = "The code is not the one that was sent; check it and try again."


class CodeExpired(Denied):
    code = "code-expired"
    sentence = "The code is no longer valid; ask for a new one."


class ChallengeRequired(Denied):
    """`challenge` in data says which one: its kind, and what the kind needs."""

    code = "challenge"
    sentence = "Show first that a person asks: solve the challenge and send its answer along."


class Locked(Denied):
    """`seconds` in data: after which it may be tried again."""

    code = "locked"
    sentence = "The registration is locked; give its PIN, or wait until the lock expires."


class BadPin(Denied):
    """`tries` in data: how many are left for now."""

    code = "bad-pin"
    sentence = "The PIN is not the one that locks this account; check it and try again."


class Unavailable(RaychatError):
    code = "unavailable"
    retryable = True
    sentence = "The service cannot answer now; try again in a moment. Nothing was lost."


class Overloaded(Unavailable):
    code = "overloaded"
    sentence = "Too much is waiting; try again in a moment."


class RateLimited(Unavailable):
    code = "rate-limited"
    sentence = "That was too often; wait a moment before trying again."


class InboxFull(Unavailable):
    code = "inbox-full"
    sentence = "The recipient's inbox is full until their device comes online."


class Fenced(Unavailable):
    code = "fenced"
    sentence = "Another process has taken over this shard; this one must let go of it."


class WrongOwner(Unavailable):
    code = "wrong-owner"
    sentence = "That user is served elsewhere; look the owner up again."


class Timeout(Unavailable):
    code = "timeout"
    sentence = "No answer came in time; the request may or may not have been carried out."


class NotFound(RaychatError):
    code = "not-found"
    sentence = "There is no such account or device."


class NoKeys(NotFound):
    code = "no-keys"
    sentence = "That account has no keys to start a conversation with."


class StoreError(RaychatError):
    code = "store"
    sentence = "The store cannot be used."


class StoreInUse(StoreError):
    code = "store-in-use"
    sentence = "Another process has this store open; stop it first (raychat down)."


class StoreTooNew(StoreError):
    code = "store-too-new"
    sentence = "The store was written by a newer raychat; update this one."


class StoreLocked(StoreError):
    code = "store-locked"
    sentence = "The key does not open this store; give the right passphrase or key file."


class CryptoError(RaychatError):
    code = "crypto"
    sentence = "The message or key was refused."


class DuplicateMessage(CryptoError):
    code = "duplicate-message"
    sentence = "This message was already decrypted once."


class UntrustedIdentity(CryptoError):
    code = "untrusted-identity"
    sentence = "The identity key of this contact has changed; compare safety numbers."


class InvalidMessage(CryptoError):
    code = "invalid-message"
    sentence = "The message is damaged or not meant for this session."


class BadMac(InvalidMessage):
    code = "bad-mac"
    sentence = "The message fails its authentication code."


class InvalidKey(CryptoError):
    code = "invalid-key"
    sentence = "That is not a usable key."


class BadSignature(CryptoError):
    code = "bad-signature"
    sentence = "The signature does not belong to this key and signer."


class GhostDevice(CryptoError):
    code = "ghost-device"
    sentence = "The account has not signed that device; nothing is sent to it or taken from it."


class ListRolledBack(CryptoError):
    code = "list-rolled-back"
    sentence = "The server gave an older device list than before; nothing is sent by it."


class BadProof(CryptoError):
    code = "bad-proof"
    sentence = "The server cannot prove what its key log says; compare safety numbers."


class UnknownPreKey(CryptoError):
    code = "unknown-pre-key"
    sentence = "The message names a pre-key this device does not have."


class NoSession(CryptoError):
    code = "no-session"
    sentence = "There is no session with this device; fetch its keys first."


class TooFarAhead(CryptoError):
    code = "too-far-ahead"
    sentence = "The message skips more messages than the limit allows."


class LegacyVersion(CryptoError):
    code = "legacy-version"
    sentence = "The message is of a protocol version too old to be safe."


class UnknownVersion(CryptoError):
    code = "unknown-version"
    sentence = "The message is of a newer protocol version; update this client."


class StaleSession(CryptoError):
    code = "stale-session"
    sentence = "The session was never acknowledged for 30 days; start a new one."


def _tree(root: type[RaychatError]) -> dict[str, type[RaychatError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[RaychatError]] = _tree(RaychatError)


def from_code(code: str, detail: str = "", data: Mapping[str, Any] | None = None) -> RaychatError:
    """The error a peer sent, as an exception. An unknown code becomes a plain RaychatError."""
    return BY_CODE.get(code, RaychatError)(detail or None, data)
