"""Encrypt to and decrypt from another device: the one class a client needs.

    cipher = SessionCipher(my_address, store)
    cipher.process_bundle(theirs, bundle, now)      # once, to start a session
    message = cipher.encrypt(theirs, b"hello", now)
    plaintext = cipher.decrypt(theirs, message)

Each call either does everything or, with an error, changes nothing: work is done on a copy
and written to the store last. Commit the store before a message leaves the device: a message
key must never be used twice. `now` is in milliseconds since 1970; no clock is read here.

Specifications: "The PQXDH Key Agreement Protocol", sections 3.3 and 3.4; "The Double Ratchet
Algorithm", revision 3, section 3; "The Sesame Algorithm", revision 2, section 3, of which this
is the part that concerns one pair of devices.
"""

from __future__ import annotations

from typing import NamedTuple

from raychat.crypto.curve import PublicKey
from raychat.crypto.message import (
    CiphertextMessage,
    MessageKind,
    PreKeySignalMessage,
    SignalMessage,
    address_pair,
)
from raychat.crypto.prekeys import PreKeyBundle
from raychat.crypto.session import SessionRecord, SessionState
from raychat.crypto.stores import Direction, ProtocolStore
from raychat.errors import (
    CryptoError,
    InvalidMessage,
    NoSession,
    StaleSession,
    TooLarge,
    UntrustedIdentity,
)
from raychat.ids import Address
from raychat.limits import CIPHERTEXT_BYTES


class IdentityChange(NamedTuple):
    """A peer device has another identity key than before: it was installed anew, or someone
    stands in between. The person should be told, and may compare safety numbers."""

    address: Address
    before: PublicKey
    now: PublicKey


class Opened(NamedTuple):
    """A decrypted message, and the change of identity that came with it."""

    plaintext: bytes
    identity_change: IdentityChange | None = None

    def __repr__(self) -> str:
        return f"Opened({len(self.plaintext)} bytes, {self.identity_change})"


