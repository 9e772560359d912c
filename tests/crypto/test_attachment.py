from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto import attachment as attachment_module
from raychat.crypto.attachment import (
    SMALLEST_PADDED,
    Attachment,
    AttachmentDecryptor,
    AttachmentEncryptor,
    blob_size,
    decrypt,
    encrypt,
    padded_size,
    segment_of,
    segment_range,
    table_range,
)
from raychat.errors import BadMac, InvalidKey, InvalidMessage, TooLarge
from raychat.limits import ATTACHMENT_BYTES, SEGMENT_BYTES
from tests.crypto.fields import flipped

PLAIN = SEGMENT_BYTES - 16
SIZES = [0, 1, 1023, 1024, 1025, PLAIN - 1, PLAIN, PLAIN + 1, 3 * PLAIN, 300_000]


def pattern(size: int) -> bytes:
    return hashlib.shake_128(b"file").digest(size)


def encrypted(file: bytes, piece: int = 10_000) -> tuple[bytes, Attachment]:
    blob = bytearray()
    pieces = (file[at : at + piece] for at in range(0, len(file), piece))
    attachment = encrypt(pieces, len(file), blob.extend)
    return bytes(blob), attachment


def reader(blob: bytes) -> Callable[[int, int], bytes]:
    return lambda start, stop: blob[start:stop]


def opened(blob: bytes, attachment: Attachment) -> bytes:
    return b"".join(decrypt(attachment, reader(blob)))


FILE = pattern(200_000)
BLOB, ATTACHMENT = encrypted(FILE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1_000, 65_520, 1_000_000])
def test_a_file_comes_back_and_its_blob_has_the_size_foretold(size: int, piece: int) -> None:
    file = pattern(size)
    blob, attachment = encrypted(file, piece)
    assert len(blob) == blob_size(size)
    assert opened(blob, attachment) == file
    assert attachment.size == size


def test_two_blobs_of_one_file_share_nothing() -> None:
    blob, attachment = encrypted(FILE)
    assert attachment.key != ATTACHMENT.key
    assert blob[:64] != BLOB[:64]


def test_files_padded_to_one_size_have_blobs_of_one_size() -> None:
    sizes = [size for size in range(100_000, 102_000) if padded_size(size) == 100_352]
    assert len(sizes) > 300
    assert {blob_size(size) for size in sizes} == {blob_size(100_352)}


@pytest.mark.parametrize("size", [0, 1, 500, SMALLEST_PADDED])
def test_small_files_look_alike(size: int) -> None:
    assert padded_size(size) == SMALLEST_PADDED


