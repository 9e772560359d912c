"""Device frames: what is packed comes back, and no bytes can do worse than a typed error."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import Malformed, RaychatError, TooLarge, Unsupported
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId, Secret
from raychat.wire import frames
from raychat.wire.frames import (
    Ack,
    Devices,
    Envelope,
    Goodbye,
    Hello,
    Outcome,
    Part,
    Receipt,
    Refused,
    Send,
    Sent,
    Welcome,
)

accounts = st.binary(min_size=16, max_size=16).map(AccountId)
devices = st.integers(1, 127).map(DeviceId)
counts = st.integers(0, frames.MAX_COUNT)
times = st.integers(0, frames.MAX_TIME)
ids = st.integers(1, frames.MAX_COUNT).map(MessageId)
bodies = st.binary(max_size=500)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=30,
)


def only(data: bytes) -> object:
    (raw,) = frames.split(data)
    return frames.to_server(raw)


@given(accounts, devices, st.binary(min_size=32, max_size=32), counts, st.lists(counts, max_size=9))
def test_hello_comes_back(account, device, token, seen, failed) -> None:
    hello = Hello(1, account, device, Secret(token), InboxNumber(seen), failed, 7)
    assert only(frames.pack_hello(hello)) == hello


@given(accounts, ids, st.lists(st.tuples(devices, counts, counts, bodies), min_size=1, max_size=5))
def test_send_comes_back(to, message, parts) -> None:
    packed = frames.pack_send(Send(to, message, [Part(*part) for part in parts]))
    assert only(packed) == (to, message, [list(part) for part in parts])


@given(counts, st.lists(counts, max_size=9))
def test_ack_comes_back(upto, failed) -> None:
    assert only(frames.pack_ack(upto, failed)) == Ack(InboxNumber(upto), failed)


@given(accounts, devices, ids, counts, times, bodies)
def test_what_the_server_says_comes_back_in_order(
    account, device, message, count, at, body
) -> None:
    said = [
        Welcome(1, at, 2, InboxNumber(3), InboxNumber(4), 5, 6),
        Sent(account, message, at),
        Refused(account, message, "device-list", "why", True, ((device, 1), (device, 2)), 3),
        Envelope(InboxNumber(count), account, device, 1, message, at, 2, body),
        Receipt(count, account, Outcome.EXPIRED, [1, 3, 5, 5], device, 7),
        Goodbye("replaced", "elsewhere", 1, 2),
        Devices(count),
    ]
    packed = (
        frames.pack_welcome(said[0])
        + frames.pack_sent(account, message, at)
        + frames.pack_refused(said[2])
        + frames.pack_envelope(*said[3])
        + frames.pack_receipt(*said[4])
        + frames.pack_goodbye(said[5])
        + frames.pack_devices(count)
    )
    assert list(frames.to_device(packed)) == said


@given(st.binary(max_size=2_000))
def test_hostile_bytes_raise_only_our_errors(data) -> None:
    try:
        for raw in frames.split(data):
            frames.to_server(raw)
    except RaychatError:
        pass
    with contextlib.suppress(RaychatError):
        list(frames.to_device(data))


@given(st.lists(anything, max_size=10))
def test_hostile_structures_raise_only_our_errors(structure) -> None:
    data = msgpack.packb(structure)
    try:
        for raw in frames.split(data):
            frames.to_server(raw)
    except RaychatError:
        pass
    with contextlib.suppress(RaychatError):
        list(frames.to_device(data))


@given(st.sampled_from([1, 2, 3, 16, 17, 18, 19, 20, 21, 22]), st.lists(anything, max_size=10))
def test_known_types_with_hostile_fields_raise_only_our_errors(kind, fields) -> None:
    data = msgpack.packb([kind, *fields])
    for decode in (lambda: list(frames.to_device(data)), lambda: only(data)):
        with contextlib.suppress(RaychatError):
            decode()


@given(st.integers(1, 60))
def test_a_frame_cut_short_is_malformed(cut) -> None:
    packed = frames.pack_send(Send(AccountId(bytes(16)), MessageId(1), [Part(1, 1, 2, b"x" * 40)]))
    with pytest.raises(Malformed):
        frames.split(packed[:-cut])


def test_too_much_is_too_large() -> None:
    with pytest.raises(TooLarge):
        frames.split(bytes(limits.FRAME_BYTES + 1))
    with pytest.raises(TooLarge):
        frames.split(frames.pack_ack(1) * (limits.FRAMES_PER_MESSAGE + 1))
    body = bytes(limits.ENVELOPE_BYTES + 1)
    with pytest.raises(TooLarge):
        only(frames.pack_send(Send(AccountId(bytes(16)), MessageId(1), [Part(1, 1, 2, body)])))


def test_deep_nesting_is_malformed_and_not_a_crash() -> None:
    with pytest.raises(Malformed):
        frames.split(b"\x91" * 100_000)


def test_another_version_or_an_unknown_type_is_unsupported() -> None:
    hello = Hello(2, AccountId(bytes(16)), DeviceId(1), Secret(bytes(32)), InboxNumber(0), [], 0)
    with pytest.raises(Unsupported):
        only(frames.pack_hello(hello))
    with pytest.raises(Unsupported):
        only(msgpack.packb([9]))


def test_a_device_skips_types_it_does_not_know() -> None:
    packed = msgpack.packb([31, "later"]) + frames.pack_sent(bytes(16), 1, 2)
    assert list(frames.to_device(packed)) == [Sent(AccountId(bytes(16)), MessageId(1), 2)]


def test_fields_that_an_older_server_does_not_send_are_empty() -> None:
    welcome = msgpack.packb([16, 1, 2, 1, 0, 0, 0])
    refused = msgpack.packb([18, bytes(16), 1, "id-gap", "why", True])
    first, second = frames.to_device(welcome + refused)
    assert first.list_version == 0
    assert (second.devices, second.list_version) == ((), 0)


def test_fields_after_the_known_ones_are_ignored() -> None:
    assert only(msgpack.packb([3, 5, [], "later"])) == Ack(InboxNumber(5), [])


def test_a_token_does_not_show_itself() -> None:
    hello = Hello(1, AccountId(bytes(16)), DeviceId(1), Secret(b"\xaa" * 32), InboxNumber(0), [], 0)
    assert "aa" not in repr(hello)
    assert "xaa" not in str(hello.token)
