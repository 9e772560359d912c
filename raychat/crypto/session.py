"""A session with one peer device, and the record of all sessions with it.

Specifications: "The Double Ratchet Algorithm", revision 3, section 6 (the Triple Ratchet: the
keys of a message come from both ratchets) and section 7 (integration with PQXDH); "The Sesame
Algorithm", revision 2, section 3, for the active session and the inactive ones kept beside it.
Two devices that write first at the same moment start two sessions; the receiver of a message
makes its session the current one, so both sides end up in the same one.

A `SessionState` changes as it is used; work on a copy. A `SessionRecord` never changes: its
methods return a new one. Both are stored as bytes of this module's own format, laid out in
`_HEAD` and `SessionRecord.to_bytes`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from raychat.crypto import handshake
from raychat.crypto.curve import KeyPair, PublicKey
from raychat.crypto.kem import CIPHERTEXT_BYTES as KYBER_BYTES
from raychat.crypto.kem import KemPrivateKey
from raychat.crypto.message import PreKeySignalMessage, SignalMessage
from raychat.crypto.prekeys import IdentityKeyPair, PreKeyBundle
from raychat.crypto.ratchet import MessageKeys, Ratchet
from raychat.crypto.spqr import PostQuantumRatchet
from raychat.errors import InvalidKey, StoreError, StoreTooNew
from raychat.limits import ARCHIVED_SESSIONS, SKIP_AHEAD, UNACKED_SESSION_DAYS

_FORMAT: Final = 2
# Its sessions had no post-quantum ratchet. They are not read on: a new session is begun.
_FORMAT_WITHOUT_PQ: Final = 1
_DAY_MS: Final = 86_400_000
_SIZE: Final = struct.Struct(">I")
# Base key, local and remote identity, local and remote registration id, bytes of the
# post-quantum state, whether there is a pending pre-key. The ratchet, the pending pre-key and
# the post-quantum state follow.
_HEAD: Final = struct.Struct(">33s33s33sIII?")
# Creation in milliseconds, one-time key id and whether there is one, signed and Kyber key id,
# Kyber ciphertext.
_PENDING: Final = struct.Struct(f">QI?II{KYBER_BYTES}s")


class PendingPreKey(NamedTuple):
    """What every message repeats until the peer has answered once."""

    created: int
    pre_key_id: int | None
    signed_pre_key_id: int
    kyber_pre_key_id: int
    kyber_ciphertext: bytes


@dataclass(slots=True, repr=False)
class SessionState:
    """One session, as one of its two sides sees it."""

    base_key: PublicKey
    local_identity: PublicKey
    remote_identity: PublicKey
    local_registration_id: int
    remote_registration_id: int
    ratchet: Ratchet
    pq: PostQuantumRatchet
    pending: PendingPreKey | None = None

    @classmethod
    def initiate(
        cls, identity: IdentityKeyPair, registration_id: int, bundle: PreKeyBundle, now: int
    ) -> Self:
        """A session begun by us. Raises BadSignature, InvalidKey."""
        base = KeyPair.generate()
        secrets, ciphertext = handshake.initiate(identity, base, bundle)
        return cls(
            base_key=base.public,
            local_identity=identity.public,
            remote_identity=bundle.identity_key,
            local_registration_id=registration_id,
            remote_registration_id=bundle.registration_id,
            ratchet=Ratchet.initiator(secrets.root, secrets.chain, bundle.signed_pre_key),
            pq=PostQuantumRatchet.initiator(secrets.pq_auth),
            pending=PendingPreKey(
                now,
                bundle.pre_key_id,
                bundle.signed_pre_key_id,
                bundle.kyber_pre_key_id,
                ciphertext,
            ),
        )

    @classmethod
    def respond(
        cls,
        identity: IdentityKeyPair,
        registration_id: int,
        signed_pre_key: KeyPair,
        pre_key: KeyPair | None,
        kyber_pre_key: KemPrivateKey,
        first: PreKeySignalMessage,
    ) -> Self:
        """The session a peer begins by `first`, which is still to be decrypted in it.

        Raises InvalidKey, InvalidMessage.
        """
        secrets = handshake.respond(
            identity,
            signed_pre_key,
            pre_key,
            kyber_pre_key,
            their_identity=first.identity_key,
            their_base=first.base_key,
            kyber_ciphertext=first.kyber_ciphertext,
        )
        return cls(
            base_key=first.base_key,
            local_identity=identity.public,
            remote_identity=first.identity_key,
            local_registration_id=registration_id,
            remote_registration_id=first.registration_id,
            ratchet=Ratchet.responder(secrets.root, secrets.chain, signed_pre_key),
            pq=PostQuantumRatchet.responder(secrets.pq_auth),
        )

    def copy(self) -> SessionState:
        return SessionState(
            self.base_key,
            self.local_identity,
            self.remote_identity,
            self.local_registration_id,
            self.remote_registration_id,
            self.ratchet.copy(),
            self.pq,
            self.pending,
        )

    def is_stale(self, now: int) -> bool:
        """Whether the peer has not answered for so long that the session must not be used."""
        pending = self.pending
        return pending is not None and now - pending.created > UNACKED_SESSION_DAYS * _DAY_MS

    def encrypt(self, plaintext: bytes, addresses: bytes) -> SignalMessage:
        """The next message. Raises TooFarAhead when the chain is used up."""
        self.pq, pq_field, pq_salt = self.pq.send()
        step = self.ratchet.send()
        keys = MessageKeys.derive(step.seed, pq_salt)
        return SignalMessage.seal(
            ratchet_key=step.ratchet_key,
            counter=step.counter,
            previous_counter=step.previous_counter,
            ciphertext=keys.encrypt(plaintext),
            pq_ratchet=pq_field,
            addresses=addresses,
            mac_key=keys.mac,
            sender=self.local_identity,
            receiver=self.remote_identity,
        )

    def decrypt(self, message: SignalMessage, most: int = SKIP_AHEAD) -> bytes:
        """The plaintext of a message that skips at most `most` others.

        Raises what the `receive` of both ratchets does, BadMac or InvalidMessage. After an
        error the state is of no more use, since it may have half changed: call it on a copy.
        """
        seed = self.ratchet.receive(message.ratchet_key, message.counter, most)
        self.pq, pq_salt = self.pq.receive(message.pq_ratchet, most)
        keys = MessageKeys.derive(seed, pq_salt)
        message.verify(keys.mac, self.remote_identity, self.local_identity)
        plaintext = keys.decrypt(message.ciphertext)
        self.ratchet.prepare()
        self.pending = None
        return plaintext

    def to_bytes(self) -> bytes:
        pq = self.pq.to_bytes()
        pending = b""
        if self.pending is not None:
            created, pre_key_id, signed_id, kyber_id, ciphertext = self.pending
            pending = _PENDING.pack(
                created, pre_key_id or 0, pre_key_id is not None, signed_id, kyber_id, ciphertext
            )
        head = _HEAD.pack(
            self.base_key.data,
            self.local_identity.data,
            self.remote_identity.data,
            self.local_registration_id,
            self.remote_registration_id,
            len(pq),
            bool(pending),
        )
        return head + self.ratchet.to_bytes() + pending + pq

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError."""
        try:
            base, local, remote, local_id, remote_id, pq_size, has_pending = _HEAD.unpack_from(data)
            ratchet, at = Ratchet.read(data, _HEAD.size)
            pending = None
            if has_pending:
                created, one_time, has_one_time, signed, kyber, ciphertext = _PENDING.unpack_from(
                    data, at
                )
                at += _PENDING.size
                pending = PendingPreKey(
                    created, one_time if has_one_time else None, signed, kyber, ciphertext
                )
            if at + pq_size != len(data):
                raise StoreError("A stored session is damaged.")
            return cls(
                PublicKey(base),
                PublicKey(local),
                PublicKey(remote),
                local_id,
                remote_id,
                ratchet,
                PostQuantumRatchet.from_bytes(data[at:]),
                pending,
            )
        except (struct.error, InvalidKey):
            raise StoreError("A stored session is damaged.") from None

    def __repr__(self) -> str:
        pending = self.pending is not None
        return f"SessionState({self.base_key}, {self.ratchet}, {self.pq}, pending={pending})"


