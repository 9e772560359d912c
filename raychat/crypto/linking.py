"""Linking a device: the code a person carries over, and the two messages it protects.

    code      = id (5 bytes) | K (15 bytes)
    text      = "raychat-link:" and the code in Crockford's base32, 8 groups of 4 characters
    request   = msgpack [payload, HMAC-SHA256(K, "raychat link request" 00 | id | payload)]
    payload   = msgpack [1, ephemeral, identity, name, platform, at]
    message   = msgpack [ephemeral, AES-256-GCM(key, nonce 0, provision)]
    key       = HKDF(DH(ephemerals) | DH(primary's ephemeral, identity), salt K,
                     "raychat link message" 00 | id | request's ephemeral | identity | ephemeral)
    provision = msgpack [1, account, number, list, server, name, settings, history_key]

The new device shows the code as a QR code or as text and leaves the request with the server,
which knows `id` and never K. The primary reads the code, so it knows that the request comes from
the device the person looks at, shows what it says, and once the person agrees answers with the
message: only who made the request can open it, and only who knows K can have written it. Who can
read the code over the person's shoulder can do neither without also being the server.

A code is good for one link. Its text has its own beginning: what does not begin like this is
never taken for a link, and a link code opens nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from raychat import limits
from raychat.crypto.curve import PUBLIC_BYTES, KeyPair, PublicKey
from raychat.crypto.kdf import hkdf
from raychat.errors import BadCode, BadMac, CodeExpired, Malformed, TooLarge
from raychat.ids import AccountId, PhoneNumber, Secret

FORMAT: Final = 1
PREFIX: Final = "raychat-link:"
ID_BYTES: Final = 5
KEY_BYTES: Final = 15
HISTORY_KEY_BYTES: Final = 32
NAME_CHARACTERS: Final = 64
NUMBER_CHARACTERS: Final = 16
MAX_TIME: Final = 2**53 - 1

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# What people type for what they read (Crockford): no letter looks like a digit that is not it.
_TYPED: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})
_CHARACTERS: Final = (ID_BYTES + KEY_BYTES) * 8 // 5
_REQUEST: Final = b"raychat link request\x00"
_MESSAGE: Final = b"raychat link message\x00"
_NONCE: Final = bytes(12)  # the key seals one message


@dataclass(frozen=True, slots=True)
class LinkCode:
    """What the new device shows and the primary reads: the session's name and the secret K."""

    id: bytes
    key: Secret

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_bytes(ID_BYTES), Secret(secrets.token_bytes(KEY_BYTES)))

    @property
    def text(self) -> str:
        """For the QR code and for people: both are the same."""
        number = int.from_bytes(self.id + self.key)
        places = range(_CHARACTERS - 1, -1, -1)
        written = "".join(_ALPHABET[number >> 5 * place & 31] for place in places)
        return PREFIX + "-".join(written[at : at + 4] for at in range(0, _CHARACTERS, 4))

    @classmethod
    def parse(cls, text: str) -> Self:
        """A code that was scanned or typed; case, hyphens and spaces don't matter, and the
        beginning may be left out by who types. Raises BadCode."""
        written = text.strip()
        if written[: len(PREFIX)].lower() == PREFIX:
            written = written[len(PREFIX) :]
        written = written.upper().translate(_TYPED)
        if len(written) != _CHARACTERS or not set(written) <= set(_ALPHABET):
            raise BadCode("That is not a link code; read it again from the new device's screen.")
        number = 0
        for character in written:
            number = number << 5 | _ALPHABET.index(character)
        data = number.to_bytes(ID_BYTES + KEY_BYTES)
        return cls(data[:ID_BYTES], Secret(data[ID_BYTES:]))


class LinkRequest(NamedTuple):
    """What a new device says of itself: the person is shown `name` and `platform` before they
    agree. `at` is its clock (ms)."""

    ephemeral: PublicKey
    identity: PublicKey
    name: str
    platform: str
    at: int

    def seal(self, code: LinkCode) -> bytes:
        """The bytes to leave with the server. Raises Malformed for a name not to be shown."""
        for text in (self.name, self.platform):
            _name(text)
        payload = msgpack.packb(
            (FORMAT, self.ephemeral.data, self.identity.data, self.name, self.platform, self.at)
        )
        packed: bytes = msgpack.packb((payload, _mac(code, payload)))
        return packed

    @classmethod
    def open(cls, code: LinkCode, data: bytes) -> LinkRequest:
        """A request the server has handed out for a code.

        Raises BadMac if it does not come from the device that showed the code, TooLarge,
        Malformed, InvalidKey.
        """
        if len(data) > limits.LINK_REQUEST_BYTES:
            raise TooLarge("The link request is longer than any may be.")
        match _unpack(data):
            case [bytes(payload), bytes(mac)]:
                pass
            case _:
                raise Malformed("A link request is a payload and its MAC.")
        if not hmac.compare_digest(mac, _mac(code, payload)):
            raise BadMac(
                "The request does not come from the device that shows this code. Do not link it."
            )
        match _unpack(payload):
            case [int(form), bytes(ephemeral), bytes(identity), str(name), str(platform), at] if (
                form == FORMAT and type(at) is int and 0 <= at <= MAX_TIME
            ):
                keys = PublicKey(ephemeral), PublicKey(identity)
                return cls(*keys, _name(name), _name(platform), at)
        raise Malformed("The payload of a link request is not as agreed.")

    def check_age(self, now: int) -> None:
        """Raises CodeExpired unless the request was made lately, by this device's clock (ms)."""
        if abs(now - self.at) > limits.LINK_REQUEST_SECONDS * 1000:
            raise CodeExpired(
                "The code was not made just now. Begin anew on the new device; if that does not "
                "help, set the clocks of both."
            )

    def __repr__(self) -> str:
        return "LinkRequest(…)"


