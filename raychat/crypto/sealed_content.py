"""What a sealed message holds: the message, who sent it, and what to do if it can't be read.

A protobuf: kind, sender certificate, message, hint, group. The numbers of the kinds are those
of Signal's sealed messages, which number two of them otherwise than `MessageKind` does.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Self

from raychat.crypto.certificates import SenderCertificate
from raychat.crypto.message import CiphertextMessage, MessageKind
from raychat.crypto.protobuf import bytes_field, number_field, parse
from raychat.errors import InvalidMessage

_NUMBERS: Final = frozenset((1, 4))
_STRINGS: Final = frozenset((2, 3, 5))


class SealedKind(enum.IntEnum):
    """How the message inside is encrypted."""

    PRE_KEY = 1
    """A PreKeySignalMessage."""
    WHISPER = 2
    """A SignalMessage."""
    SENDER_KEY = 7
    """A SenderKeyMessage."""
    PLAINTEXT = 8
    """Not at all: a report that a message could not be read, and nothing else."""

    @classmethod
    def of(cls, kind: MessageKind) -> SealedKind:
        """The number here of a message of a session."""
        return _OF_SESSIONS[kind]


class ContentHint(enum.IntEnum):
    """What the reader should do about a message that it can't decrypt."""

    DEFAULT = 0
    """Tell the person at once: the sender has no copy to send again."""
    RESENDABLE = 1
    """Wait: the sender can send it again when told."""
    IMPLICIT = 2
    """Say nothing: it was a receipt or the like."""


_OF_SESSIONS: Final = {
    MessageKind.PRE_KEY: SealedKind.PRE_KEY,
    MessageKind.WHISPER: SealedKind.WHISPER,
}
_SESSION_KINDS: Final = {sealed: kind for kind, sealed in _OF_SESSIONS.items()}
_KINDS: Final = {int(kind): kind for kind in SealedKind}
_HINTS: Final = {int(hint): hint for hint in ContentHint}


class SealedContent(NamedTuple):
    """A message with its sender's certificate. `group` is empty outside groups."""

    kind: SealedKind
    certificate: SenderCertificate
    message: bytes
    hint: ContentHint = ContentHint.DEFAULT
    group: bytes = b""

    def session_message(self) -> CiphertextMessage:
        """The message inside, for the session with its sender.

        Raises InvalidMessage if it is not one of a session.
        """
        kind = _SESSION_KINDS.get(self.kind)
        if kind is None:
            raise InvalidMessage(f"A message of kind {self.kind.name} belongs to no session.")
        return CiphertextMessage(kind, self.message)

    def to_bytes(self) -> bytes:
        out = (
            number_field(1, self.kind)
            + bytes_field(2, self.certificate.to_bytes())
            + bytes_field(3, self.message)
        )
        if self.hint:
            out += number_field(4, self.hint)
        if self.group:
            out += bytes_field(5, self.group)
        return out

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises InvalidMessage. A hint that is not known here is taken for the default."""
        numbers, strings = parse(data, _NUMBERS, _STRINGS)
        try:
            kind, certificate, message = numbers[1], strings[2], strings[3]
        except KeyError as missing:
            raise InvalidMessage(f"The content has no field {missing.args[0]}.") from None
        if kind not in _KINDS:
            raise InvalidMessage(f"There is no kind {kind} of sealed message.")
        return cls(
            _KINDS[kind],
            SenderCertificate.parse(certificate),
            message,
            _HINTS.get(numbers.get(4, 0), ContentHint.DEFAULT),
            strings.get(5, b""),
        )
