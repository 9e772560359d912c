"""The Braid: eleven states in which two devices exchange one ML-KEM key after another.

Specification: "The ML-KEM Braid Protocol", section 2. In every epoch one side sends an
encapsulation key and the other a ciphertext, a chunk with each message; then they change roles.

    sends the key                               sends the ciphertext
    KeysUnsampled       make a key              NoHeaderReceived       say nothing
    KeysSampled         send the header         HeaderReceived         encapsulate: the secret
    HeaderSent          send the vector         Ct1Sampled             send the first part
    Ct1Received         and acknowledge it      EkReceivedCt1Sampled   until it is acknowledged
    EkSentCt1Received   decapsulate: the secret Ct1Acknowledged        until the vector is here
      -> NoHeaderReceived of the next epoch     Ct2Sampled             send the second part
                                                  -> KeysUnsampled of the next epoch

Each state is a type that holds just what it needs, and no state changes: `send` and `receive`
return the next one, so that a step is undone by forgetting it. A message of an earlier epoch,
and one that the present state has no use for, leaves the state as it is: both only came late.
What makes no difference to a state, the work of a step that is near, may be done before (`Ahead`).
`secret` is the epoch secret, given once by each side:

    HKDF(ML-KEM secret, "…:SCKA Key" || epoch, 32), no salt
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from raychat.crypto.kdf import hkdf
from raychat.crypto.spqr import kem
from raychat.crypto.spqr.ahead import Ahead
from raychat.crypto.spqr.authenticator import LABEL, MAC_BYTES, Authenticator, check_mac
from raychat.crypto.spqr.erasure import CHUNK_BYTES, Decoder, Encoder
from raychat.crypto.spqr.kem import Begun, DecapsulationKey, Encapsulation
from raychat.crypto.spqr.message import Kind, Payload
from raychat.errors import InvalidMessage

HEADER_CHUNKS: Final = (kem.HEADER_BYTES + MAC_BYTES) // CHUNK_BYTES
VECTOR_CHUNKS: Final = kem.VECTOR_BYTES // CHUNK_BYTES
FIRST_CHUNKS: Final = kem.FIRST_BYTES // CHUNK_BYTES
SECOND_CHUNKS: Final = (kem.SECOND_BYTES + MAC_BYTES) // CHUNK_BYTES

_SECRET_LABEL: Final = LABEL + b":SCKA Key"
_NOTHING: Final = Payload(Kind.NONE)
_ACK: Final = Payload(Kind.ACK)
_VECTOR_KINDS: Final = (Kind.VECTOR, Kind.VECTOR_ACK)
_ACK_KINDS: Final = (Kind.ACK, Kind.VECTOR_ACK)


class Sent(NamedTuple):
    """The state after sending, what to send, and the epoch's secret if it was made now."""

    state: State
    payload: Payload
    secret: bytes | None = None

    def __repr__(self) -> str:
        return f"Sent({self.state}, {self.payload.kind.name})"


class Received(NamedTuple):
    """The state after receiving, and the epoch's secret if it was found now."""

    state: State
    secret: bytes | None = None

    def __repr__(self) -> str:
        return f"Received({self.state})"