class SessionRecord:
    """The sessions with one peer device: the current one and up to 40 archived, newest first.

    A place in the record is 0 for the current session and 1, 2… for the archived ones.
    Archived sessions stay bytes until one of them is asked for.
    """

    __slots__ = ("_archive", "_current", "_current_bytes")

    def __init__(self, current: SessionState | None = None, archive: bytes = b"") -> None:
        self._current = current
        self._current_bytes = b""
        self._archive = archive

    @property
    def current(self) -> SessionState | None:
        """The session to send in. Take a copy before using it."""
        if self._current is None and self._current_bytes:
            self._current = SessionState.from_bytes(self._current_bytes)
        return self._current

    def sessions(self) -> Iterator[tuple[int, SessionState]]:
        """Each session with its place. Take a copy before using one. Raises StoreError."""
        if self.current is not None:
            yield 0, self.current
        for place, data in enumerate(self._archived(), start=1):
            yield place, SessionState.from_bytes(data)

    def find(self, base_key: PublicKey) -> tuple[int, SessionState] | None:
        """The session that was begun with this base key."""
        current = self.current
        if current is not None and current.base_key == base_key:
            return 0, current
        for place, data in enumerate(self._archived(), start=1):
            if data.startswith(base_key.data):
                return place, SessionState.from_bytes(data)
        return None

    def candidates(self, ratchet_key: PublicKey) -> Iterator[tuple[int, SessionState, int]]:
        """The sessions a message under `ratchet_key` may belong to: place, state, allowance.

        The allowance is how many messages it may skip. A session that has received under the
        key before is the only candidate. Otherwise the message begins a new chain in one of
        them, and only trying tells in which. A forged counter can make each trial as long as
        the allowance, so the archived sessions share one: all trials together cost no more than
        two, however many sessions there are.
        """
        current = self.current
        if current is not None and current.ratchet.knows(ratchet_key):
            yield 0, current, SKIP_AHEAD
            return
        archived = self._archived()
        if ratchet_key.data in self._archive:
            for place, data in enumerate(archived, start=1):
                if ratchet_key.data in data:
                    state = SessionState.from_bytes(data)
                    if state.ratchet.knows(ratchet_key):
                        yield place, state, SKIP_AHEAD
                        return
        if current is not None:
            yield 0, current, SKIP_AHEAD
        for place, data in enumerate(archived, start=1):
            yield place, SessionState.from_bytes(data), SKIP_AHEAD // len(archived)

    def begun(self, state: SessionState) -> SessionRecord:
        """With a new session as the current one, the one before archived."""
        return SessionRecord(state, _packed(self._with_current_archived()))

    def archived(self) -> SessionRecord:
        """With the current session archived and none in its place."""
        return SessionRecord(None, _packed(self._with_current_archived()))

    def updated(self, place: int, state: SessionState) -> SessionRecord:
        """With the session at `place` used: it becomes the current one.

        A session with an identity other than the current session's stays archived: a late
        message of a peer's former installation must not turn our replies towards it.
        """
        if place == 0:
            return SessionRecord(state, self._archive)
        archived = self._archived()
        if self.current is not None and self.current.remote_identity != state.remote_identity:
            archived[place - 1] = state.to_bytes()
            return SessionRecord(self.current, _packed(archived))
        del archived[place - 1]
        if self.current is not None:
            archived.insert(0, self.current.to_bytes())
        return SessionRecord(state, _packed(archived))

    def to_bytes(self) -> bytes:
        """Format byte, then each session with its size before it; no current one has size 0."""
        if self._current is not None:
            self._current_bytes = self._current.to_bytes()
        current = self._current_bytes
        return b"".join((bytes((_FORMAT,)), _SIZE.pack(len(current)), current, self._archive))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises StoreError; what is damaged further inside may show only when it is used."""
        if data and data[0] > _FORMAT:
            raise StoreTooNew
        if data and data[0] == _FORMAT_WITHOUT_PQ:
            return cls()
        if len(data) < 1 + _SIZE.size or data[0] != _FORMAT:
            raise StoreError("A stored session record is damaged.")
        start = 1 + _SIZE.size
        end = start + int.from_bytes(data[1:start], "big")
        if end > len(data):
            raise StoreError("A stored session record is damaged.")
        record = cls(None, data[end:])
        record._current_bytes = data[start:end]
        return record

    def _with_current_archived(self) -> list[bytes]:
        archived = self._archived()
        if self.current is not None:
            archived.insert(0, self.current.to_bytes())
        return archived[:ARCHIVED_SESSIONS]

    def _archived(self) -> list[bytes]:
        states = []
        data, at = self._archive, 0
        while at < len(data):
            start = at + _SIZE.size
            at = start + int.from_bytes(data[at:start], "big")
            if at > len(data):
                raise StoreError("A stored session record is damaged.")
            states.append(data[start:at])
        return states

    def __repr__(self) -> str:
        return f"SessionRecord({self.current}, archived={len(self._archived())})"


def _packed(states: list[bytes]) -> bytes:
    return b"".join(_SIZE.pack(len(state)) + state for state in states)
