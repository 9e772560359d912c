from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto.spqr.erasure import CHUNK_BYTES, Chunk, Decoder, Encoder

SIZES = (3, 5, 30, 36)


def blob(chunks: int) -> bytes:
    return random.Random(chunks).randbytes(chunks * CHUNK_BYTES)


def chunks(data: bytes, count: int) -> list[Chunk]:
    encoder, found = Encoder(data), []
    for _ in range(count):
        encoder, chunk = encoder.next()
        found.append(chunk)
    return found


def decoded(needed: int, given_chunks: list[Chunk]) -> bytes | None:
    decoder = Decoder(needed)
    for chunk in given_chunks:
        decoder = decoder.added(chunk)
    return decoder.blob()


@pytest.mark.parametrize("size", SIZES)
def test_the_first_chunks_are_the_blob(size: int) -> None:
    data = blob(size)
    first = chunks(data, size)
    assert [chunk.number for chunk in first] == list(range(size))
    assert b"".join(chunk.data for chunk in first) == data


@given(st.sampled_from(SIZES), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_any_so_many_chunks_give_the_blob_back(size: int, chance: random.Random) -> None:
    data = blob(size)
    picked = chance.sample(chunks(data, 3 * size), size)
    assert decoded(size, picked[:-1]) is None
    assert decoded(size, picked) == data


def test_a_chunk_given_twice_counts_once() -> None:
    data = blob(5)
    row = chunks(data, 9)
    assert decoded(5, [*row[:4], row[0], row[3]]) is None
    assert decoded(5, [*row[:4], row[0], row[8]]) == data


def test_a_whole_decoder_takes_no_more() -> None:
    data = blob(3)
    assert decoded(3, [*chunks(data, 3), Chunk(7, b"x" * CHUNK_BYTES)]) == data


def test_chunk_numbers_wrap_round() -> None:
    encoder = Encoder(blob(3), 65_535)
    encoder, last = encoder.next()
    _, first = encoder.next()
    assert (last.number, first.number) == (65_535, 0)
    assert first.data == blob(3)[:CHUNK_BYTES]
    assert decoded(3, [last, first, chunks(blob(3), 3)[2]]) == blob(3)


def test_an_encoder_and_a_decoder_read_back() -> None:
    encoder = Encoder(blob(5), 77)
    assert Encoder.from_bytes(encoder.to_bytes()) == encoder
    decoder = Decoder(5).added(Chunk(77, bytes(CHUNK_BYTES)))
    assert Decoder.from_bytes(5, decoder.to_bytes()) == decoder


@pytest.mark.parametrize("size", [1, 33, 35, 5 * 34, 6 * 34])
def test_what_no_unfinished_decoder_can_hold_is_refused(size: int) -> None:
    assert Decoder.from_bytes(5, bytes(size)) is None


def test_a_decoder_knows_what_is_missing_and_how_the_blob_begins() -> None:
    data = blob(5)
    row = chunks(data, 5)
    decoder = Decoder(5)
    assert (decoder.missing, decoder.start()) == (5, b"")
    for count, chunk in enumerate(row, 1):
        decoder = decoder.added(chunk)
        assert (decoder.missing, decoder.start()) == (5 - count, data[: count * CHUNK_BYTES])
    decoder = Decoder(5).added(row[0]).added(row[2]).added(row[1])
    assert (decoder.missing, decoder.start()) == (2, data[:CHUNK_BYTES])
