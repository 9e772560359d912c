from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.crypto.message import SignalMessage
from raychat.crypto.ratchet import MessageKeys
from raychat.crypto.session import SessionRecord, SessionState
from raychat.crypto.spqr import PostQuantumRatchet
from raychat.errors import CryptoError, LegacyVersion, StoreError, StoreTooNew
from raychat.limits import ARCHIVED_SESSIONS, UNACKED_SESSION_DAYS
from tests.crypto.device import DAY, NOW, Device, established


def begun(*, one_time: bool = True) -> SessionState:
    device = Device()
    bundle = Device().bundle(one_time=one_time)
    return SessionState.initiate(device.identity, 5, bundle, NOW)


def used() -> SessionState:
    """The state of a session with several chains and skipped messages."""
    alice, bob = established()
    for _ in range(7):
        alice.cipher.encrypt(bob.address, b"lost", NOW)
        bob.cipher.decrypt(alice.address, alice.cipher.encrypt(bob.address, b"", NOW))
        alice.cipher.decrypt(bob.address, bob.cipher.encrypt(alice.address, b"", NOW))
    state = bob.store.sessions[alice.address].current
    assert state is not None
    return state


def with_sessions(count: int) -> tuple[SessionRecord, list[SessionState]]:
    """A record of `count` sessions and the sessions, newest first."""
    record, states = SessionRecord(), [begun() for _ in range(count)]
    for state in reversed(states):
        record = record.begun(state)
    return record, states


def places(record: SessionRecord) -> list[tuple[int, SessionState]]:
    return list(record.sessions())


@pytest.mark.parametrize("one_time", [True, False])
def test_a_begun_state_reads_back(one_time: bool) -> None:
    state = begun(one_time=one_time)
    assert SessionState.from_bytes(state.to_bytes()) == state
    assert state.pending is not None
    assert state.pending.pre_key_id == (1 if one_time else None)


def test_a_used_state_reads_back() -> None:
    state = used()
    assert SessionState.from_bytes(state.to_bytes()) == state


def test_a_state_cut_anywhere_is_refused() -> None:
    for data in (begun().to_bytes(), used().to_bytes()):
        for size in range(0, len(data), 7):
            with pytest.raises(StoreError):
                SessionState.from_bytes(data[:size])
        with pytest.raises(StoreError):
            SessionState.from_bytes(data + b"\x00")


def test_a_copy_is_independent() -> None:
    state = begun()
    before = state.to_bytes()
    state.copy().encrypt(b"x", b"")
    assert state.to_bytes() == before


def test_a_session_is_stale_when_never_answered_for_thirty_days() -> None:
    state = begun()
    assert not state.is_stale(NOW + UNACKED_SESSION_DAYS * DAY)
    assert state.is_stale(NOW + UNACKED_SESSION_DAYS * DAY + 1)
    state.pending = None
    assert not state.is_stale(NOW + 1000 * DAY)


def test_the_post_quantum_ratchet_salts_every_message() -> None:
    """Who has all of the Double Ratchet and none of the other can read nothing."""
    alice, bob = established()
    sender = alice.store.sessions[bob.address].current
    receiver = bob.store.sessions[alice.address].current
    assert sender is not None
    assert receiver is not None
    broken = receiver.copy()
    broken.pq = PostQuantumRatchet.responder(b"another secret".ljust(32))
    first, second = sender.encrypt(b"one", b""), sender.encrypt(b"two", b"")
    assert first.pq_ratchet != second.pq_ratchet
    assert receiver.decrypt(second) == b"two"
    assert receiver.decrypt(first) == b"one"
    with pytest.raises(CryptoError):
        broken.decrypt(first)


