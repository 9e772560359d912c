"""Files: encrypted in segments, so that any part of one can be checked and opened by itself.

    keys       aes | mark = HKDF(key, "raychat attachment 1" | padded size u64, 64)
    segment i  AES-256-GCM(aes, nonce i) of 65,520 bytes of the padded file: 65,536 with its tag
    blob       segment 0 | … | segment n-1 | table
    table      SHA-256 of each segment
    digest     SHA-256("raychat attachment 1" | mark | table)

The blob goes to a store that nobody has to trust. The key, the digest and the size travel in
an encrypted message, as an `Attachment`. A reader gets the table first (the end of the blob, at
`blob_size`), checks it against the digest, then gets the segments in any order, from any place,
and goes on after a broken download. No byte is released whose segment is not in the table.

Why not one MAC or one digest over the whole file, as Signal has it: then a reader either has
all of it before the first byte may be shown, or shows bytes that nobody has vouched for. A tag
for each segment alone would not do either: in a group every reader knows the key, and one who
is in league with the store could write segments of its own. So the digest stands for every
byte before any is opened, and the tags of GCM are only a second lock.

What cannot be done to a file: cut it, extend it, or move its segments (the table is in the
digest, the padded size in the keys, the place in the nonce), give it two contents under two
keys (the mark ties the digest to one key; GCM alone would allow it), tell its exact size
(`padded_size`). Encrypting the same file twice gives unrelated blobs.

A key is drawn for each file and used for it alone, which is what makes counted nonces safe: an
`AttachmentEncryptor` draws its own and takes none. Memory is one segment and the table, 32
bytes for each segment: 512 KiB for a file of 1 GiB.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from raychat.crypto.kdf import hkdf
from raychat.errors import BadMac, InvalidKey, InvalidMessage, TooLarge
from raychat.limits import ATTACHMENT_BYTES, SEGMENT_BYTES

KEY_BYTES: Final = 32
DIGEST_BYTES: Final = 32
SMALLEST_PADDED: Final = 1_024

_LABEL: Final = b"raychat attachment 1"
_TAG_BYTES: Final = 16
_PLAIN_BYTES: Final = SEGMENT_BYTES - _TAG_BYTES
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Attachment:
    """All that a reader needs beside the blob: its key, its digest, the size of the file."""

    key: bytes
    digest: bytes
    size: int

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES or len(self.digest) != DIGEST_BYTES:
            raise InvalidKey("An attachment has a key and a digest of 32 bytes each.")
        _check_size(self.size)

    def __repr__(self) -> str:
        return f"Attachment({self.digest.hex()[:8]}…, size={self.size})"


def padded_size(size: int) -> int:
    """The size a file of `size` bytes is padded to: at least 1 KiB, at most 12 % more.

    Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PoPETs 2019,
    section 4): a number keeps as many leading bits as its length has bits in turn. It tells
    less about a file than steps of a fixed percentage, and needs no floating point, on whose
    last digit two programs could disagree.
    """
    size = max(size, SMALLEST_PADDED)
    exponent = size.bit_length() - 1
    unit = 1 << exponent - exponent.bit_length()
    return -(-size // unit) * unit


def blob_size(size: int) -> int:
    """How many bytes the blob of a file of `size` bytes has. Raises TooLarge."""
    return _table_offset(size) + _segments(size) * _HASH_BYTES


class AttachmentEncryptor:
    """Encrypts one file of a known size under a new key.

    Hand the file to `update` piece by piece and keep what it returns, then all that `finish`
    yields: that is the blob. Afterwards `attachment` is there.
    """

    def __init__(self, size: int) -> None:
        """Raises TooLarge."""
        _check_size(size)
        self._size = size
        self._key = os.urandom(KEY_BYTES)
        aes, self._mark = _keys(self._key, size)
        self._aead = AESGCM(aes)
        self._taken = 0
        self._waiting = bytearray()
        self._table = bytearray()
        self._attachment: Attachment | None = None

    @property
    def attachment(self) -> Attachment:
        """What opens the blob. Raises InvalidMessage before the blob is complete."""
        if self._attachment is None:
            raise InvalidMessage("The file has not been encrypted to its end.")
        return self._attachment

    def update(self, data: bytes) -> bytes:
        """Take up more of the file. Raises InvalidMessage if it is longer than was said."""
        self._taken += len(data)
        if self._taken > self._size:
            raise InvalidMessage("The file is longer than it was said to be.")
        self._waiting += data
        return self._sealed(last=False)

    def finish(self) -> Iterator[bytes]:
        """The end of the blob, in pieces. Raises InvalidMessage if the file was too short."""
        if self._taken != self._size:
            raise InvalidMessage("The file is shorter than it was said to be.")
        padding = padded_size(self._size) - self._size
        for start in range(0, padding, _PLAIN_BYTES):
            self._waiting += bytes(min(padding - start, _PLAIN_BYTES))
            yield self._sealed(last=False)
        yield self._sealed(last=True)
        table = bytes(self._table)
        digest = _digest(self._mark, table)
        self._attachment = Attachment(self._key, digest, self._size)
        yield table

    def _sealed(self, *, last: bool) -> bytes:
        """The segments that are full, and with `last` what is left over."""
        out = bytearray()
        while len(self._waiting) >= _PLAIN_BYTES or (last and self._waiting):
            plain = bytes(self._waiting[:_PLAIN_BYTES])
            del self._waiting[:_PLAIN_BYTES]
            index = len(self._table) // _HASH_BYTES
            segment = self._aead.encrypt(_nonce(index), plain, None)
            self._table += hashlib.sha256(segment).digest()
            out += segment
        return bytes(out)


class AttachmentDecryptor:
    """Opens the segments of one blob, in any order, once its table has been checked."""

    def __init__(self, attachment: Attachment, table: bytes) -> None:
        """`table` is the end of the blob (see `table_range`). Raises BadMac."""
        self._size = attachment.size
        aes, mark = _keys(attachment.key, self._size)
        if len(table) != self.segments * _HASH_BYTES or not hmac.compare_digest(
            _digest(mark, table), attachment.digest
        ):
            raise BadMac("The file is not the one that was sent.")
        self._aead = AESGCM(aes)
        self._table = table

    @property
    def segments(self) -> int:
        """How many segments the blob has. The last ones may be padding."""
        return _segments(self._size)

    def open(self, index: int, segment: bytes) -> bytes:
        """The part of the file in segment `index`, without padding.

        Raises BadMac if the segment is not the one that was sent; get it again then.
        """
        if not 0 <= index < self.segments:
            raise InvalidMessage(f"The file has {self.segments} segments.")
        at = index * _HASH_BYTES
        found = hashlib.sha256(segment).digest()
        if not hmac.compare_digest(found, self._table[at : at + _HASH_BYTES]):
            raise BadMac(f"Segment {index} of the file is damaged.")
        try:
            plain = self._aead.decrypt(_nonce(index), segment, None)
        except InvalidTag:
            raise BadMac(f"Segment {index} of the file is damaged.") from None
        return plain[: max(self._size - index * _PLAIN_BYTES, 0)]


def table_range(size: int) -> tuple[int, int]:
    """Where the table of a blob begins and ends. Raises TooLarge."""
    return _table_offset(size), blob_size(size)


def segment_range(size: int, index: int) -> tuple[int, int]:
    """Where segment `index` of a blob begins and ends. Raises TooLarge."""
    start = index * SEGMENT_BYTES
    return start, min(start + SEGMENT_BYTES, _table_offset(size))


def segment_of(position: int) -> int:
    """The segment in which the byte `position` of a file is."""
    return position // _PLAIN_BYTES


def encrypt(source: Iterable[bytes], size: int, write: Callable[[bytes], object]) -> Attachment:
    """Encrypt a file that comes in pieces, and hand the blob on in pieces.

    Raises TooLarge, InvalidMessage if the file is not of that size.
    """
    encryptor = AttachmentEncryptor(size)
    for piece in source:
        write(encryptor.update(piece))
    for piece in encryptor.finish():
        write(piece)
    return encryptor.attachment


def decrypt(attachment: Attachment, read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """The file in pieces. `read(start, stop)` gets that part of the blob, in full.

    Each piece has been checked when it comes. Raises BadMac.
    """
    size = attachment.size
    decryptor = AttachmentDecryptor(attachment, read(*table_range(size)))
    for index in range(-(-size // _PLAIN_BYTES)):
        yield decryptor.open(index, read(*segment_range(size, index)))


def _check_size(size: int) -> None:
    if not 0 <= size <= ATTACHMENT_BYTES:
        raise TooLarge(f"A file has at most {ATTACHMENT_BYTES} bytes.")


def _segments(size: int) -> int:
    _check_size(size)
    return -(-padded_size(size) // _PLAIN_BYTES)


def _table_offset(size: int) -> int:
    return padded_size(size) + _segments(size) * _TAG_BYTES


def _keys(key: bytes, size: int) -> tuple[bytes, bytes]:
    keys = hkdf(key, _LABEL + padded_size(size).to_bytes(8, "big"), 64)
    return keys[:32], keys[32:]


def _digest(mark: bytes, table: bytes) -> bytes:
    return hashlib.sha256(_LABEL + mark + table).digest()


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")