@dataclass(frozen=True, slots=True, repr=False)
class State:
    """What all eleven have. `auth` already knows the epoch's secret once there is one."""

    epoch: int
    auth: Authenticator

    def send(self) -> Sent:
        """What the next message carries."""
        raise NotImplementedError

    def receive(self, epoch: int, payload: Payload) -> Received:
        """Take up what a message carried. Raises InvalidMessage for one that cannot be."""
        if epoch > self.epoch:
            raise InvalidMessage("The message is of an epoch that cannot have begun.")
        if epoch < self.epoch:
            return Received(self)
        return self._taken(payload)

    def _taken(self, payload: Payload) -> Received:
        return Received(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(epoch={self.epoch})"


# -- the side that sends the encapsulation key -----------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class KeysUnsampled(State):
    """An epoch begins; its key comes with the next message."""

    def send(self) -> Sent:
        key = _KEYS.take(self.auth)
        header, vector = key.public()
        encoder = Encoder(header + self.auth.header_mac(self.epoch, header))
        encoder, chunk = encoder.next()
        state = KeysSampled(self.epoch, self.auth, key, vector, encoder)
        return Sent(state, Payload(Kind.HEADER, chunk))


@dataclass(frozen=True, slots=True, repr=False)
class KeysSampled(State):
    """The header is sent until the first chunk of the ciphertext shows that it has come."""

    key: DecapsulationKey
    vector: bytes
    header: Encoder

    def send(self) -> Sent:
        header, chunk = self.header.next()
        state = KeysSampled(self.epoch, self.auth, self.key, self.vector, header)
        return Sent(state, Payload(Kind.HEADER, chunk))

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if kind is not Kind.FIRST or chunk is None:
            return Received(self)
        first = Decoder(FIRST_CHUNKS).added(chunk)
        return Received(HeaderSent(self.epoch, self.auth, self.key, Encoder(self.vector), first))


@dataclass(frozen=True, slots=True, repr=False)
class HeaderSent(State):
    """The vector is sent while the first part of the ciphertext comes in."""

    key: DecapsulationKey
    vector: Encoder
    first: Decoder

    def send(self) -> Sent:
        vector, chunk = self.vector.next()
        state = HeaderSent(self.epoch, self.auth, self.key, vector, self.first)
        return Sent(state, Payload(Kind.VECTOR, chunk))

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if kind is not Kind.FIRST or chunk is None:
            return Received(self)
        first = self.first.added(chunk)
        whole = first.blob()
        if whole is None:
            return Received(HeaderSent(self.epoch, self.auth, self.key, self.vector, first))
        return Received(Ct1Received(self.epoch, self.auth, self.key, self.vector, whole))


@dataclass(frozen=True, slots=True, repr=False)
class Ct1Received(State):
    """The vector is sent, with an acknowledgement, until the second part begins to come."""

    key: DecapsulationKey
    vector: Encoder
    first: bytes

    def send(self) -> Sent:
        vector, chunk = self.vector.next()
        state = Ct1Received(self.epoch, self.auth, self.key, vector, self.first)
        return Sent(state, Payload(Kind.VECTOR_ACK, chunk))

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if kind is not Kind.SECOND or chunk is None:
            return Received(self)
        second = Decoder(SECOND_CHUNKS).added(chunk)
        self.key.prepare()
        state = EkSentCt1Received(self.epoch, self.auth, self.key, self.first, second)
        return Received(state)


@dataclass(frozen=True, slots=True, repr=False)
class EkSentCt1Received(State):
    """Only the second part is missing; it ends the epoch."""

    key: DecapsulationKey
    first: bytes
    second: Decoder

    def send(self) -> Sent:
        return Sent(self, _ACK)

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if kind is not Kind.SECOND or chunk is None:
            return Received(self)
        decoder = self.second.added(chunk)
        whole = decoder.blob()
        if whole is None:
            state = EkSentCt1Received(self.epoch, self.auth, self.key, self.first, decoder)
            return Received(state)
        second, mac = whole[: kem.SECOND_BYTES], whole[kem.SECOND_BYTES :]
        secret = _epoch_secret(self.epoch, self.key.decapsulate(self.first, second))
        auth = self.auth.updated(self.epoch, secret)
        check_mac(auth.ciphertext_mac(self.epoch, self.first + second), mac)
        return Received(NoHeaderReceived(self.epoch + 1, auth, Decoder(HEADER_CHUNKS)), secret)


# -- the side that sends the ciphertext ------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class NoHeaderReceived(State):
    """The header comes in."""

    header: Decoder

    def send(self) -> Sent:
        return Sent(self, _NOTHING)

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if kind is not Kind.HEADER or chunk is None:
            return Received(self)
        decoder = self.header.added(chunk)
        whole = decoder.blob()
        if whole is None:
            start = decoder.start()
            if len(start) >= kem.HEADER_BYTES:
                _ENCAPSULATIONS.prepare(start[: kem.HEADER_BYTES])
            elif start and self.epoch > 1:  # the message that begins a session is long enough
                kem.prepare(start[: kem.SEED_BYTES])
            return Received(NoHeaderReceived(self.epoch, self.auth, decoder))
        header, mac = whole[: kem.HEADER_BYTES], whole[kem.HEADER_BYTES :]
        check_mac(self.auth.header_mac(self.epoch, header), mac)
        _BEGUN.prepare(header)
        return Received(HeaderReceived(self.epoch, self.auth, header))


@dataclass(frozen=True, slots=True, repr=False)
class HeaderReceived(State):
    """The next message makes the epoch's secret and begins to send the ciphertext."""

    header: bytes

    def send(self) -> Sent:
        encapsulation, (first, shared) = _BEGUN.take(self.header)
        secret = _epoch_secret(self.epoch, shared)
        auth = self.auth.updated(self.epoch, secret)
        encoder, chunk = Encoder(first).next()
        state = Ct1Sampled(self.epoch, auth, encapsulation, encoder, Decoder(VECTOR_CHUNKS))
        return Sent(state, Payload(Kind.FIRST, chunk), secret)


@dataclass(frozen=True, slots=True, repr=False)
class Ct1Sampled(State):
    """The first part is sent while the vector comes in."""

    encapsulation: Encapsulation
    first: Encoder
    vector: Decoder

    def send(self) -> Sent:
        first, chunk = self.first.next()
        state = Ct1Sampled(self.epoch, self.auth, self.encapsulation, first, self.vector)
        return Sent(state, Payload(Kind.FIRST, chunk))

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if chunk is None or kind not in _VECTOR_KINDS:
            return Received(self)
        epoch, auth, encapsulation = self.epoch, self.auth, self.encapsulation
        acknowledged = kind is Kind.VECTOR_ACK
        decoder = self.vector.added(chunk)
        if decoder.missing == 1:
            encapsulation.prepare()
        vector = decoder.blob()
        if vector is not None:
            second = _second(self, self.first.blob, vector)
            if acknowledged:
                return Received(Ct2Sampled(epoch, auth, Encoder(second)))
            return Received(EkReceivedCt1Sampled(epoch, auth, self.first, second))
        if acknowledged:
            blob = self.first.blob
            return Received(Ct1Acknowledged(epoch, auth, encapsulation, blob, decoder))
        return Received(Ct1Sampled(epoch, auth, encapsulation, self.first, decoder))


@dataclass(frozen=True, slots=True, repr=False)
class EkReceivedCt1Sampled(State):
    """The second part is ready; the first is sent until it is acknowledged."""

    first: Encoder
    second: bytes

    def send(self) -> Sent:
        first, chunk = self.first.next()
        state = EkReceivedCt1Sampled(self.epoch, self.auth, first, self.second)
        return Sent(state, Payload(Kind.FIRST, chunk))

    def _taken(self, payload: Payload) -> Received:
        if payload.kind not in _ACK_KINDS:
            return Received(self)
        return Received(Ct2Sampled(self.epoch, self.auth, Encoder(self.second)))


@dataclass(frozen=True, slots=True, repr=False)
class Ct1Acknowledged(State):
    """The first part is there; nothing is sent until the vector has come whole."""

    encapsulation: Encapsulation
    first: bytes
    vector: Decoder

    def send(self) -> Sent:
        return Sent(self, _NOTHING)

    def _taken(self, payload: Payload) -> Received:
        kind, chunk = payload
        if chunk is None or kind not in _VECTOR_KINDS:
            return Received(self)
        decoder = self.vector.added(chunk)
        if decoder.missing == 1:
            self.encapsulation.prepare()
        vector = decoder.blob()
        if vector is None:
            state = Ct1Acknowledged(self.epoch, self.auth, self.encapsulation, self.first, decoder)
            return Received(state)
        second = _second(self, self.first, vector)
        return Received(Ct2Sampled(self.epoch, self.auth, Encoder(second)))


@dataclass(frozen=True, slots=True, repr=False)
class Ct2Sampled(State):
    """The second part is sent until a message of the next epoch shows that it has come."""

    second: Encoder

    def send(self) -> Sent:
        second, chunk = self.second.next()
        return Sent(Ct2Sampled(self.epoch, self.auth, second), Payload(Kind.SECOND, chunk))

    def receive(self, epoch: int, payload: Payload) -> Received:
        if epoch == self.epoch + 1:
            _KEYS.prepare(self.auth)
            return Received(KeysUnsampled(epoch, self.auth))
        # Named, since in a dataclass with slots super() would look in the class before it.
        return State.receive(self, epoch, payload)


def initiator(secret: bytes) -> State:
    """The state of the side that began the session; it sends the first key."""
    return KeysUnsampled(1, Authenticator.begun(secret))


def responder(secret: bytes) -> State:
    return NoHeaderReceived(1, Authenticator.begun(secret), Decoder(HEADER_CHUNKS))


def _second(state: Ct1Sampled | Ct1Acknowledged, first: bytes, vector: bytes) -> bytes:
    """The second part of the ciphertext and the MAC over both."""
    second = state.encapsulation.finish(vector)
    return second + state.auth.ciphertext_mac(state.epoch, first + second)


def _new_key(_: Authenticator) -> DecapsulationKey:
    key = DecapsulationKey.generate()
    key.prepare()
    return key


def _encapsulation(header: bytes) -> Encapsulation:
    encapsulation = Encapsulation.to(header)
    encapsulation.prepare()
    return encapsulation


def _begun(header: bytes) -> tuple[Encapsulation, Begun]:
    encapsulation = _ENCAPSULATIONS.take(header)
    return encapsulation, encapsulation.begin()


_KEYS: Final = Ahead(_new_key)
"""Keys that are not sent yet. An authenticator stands for its session and epoch."""
_ENCAPSULATIONS: Final = Ahead(_encapsulation)
"""Those to a header whose MAC has not come yet."""
_BEGUN: Final = Ahead(_begun)
"""Those to a header that is known to be genuine, with what is sent first."""


def _epoch_secret(epoch: int, shared: bytes) -> bytes:
    return hkdf(shared, _SECRET_LABEL + epoch.to_bytes(8, "big"), 32)
