"""Link batches: cut from the stream, proved, accepted once, kept until done."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.errors import Denied, Malformed, RaychatError
from raychat.ids import Secret
from raychat.wire import batch
from raychat.wire.batch import Greeting, Incoming, Outgoing, Splitter

SECRET = Secret(b"s" * 32)
DIALER = Greeting("gateway-0", b"d" * 16, b"n" * 16)
LISTENER = Greeting("host-0", b"l" * 16, b"m" * 16)


@given(
    st.lists(
        st.lists(st.integers() | st.binary(max_size=50), max_size=5).filter(bool), max_size=10
    ),
    st.integers(1, 40),
)
def test_messages_survive_any_cutting_of_the_stream(messages, step) -> None:
    messages = [[x for x in m if not isinstance(x, int) or -(2**63) <= x < 2**63] for m in messages]
    stream = b"".join(batch.pack(message) for message in messages)
    splitter = Splitter()
    got = []
    for start in range(0, len(stream), step):
        got += list(splitter.feed(stream[start : start + step]))
    assert got == messages


@given(st.binary(max_size=300))
def test_hostile_streams_raise_only_our_errors(data) -> None:
    try:
        for message in Splitter().feed(data):
            for read in (batch.read_hello, batch.read_answer, batch.read_end, batch.read_batch):
                with contextlib.suppress(RaychatError):
                    read(message)
    except RaychatError:
        pass


def test_a_proof_is_bound_to_role_names_and_nonces() -> None:
    proof = batch.proof(SECRET, b"d", DIALER, LISTENER)
    batch.check_proof(proof, SECRET, b"d", DIALER, LISTENER)
    for role, dialer, listener, secret in (
        (b"l", DIALER, LISTENER, SECRET),
        (b"d", DIALER._replace(name="gateway-1"), LISTENER, SECRET),
        (b"d", DIALER, LISTENER._replace(nonce=b"x" * 16), SECRET),
        (b"d", DIALER, LISTENER, Secret(b"t" * 32)),
    ):
        with pytest.raises(Denied):
            batch.check_proof(proof, secret, role, dialer, listener)


def test_a_greeting_of_another_version_is_refused() -> None:
    with pytest.raises(RaychatError):
        batch.read_hello(msgpack.unpackb(msgpack.packb([batch.MAGIC, 2, *DIALER])))


def test_what_is_not_done_is_kept_and_sent_again() -> None:
    out = Outgoing()
    assert [out.add([(n,)], 10) for n in range(3)] == [1, 2, 3]
    out.done(1)
    assert out.tail_bytes == 20
    assert [sequence for sequence, _ in out.after(2)] == [3]
    assert [sequence for sequence, _ in out.after(0)] == [2, 3]


def test_a_batch_is_accepted_once() -> None:
    incoming = Incoming()
    assert incoming.accept(5)
    assert not incoming.accept(5)
    assert not incoming.accept(4)
    assert incoming.accept(6)
    with pytest.raises(Malformed):
        incoming.accept(8)