@given(st.integers(SMALLEST_PADDED, ATTACHMENT_BYTES))
def test_padding_adds_at_most_an_eighth_and_never_takes_away(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded <= size * 1.12
    assert padded_size(padded) == padded


@given(st.integers(10, 31))
def test_padded_sizes_are_few(exponent: int) -> None:
    # As many bits are kept as the exponent has, and one doubling has so many sizes.
    start = 1 << exponent
    sizes = {padded_size(start + start * part // 1000) for part in range(1000)} - {2 * start}
    assert len(sizes) <= 1 << exponent.bit_length()


def test_segments_open_in_any_order() -> None:
    start, stop = table_range(ATTACHMENT.size)
    assert stop == len(BLOB)
    decryptor = AttachmentDecryptor(ATTACHMENT, BLOB[start:stop])
    parts = {}
    for index in reversed(range(decryptor.segments)):
        start, stop = segment_range(ATTACHMENT.size, index)
        parts[index] = decryptor.open(index, BLOB[start:stop])
    assert b"".join(parts[index] for index in sorted(parts)) == FILE


def test_a_byte_is_found_in_its_segment() -> None:
    start, stop = table_range(ATTACHMENT.size)
    decryptor = AttachmentDecryptor(ATTACHMENT, BLOB[start:stop])
    for position in (0, PLAIN - 1, PLAIN, 199_999):
        index = segment_of(position)
        start, stop = segment_range(ATTACHMENT.size, index)
        assert decryptor.open(index, BLOB[start:stop])[position % PLAIN] == FILE[position]


def test_no_byte_is_released_before_the_digest_is_checked() -> None:
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return BLOB[start:stop]

    wrong = Attachment(ATTACHMENT.key, bytes(32), ATTACHMENT.size)
    with pytest.raises(BadMac):
        next(decrypt(wrong, read))
    assert asked == [table_range(ATTACHMENT.size)]


def test_a_change_anywhere_is_refused_and_nothing_of_its_segment_is_released() -> None:
    table, _ = table_range(ATTACHMENT.size)
    for at in range(0, len(BLOB), 997):
        released = b""
        with pytest.raises(BadMac):
            for part in decrypt(ATTACHMENT, reader(flipped(BLOB, at))):
                released += part
        assert released == (FILE[: at // SEGMENT_BYTES * PLAIN] if at < table else b"")


def test_segments_of_padding_are_not_asked_for() -> None:
    size = 10 * 1024 * 1024 + 1
    file = bytes(size)
    blob, attachment = encrypted(file, 1_000_000)
    asked: list[int] = []

    def read(start: int, stop: int) -> bytes:
        asked.append(stop)
        return blob[start:stop]

    assert b"".join(decrypt(attachment, read)) == file
    last = segment_of(size - 1)
    assert max(asked[1:]) == segment_range(size, last)[1] < table_range(size)[0]
    decryptor = AttachmentDecryptor(attachment, blob[table_range(size)[0] :])
    assert decryptor.segments > last + 1
    start, stop = segment_range(size, last + 1)
    assert decryptor.open(last + 1, blob[start:stop]) == b""


def test_segments_cannot_change_places() -> None:
    first, second = BLOB[:SEGMENT_BYTES], BLOB[SEGMENT_BYTES : 2 * SEGMENT_BYTES]
    with pytest.raises(BadMac, match="Segment 0"):
        opened(second + first + BLOB[2 * SEGMENT_BYTES :], ATTACHMENT)
    start, stop = table_range(ATTACHMENT.size)
    table = BLOB[start:stop]
    swapped = second + first + BLOB[2 * SEGMENT_BYTES : start]
    with pytest.raises(BadMac):
        opened(swapped + table[32:64] + table[:32] + table[64:], ATTACHMENT)


def test_a_file_cannot_be_cut_or_extended() -> None:
    table = BLOB[table_range(ATTACHMENT.size)[0] :]
    # The last of these has as many segments as the file itself.
    for size in (ATTACHMENT.size - PLAIN, ATTACHMENT.size + PLAIN, 250_000):
        other = Attachment(ATTACHMENT.key, ATTACHMENT.digest, size)
        for written in (table, table[:-32], table + table[-32:]):
            with pytest.raises(BadMac):
                AttachmentDecryptor(other, written)
    for written in (b"", table[:-32], table + bytes(32), table[:-1]):
        with pytest.raises(BadMac):
            AttachmentDecryptor(ATTACHMENT, written)


def test_who_knows_the_key_cannot_write_another_blob_for_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raychat.crypto.attachment.os.urandom", lambda _: ATTACHMENT.key)
    blob, forged = encrypted(bytes(len(FILE)))
    assert forged.key == ATTACHMENT.key
    with pytest.raises(BadMac):
        next(decrypt(ATTACHMENT, reader(blob)))
    # Nor one segment: it would pass its tag and is not in the table.
    table = table_range(ATTACHMENT.size)[0]
    with pytest.raises(BadMac, match="Segment 0"):
        next(decrypt(ATTACHMENT, reader(blob[:table] + BLOB[table:])))


def test_equal_segments_do_not_look_equal() -> None:
    blob, _ = encrypted(bytes(3 * PLAIN))
    segments = {blob[at : at + SEGMENT_BYTES] for at in range(0, 3 * SEGMENT_BYTES, SEGMENT_BYTES)}
    assert len(segments) == 3
    assert len({segment[:16] for segment in segments}) == 3


def test_a_digest_belongs_to_one_key() -> None:
    other = Attachment(bytes(32), ATTACHMENT.digest, ATTACHMENT.size)
    with pytest.raises(BadMac):
        AttachmentDecryptor(other, BLOB[table_range(ATTACHMENT.size)[0] :])


def test_a_segment_in_the_table_must_also_pass_its_tag() -> None:
    # A table made for garbage: only the maker of the digest can do it, and gains nothing.
    garbage = bytes(padded_size(10) + 16)
    table = hashlib.sha256(garbage).digest()
    _, mark = attachment_module._keys(ATTACHMENT.key, 10)
    made = Attachment(ATTACHMENT.key, attachment_module._digest(mark, table), 10)
    with pytest.raises(BadMac, match="Segment 0"):
        AttachmentDecryptor(made, table).open(0, garbage)
    for other in (b"", table * 2, table[:31]):
        made = Attachment(ATTACHMENT.key, attachment_module._digest(mark, other), 10)
        with pytest.raises(BadMac):
            AttachmentDecryptor(made, other)


@pytest.mark.parametrize("index", [-1, 4])
def test_there_are_no_other_segments(index: int) -> None:
    decryptor = AttachmentDecryptor(ATTACHMENT, BLOB[table_range(ATTACHMENT.size)[0] :])
    assert decryptor.segments == 4
    with pytest.raises(InvalidMessage):
        decryptor.open(index, b"")


def test_a_file_must_have_the_size_that_was_said() -> None:
    encryptor = AttachmentEncryptor(10)
    encryptor.update(b"12345")
    with pytest.raises(InvalidMessage, match="shorter"):
        list(encryptor.finish())
    with pytest.raises(InvalidMessage, match="end"):
        _ = encryptor.attachment
    with pytest.raises(InvalidMessage, match="longer"):
        encryptor.update(b"123456")


def test_a_file_too_large_is_refused() -> None:
    blob_size(ATTACHMENT_BYTES)
    for size in (-1, ATTACHMENT_BYTES + 1):
        for make in (
            AttachmentEncryptor,
            blob_size,
            table_range,
            lambda size: segment_range(size, 0),
            lambda size: Attachment(bytes(32), bytes(32), size),
        ):
            with pytest.raises(TooLarge):
                make(size)


@pytest.mark.parametrize(("key", "digest"), [(31, 32), (32, 31)])
def test_key_and_digest_have_thirty_two_bytes(key: int, digest: int) -> None:
    with pytest.raises(InvalidKey):
        Attachment(bytes(key), bytes(digest), 0)


def test_an_attachment_does_not_show_its_key() -> None:
    attachment = Attachment(b"k" * 32, bytes(32), 5)
    assert "kkk" not in repr(attachment)
    assert "6b6b" not in repr(attachment)


def test_memory_does_not_grow_with_the_file() -> None:
    size = 40 * 1024 * 1024
    piece = bytes(100_000)
    table = bytearray()
    end = table_range(size)[0]
    written = 0

    def source() -> Iterator[bytes]:
        for start in range(0, size, len(piece)):
            yield piece[: size - start]

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data)
        if written > end:
            table.extend(data[-(written - end) :])

    tracemalloc.start()
    attachment = encrypt(source(), size, write)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024
    assert AttachmentDecryptor(attachment, bytes(table)).segments == len(table) // 32


@given(st.data())
@settings(max_examples=50)
def test_any_cutting_into_pieces_gives_the_same_file(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, 150_000), max_size=6)))
    file = FILE[:150_000]
    encryptor, blob = AttachmentEncryptor(len(file)), bytearray()
    for start, stop in zip([0, *cuts], [*cuts, len(file)], strict=True):
        blob += encryptor.update(file[start:stop])
    for piece in encryptor.finish():
        blob += piece
    assert opened(bytes(blob), encryptor.attachment) == file


@given(st.binary(max_size=200), st.integers(0, 200_000))
def test_any_bytes_for_a_table_or_a_segment_are_refused(data: bytes, size: int) -> None:
    with pytest.raises(BadMac):
        AttachmentDecryptor(Attachment(ATTACHMENT.key, ATTACHMENT.digest, size), data)
    decryptor = AttachmentDecryptor(ATTACHMENT, BLOB[table_range(ATTACHMENT.size)[0] :])
    with pytest.raises(BadMac):
        decryptor.open(size % 4, data)