class Provision(NamedTuple):
    """What the primary gives to a new device. `list` is the signed device list with it in it,
    `settings` the synced settings of the account, `history_key` what the transfer of the
    history will be encrypted with."""

    account: AccountId
    number: PhoneNumber
    list: bytes
    server: str
    name: str
    settings: bytes
    history_key: Secret

    def seal(self, code: LinkCode, request: LinkRequest) -> bytes:
        """The message for the device that made the request. Raises TooLarge, InvalidKey."""
        ephemeral = KeyPair.generate()
        shared = ephemeral.private.agree(request.ephemeral)
        shared += ephemeral.private.agree(request.identity)
        key = _message_key(code, shared, request.ephemeral, request.identity, ephemeral.public)
        plaintext = msgpack.packb(
            (
                FORMAT,
                self.account,
                str(self.number),
                self.list,
                self.server,
                self.name,
                self.settings,
                bytes(self.history_key),
            )
        )
        sealed = AESGCM(key).encrypt(_NONCE, plaintext, None)
        packed: bytes = msgpack.packb((ephemeral.public.data, sealed))
        if len(packed) > limits.LINK_MESSAGE_BYTES:
            raise TooLarge("What a new device is to be told does not fit into one message.")
        return packed

    @classmethod
    def open(cls, code: LinkCode, ephemeral: KeyPair, identity: KeyPair, data: bytes) -> Provision:
        """The message of the primary, opened with the keys of the request.

        Raises BadMac if it was not made by who read the code, TooLarge, Malformed, InvalidKey.
        """
        if len(data) > limits.LINK_MESSAGE_BYTES:
            raise TooLarge("The link message is longer than any may be.")
        match _unpack(data):
            case [bytes(point), bytes(sealed)] if len(point) == PUBLIC_BYTES:
                theirs = PublicKey(point)
            case _:
                raise Malformed("A link message is a key and a ciphertext.")
        shared = ephemeral.private.agree(theirs) + identity.private.agree(theirs)
        key = _message_key(code, shared, ephemeral.public, identity.public, theirs)
        try:
            plaintext = AESGCM(key).decrypt(_NONCE, sealed, None)
        except InvalidTag:
            raise BadMac("The answer does not come from who read this device's code.") from None
        match _unpack(plaintext):
            case [
                int(form),
                bytes(account),
                str(number),
                bytes(listed),
                str(server),
                str(name),
                bytes(settings),
                bytes(history_key),
            ] if (
                form == FORMAT
                and len(account) == 16
                and 2 <= len(number) <= NUMBER_CHARACTERS
                and number[0] == "+"
                and len(history_key) == HISTORY_KEY_BYTES
            ):
                return cls(
                    AccountId(account),
                    PhoneNumber(number),
                    listed,
                    server,
                    name,
                    settings,
                    Secret(history_key),
                )
        raise Malformed("What the link message says is not as agreed.")

    def __repr__(self) -> str:
        return "Provision(…)"


def _mac(code: LinkCode, payload: bytes) -> bytes:
    return hmac.new(code.key, _REQUEST + code.id + payload, hashlib.sha256).digest()


def _message_key(
    code: LinkCode,
    shared: bytes,
    requested: PublicKey,
    identity: PublicKey,
    answered: PublicKey,
) -> bytes:
    info = _MESSAGE + code.id + requested.data + identity.data + answered.data
    return hkdf(shared, info, 32, salt=code.key)


def _name(text: str) -> str:
    """A name is shown to a person who decides by it: nothing that could change the line."""
    if not 0 < len(text) <= NAME_CHARACTERS or not text.isprintable():
        raise Malformed(f"A device's name has 1 to {NAME_CHARACTERS} printable characters.")
    return text


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, max_ext_len=0, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The link bytes are not msgpack.") from error