def test_a_message_without_the_post_quantum_ratchet_is_refused() -> None:
    alice, bob = established()
    sender = alice.store.sessions[bob.address].current
    receiver = bob.store.sessions[alice.address].current
    assert sender is not None
    assert receiver is not None
    step = sender.ratchet.send()
    keys = MessageKeys.derive(step.seed, None)
    message = SignalMessage.seal(
        ratchet_key=step.ratchet_key,
        counter=step.counter,
        previous_counter=step.previous_counter,
        ciphertext=keys.encrypt(b"x"),
        pq_ratchet=b"",
        addresses=b"",
        mac_key=keys.mac,
        sender=sender.local_identity,
        receiver=sender.remote_identity,
    )
    with pytest.raises(LegacyVersion):
        receiver.decrypt(message)


def test_a_new_record_has_no_session() -> None:
    record = SessionRecord.from_bytes(SessionRecord().to_bytes())
    assert record.current is None
    assert places(record) == []


def test_a_record_reads_back() -> None:
    record, states = with_sessions(3)
    again = SessionRecord.from_bytes(record.to_bytes())
    assert places(again) == list(enumerate(states))
    assert again.to_bytes() == record.to_bytes()


def test_an_untouched_record_is_written_as_it_was_read() -> None:
    data = with_sessions(3)[0].to_bytes()
    assert SessionRecord.from_bytes(data).to_bytes() == data


def test_a_new_session_archives_the_current_one() -> None:
    record, states = with_sessions(2)
    newest = begun()
    after = record.begun(newest)
    assert [state for _, state in after.sessions()] == [newest, *states]
    assert [state for _, state in record.sessions()] == states


def test_the_oldest_archived_session_gives_way() -> None:
    record, states = with_sessions(ARCHIVED_SESSIONS + 3)
    assert [state for _, state in record.sessions()] == states[: ARCHIVED_SESSIONS + 1]
    assert len(places(record.archived())) == ARCHIVED_SESSIONS


def test_archiving_leaves_no_current_session() -> None:
    record, states = with_sessions(2)
    after = record.archived()
    assert after.current is None
    assert places(after) == [(1, states[0]), (2, states[1])]
    again = SessionRecord.from_bytes(after.to_bytes())
    assert places(again) == places(after)


def test_a_session_is_found_by_its_base_key() -> None:
    record, states = with_sessions(3)
    for place, state in enumerate(states):
        assert record.find(state.base_key) == (place, state)
    assert record.find(begun().base_key) is None


def test_a_used_archived_session_becomes_the_current_one() -> None:
    _, states = with_sessions(3)
    for state in states:
        state.remote_identity = states[0].remote_identity
    record = SessionRecord()
    for state in reversed(states):
        record = record.begun(state)
    after = record.updated(2, states[2])
    assert [state for _, state in after.sessions()] == [states[2], states[0], states[1]]
    alone = record.archived().updated(2, states[1])
    assert [state for _, state in alone.sessions()] == [states[1], states[0], states[2]]


def test_a_used_session_of_a_former_identity_stays_archived() -> None:
    record, states = with_sessions(3)
    changed = states[2].copy()
    changed.pending = None
    after = record.updated(2, changed)
    assert [state for _, state in after.sessions()] == [states[0], states[1], changed]


def test_damaged_and_later_records_are_refused() -> None:
    data = with_sessions(2)[0].to_bytes()
    for damaged in (b"", b"\x00" + data[1:], data[:4], data[:100]):
        with pytest.raises(StoreError):
            SessionRecord.from_bytes(damaged)
    with pytest.raises(StoreTooNew):
        SessionRecord.from_bytes(b"\x03" + data[1:])
    with pytest.raises(StoreError):
        list(SessionRecord.from_bytes(data[:-1]).sessions())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        list(SessionRecord.from_bytes(b"\x02" + data).sessions())
    except StoreError:
        return


USED = used().to_bytes()


@given(st.integers(0, len(USED) - 1), st.integers(0, 255))
@settings(max_examples=300)
def test_any_change_to_a_state_is_read_or_refused(at: int, byte: int) -> None:
    try:
        SessionState.from_bytes(USED[:at] + bytes((byte,)) + USED[at + 1 :])
    except StoreError:
        return


def test_nothing_secret_shows() -> None:
    shown = repr((begun(), used(), with_sessions(2)[0]))
    assert "b'" not in shown
    assert 'b"' not in shown