class SessionCipher:
    """The sessions of the device `local`, whose keys and sessions are in `store`."""

    def __init__(self, local: Address, store: ProtocolStore) -> None:
        self._local = local
        self._store = store

    def has_session(self, address: Address, now: int) -> bool:
        """Whether `encrypt` has a session to use. If not, fetch a bundle and process it."""
        current = self._record(address).current
        return current is not None and not current.is_stale(now)

    def process_bundle(
        self, address: Address, bundle: PreKeyBundle, now: int
    ) -> IdentityChange | None:
        """Start a session with the device a bundle came from; it becomes the current one.

        Returns what is to be shown to the person, if the device had another key before.
        Raises UntrustedIdentity, BadSignature, InvalidKey.
        """
        self._check_trust(address, bundle.identity_key, Direction.SENDING)
        state = SessionState.initiate(
            self._store.identity_key_pair(), self._store.registration_id(), bundle, now
        )
        record = self._record(address)
        change = self._saved_identity(address, bundle.identity_key)
        self._store.store_session(address, record.begun(state))
        return change

    def end_session(self, address: Address) -> None:
        """Send nothing more in the current session; messages under way can still be read."""
        record = self._record(address)
        if record.current is not None:
            self._store.store_session(address, record.archived())

    def encrypt(self, address: Address, plaintext: bytes, now: int) -> CiphertextMessage:
        """The next message to a device with which there is a session.

        Raises NoSession or StaleSession (both: process a fresh bundle first),
        UntrustedIdentity, TooLarge.
        """
        record = self._record(address)
        current = record.current
        if current is None:
            raise NoSession
        if current.is_stale(now):
            raise StaleSession
        self._check_trust(address, current.remote_identity, Direction.SENDING)
        state = current.copy()
        message = self._sealed(state, address, plaintext)
        if len(message.body) > CIPHERTEXT_BYTES:
            raise TooLarge
        self._store.store_session(address, record.updated(0, state))
        return message

    def decrypt(self, address: Address, message: CiphertextMessage) -> bytes:
        """The plaintext of a message that the device `address` sent to this one.

        Raises DuplicateMessage for a message decrypted before, NoSession or UnknownPreKey if
        what it needs is not here (any more), UntrustedIdentity if the peer's key changed, and
        another CryptoError if the message is not in order.
        """
        return self.open(address, message).plaintext

    def open(self, address: Address, message: CiphertextMessage) -> Opened:
        """As `decrypt`; also tells of a new identity key that the store has accepted."""
        if message.kind == MessageKind.PRE_KEY:
            return self._decrypt_pre_key(address, PreKeySignalMessage.parse(message.body))
        if message.kind == MessageKind.WHISPER:
            return self._decrypt_whisper(address, SignalMessage.parse(message.body))
        raise InvalidMessage(f"There is no message kind {message.kind}.")

    def _sealed(self, state: SessionState, address: Address, plaintext: bytes) -> CiphertextMessage:
        pending = state.pending
        if pending is None:
            return CiphertextMessage(MessageKind.WHISPER, state.encrypt(plaintext, b"").body)
        first = PreKeySignalMessage(
            registration_id=state.local_registration_id,
            pre_key_id=pending.pre_key_id,
            signed_pre_key_id=pending.signed_pre_key_id,
            kyber_pre_key_id=pending.kyber_pre_key_id,
            kyber_ciphertext=pending.kyber_ciphertext,
            base_key=state.base_key,
            identity_key=state.local_identity,
            message=state.encrypt(plaintext, address_pair(self._local, address)),
        )
        return CiphertextMessage(MessageKind.PRE_KEY, first.to_bytes())

    def _decrypt_whisper(self, address: Address, message: SignalMessage) -> Opened:
        message.check_addresses(address, self._local)
        record = self._record(address)
        failure: CryptoError | None = None
        for place, before, allowance in record.candidates(message.ratchet_key):
            state = before.copy()
            try:
                plaintext = state.decrypt(message, allowance)
            except CryptoError as error:
                failure = failure or error
                continue
            self._check_trust(address, state.remote_identity, Direction.RECEIVING)
            self._store.store_session(address, record.updated(place, state))
            return Opened(plaintext)
        raise failure or NoSession()

    def _decrypt_pre_key(self, address: Address, outer: PreKeySignalMessage) -> Opened:
        outer.message.check_addresses(address, self._local)
        self._check_trust(address, outer.identity_key, Direction.RECEIVING)
        record = self._record(address)
        found = record.find(outer.base_key)
        if found is not None:
            place, before = found
            if before.remote_identity != outer.identity_key:
                raise InvalidMessage("The message claims a session of another identity.")
            state = before.copy()
            plaintext = state.decrypt(outer.message)
            self._store.store_session(address, record.updated(place, state))
            return Opened(plaintext)
        state = self._responded(outer)
        plaintext = state.decrypt(outer.message)
        # First, since it may still refuse.
        self._store.mark_kyber_pre_key_used(
            outer.kyber_pre_key_id, outer.signed_pre_key_id, outer.base_key
        )
        if outer.pre_key_id is not None:
            self._store.remove_pre_key(outer.pre_key_id)
        change = self._saved_identity(address, outer.identity_key)
        self._store.store_session(address, record.begun(state))
        return Opened(plaintext, change)

    def _responded(self, outer: PreKeySignalMessage) -> SessionState:
        store = self._store
        one_time = None
        if outer.pre_key_id is not None:
            one_time = store.load_pre_key(outer.pre_key_id).pair
        return SessionState.respond(
            store.identity_key_pair(),
            store.registration_id(),
            store.load_signed_pre_key(outer.signed_pre_key_id).pair,
            one_time,
            store.load_kyber_pre_key(outer.kyber_pre_key_id).private,
            outer,
        )

    def _record(self, address: Address) -> SessionRecord:
        return self._store.load_session(address) or SessionRecord()

    def _saved_identity(self, address: Address, key: PublicKey) -> IdentityChange | None:
        before = self._store.load_identity(address)
        replaced = self._store.save_identity(address, key)
        return IdentityChange(address, before, key) if replaced and before is not None else None

    def _check_trust(self, address: Address, key: PublicKey, direction: Direction) -> None:
        if not self._store.is_trusted(address, key, direction):
            raise UntrustedIdentity
