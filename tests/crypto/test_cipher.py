from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from raychat.crypto import (
    CiphertextMessage,
    Direction,
    IdentityChange,
    IdentityKeyPair,
    MemoryStore,
    MessageKind,
    Opened,
)
from raychat.crypto.curve import PublicKey
from raychat.crypto.message import SignalMessage, address_pair
from raychat.crypto.ratchet import ChainKey
from raychat.crypto.session import SessionState
from raychat.crypto.spqr.chains import Step
from raychat.crypto.spqr.message import BraidMessage
from raychat.errors import (
    BadMac,
    BadSignature,
    CryptoError,
    DuplicateMessage,
    InvalidMessage,
    NoSession,
    StaleSession,
    TooFarAhead,
    TooLarge,
    UnknownPreKey,
    UntrustedIdentity,
)
from raychat.ids import Address, DeviceId
from raychat.limits import (
    ARCHIVED_SESSIONS,
    CIPHERTEXT_BYTES,
    SKIP_AHEAD,
    UNACKED_SESSION_DAYS,
)
from tests.crypto.device import DAY, NOW, Device, established
from tests.crypto.fields import flipped, pre_key_corruptions, signal_corruptions


def begun(*, one_time: bool = True, last_resort: bool = False) -> tuple[Device, Device]:
    """Two devices, the first of which has processed a bundle of the second."""
    alice, bob = Device(), Device()
    bundle = bob.bundle(one_time=one_time, last_resort=last_resort)
    alice.cipher.process_bundle(bob.address, bundle, NOW)
    return alice, bob


def sent(sender: Device, receiver: Device, plaintext: bytes = b"hello") -> CiphertextMessage:
    return sender.cipher.encrypt(receiver.address, plaintext, NOW)


def exchange(sender: Device, receiver: Device, plaintext: bytes = b"hello") -> MessageKind:
    message = sent(sender, receiver, plaintext)
    assert receiver.cipher.decrypt(sender.address, message) == plaintext
    return message.kind


def refused(
    error: type[CryptoError], receiver: Device, sender: Address, message: CiphertextMessage
) -> None:
    """The receiver refuses with exactly this error, and nothing has changed."""
    before = receiver.snapshot()
    with pytest.raises(error):
        receiver.cipher.decrypt(sender, message)
    assert receiver.snapshot() == before


# -- sessions ------------------------------------------------------------------------------


@pytest.mark.parametrize("one_time", [True, False])
def test_every_message_starts_the_session_until_it_is_answered(one_time: bool) -> None:
    alice, bob = begun(one_time=one_time)
    assert exchange(alice, bob) is MessageKind.PRE_KEY
    assert exchange(alice, bob) is MessageKind.PRE_KEY
    assert exchange(bob, alice) is MessageKind.WHISPER
    assert exchange(alice, bob) is MessageKind.WHISPER


def test_the_first_messages_may_come_in_any_order() -> None:
    alice, bob = begun()
    messages = [sent(alice, bob, b"%d" % number) for number in range(4)]
    for number in (3, 0, 2, 1):
        assert bob.cipher.decrypt(alice.address, messages[number]) == b"%d" % number


def test_one_time_keys_are_gone_after_the_first_message() -> None:
    alice, bob = begun()
    first = sent(alice, bob)
    assert (set(bob.store.pre_keys), set(bob.store.kyber_pre_keys)) == ({1}, {1})
    bob.cipher.decrypt(alice.address, first)
    assert (set(bob.store.pre_keys), set(bob.store.kyber_pre_keys)) == (set(), set())
    assert exchange(alice, bob) is MessageKind.PRE_KEY


def test_there_is_a_session_after_a_bundle_or_a_first_message() -> None:
    alice, bob = Device(), Device()
    assert not alice.cipher.has_session(bob.address, NOW)
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    assert alice.cipher.has_session(bob.address, NOW)
    exchange(alice, bob)
    assert bob.cipher.has_session(alice.address, NOW)


def test_sending_without_a_session_is_refused() -> None:
    alice, bob = Device(), Device()
    with pytest.raises(NoSession):
        sent(alice, bob)


def test_a_message_without_a_session_is_refused() -> None:
    alice, bob = established()
    message = sent(alice, bob)
    refused(NoSession, Device(bob.address.account), alice.address, message)


def test_an_ended_session_sends_nothing_and_still_receives() -> None:
    alice, bob = established()
    late = sent(bob, alice, b"late")
    alice.cipher.end_session(bob.address)
    alice.cipher.end_session(Device().address)
    assert not alice.cipher.has_session(bob.address, NOW)
    with pytest.raises(NoSession):
        sent(alice, bob)
    assert alice.cipher.decrypt(bob.address, late) == b"late"
    assert alice.cipher.has_session(bob.address, NOW)


def test_a_session_never_answered_is_stale_after_thirty_days() -> None:
    alice, bob = begun()
    late = NOW + UNACKED_SESSION_DAYS * DAY + 1
    assert not alice.cipher.has_session(bob.address, late)
    with pytest.raises(StaleSession):
        alice.cipher.encrypt(bob.address, b"x", late)
    exchange(alice, bob)
    exchange(bob, alice)
    alice.cipher.encrypt(bob.address, b"x", late)


def test_both_begin_at_once_and_meet_in_one_session() -> None:
    alice, bob = begun()
    bob.cipher.process_bundle(alice.address, alice.bundle(), NOW)
    from_alice, from_bob = sent(alice, bob), sent(bob, alice)
    alice.cipher.decrypt(bob.address, from_bob)
    bob.cipher.decrypt(alice.address, from_alice)
    kinds = [exchange(*pair) for pair in [(alice, bob), (bob, alice)] * 3]
    assert kinds[1:] == [MessageKind.WHISPER] * 5
    currents = [
        device.store.sessions[other.address].current
        for device, other in [(alice, bob), (bob, alice)]
    ]
    assert len({current.base_key for current in currents if current}) == 1


def test_a_repeated_base_key_promotes_its_session() -> None:
    alice, bob = begun()
    first, second = sent(alice, bob, b"first"), sent(alice, bob, b"second")
    bob.cipher.decrypt(alice.address, first)
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    exchange(alice, bob)
    assert bob.cipher.decrypt(alice.address, second) == b"second"
    record = bob.store.sessions[alice.address]
    assert len(list(record.sessions())) == 2
    # Bob answers in the session of `second`, which Alice has archived and now takes up again.
    exchange(bob, alice)
    assert exchange(alice, bob) is MessageKind.WHISPER


def test_messages_of_archived_sessions_still_arrive() -> None:
    alice, bob = established()
    late = []
    for _ in range(5):
        late.append(sent(alice, bob, b"late"))
        alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
        exchange(alice, bob)
        exchange(bob, alice)
    for message in reversed(late):
        assert bob.cipher.decrypt(alice.address, message) == b"late"


def test_two_devices_of_one_account_are_two_sessions() -> None:
    alice, bob = Device(), Device()
    second = Device(bob.address.account, device=2)
    for device in (bob, second):
        alice.cipher.process_bundle(device.address, device.bundle(), NOW)
        exchange(alice, device)
        exchange(device, alice)
    assert set(alice.store.sessions) == {bob.address, second.address}


# -- what is refused -----------------------------------------------------------------------


def test_a_duplicate_is_refused_by_name() -> None:
    alice, bob = begun()
    first = sent(alice, bob)
    bob.cipher.decrypt(alice.address, first)
    refused(DuplicateMessage, bob, alice.address, first)
    exchange(bob, alice)
    message = sent(alice, bob)
    bob.cipher.decrypt(alice.address, message)
    refused(DuplicateMessage, bob, alice.address, message)
    refused(DuplicateMessage, bob, alice.address, first)


def test_a_duplicate_of_an_archived_session_is_refused_by_name() -> None:
    alice, bob = established()
    message = sent(alice, bob)
    bob.cipher.decrypt(alice.address, message)
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    exchange(alice, bob)
    refused(DuplicateMessage, bob, alice.address, message)


@pytest.mark.parametrize("one_time", [True, False])
def test_a_first_message_damaged_anywhere_changes_nothing(one_time: bool) -> None:
    alice, bob = begun(one_time=one_time)
    message = sent(alice, bob)
    for _, body in pre_key_corruptions(message.body):
        refused(CryptoError, bob, alice.address, message._replace(body=body))
    assert bob.cipher.decrypt(alice.address, message) == b"hello"


def test_a_message_damaged_anywhere_changes_nothing() -> None:
    alice, bob = established()
    for sender, receiver in ((alice, bob), (bob, alice), (alice, bob)):
        message = sent(sender, receiver)
        for _, body in signal_corruptions(message.body):
            refused(CryptoError, receiver, sender.address, message._replace(body=body))
        assert receiver.cipher.decrypt(sender.address, message) == b"hello"


def test_a_bad_mac_is_named() -> None:
    alice, bob = established()
    message = sent(alice, bob)
    damaged = message._replace(body=flipped(message.body, len(message.body) - 1))
    refused(BadMac, bob, alice.address, damaged)


def test_bad_padding_under_a_good_mac_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = established()
    with monkeypatch.context() as patched:
        patched.setattr(
            "raychat.crypto.ratchet.MessageKeys.encrypt", lambda keys, plaintext: bytes(16)
        )
        message = sent(alice, bob)
    refused(InvalidMessage, bob, alice.address, message)


def test_a_message_too_far_ahead_is_refused_by_name() -> None:
    alice, bob = established()
    state = alice.store.sessions[bob.address].current
    assert state is not None
    state.encrypt(b"", b"")
    for _ in range(SKIP_AHEAD):
        state.ratchet.send()
    refused(TooFarAhead, bob, alice.address, sent(alice, bob))


def with_archived(count: int) -> tuple[Device, Device]:
    """Two devices with so many archived sessions beside the current one."""
    alice, bob = established()
    for _ in range(count):
        alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
        exchange(alice, bob)
        exchange(bob, alice)
    return alice, bob


def forged(message: CiphertextMessage, counter: int, pq_counter: int) -> CiphertextMessage:
    """The message under another ratchet key and with other counters."""
    signal = SignalMessage.parse(message.body)
    braid = BraidMessage.parse(signal.pq_ratchet)._replace(counter=pq_counter)
    made = SignalMessage.seal(
        ratchet_key=IdentityKeyPair.generate().public,
        counter=counter,
        previous_counter=0,
        ciphertext=signal.ciphertext,
        pq_ratchet=braid.to_bytes(),
        addresses=b"",
        mac_key=b"m" * 32,
        sender=signal.ratchet_key,
        receiver=signal.ratchet_key,
    )
    return message._replace(body=made.body)


SHARE = SKIP_AHEAD // ARCHIVED_SESSIONS


@pytest.mark.parametrize(
    ("counter", "pq_counter"),
    [(SHARE, SHARE), (SKIP_AHEAD, 1), (0, SKIP_AHEAD), (SKIP_AHEAD, SKIP_AHEAD)],
)
def test_a_forged_counter_costs_no_more_than_two_allowances_however_many_sessions_there_are(
    counter: int, pq_counter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = with_archived(ARCHIVED_SESSIONS)
    message = forged(sent(alice, bob), counter, pq_counter)
    steps: Counter[str] = Counter()
    for kind, name in ((ChainKey, "next"), (Step, "next"), (Step, "passed")):
        original = getattr(kind, name)

        def counted(self: object, kind: type = kind, original: Any = original) -> object:
            steps[kind.__name__] += 1
            return original(self)

        monkeypatch.setattr(kind, name, counted)
    refused(CryptoError, bob, alice.address, message)
    assert max(steps.values()) > SKIP_AHEAD // 2
    assert max(steps.values()) <= 2 * (SKIP_AHEAD + ARCHIVED_SESSIONS)


def test_a_known_ratchet_key_is_tried_in_its_own_session_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice, bob = established()
    late = sent(alice, bob, b"late")
    bob.cipher.decrypt(alice.address, sent(alice, bob))  # so that Bob knows its ratchet key
    for _ in range(3):
        alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
        exchange(alice, bob)
        exchange(bob, alice)
    tried = []
    decrypt = SessionState.decrypt

    def counted(state: SessionState, *arguments: Any) -> bytes:
        tried.append(state)
        return decrypt(state, *arguments)

    monkeypatch.setattr(SessionState, "decrypt", counted)
    bob.cipher.decrypt(alice.address, sent(alice, bob))
    for message in (sent(alice, bob, b"late"), late):  # of the current session, of an archived one
        tried.clear()
        damaged = message._replace(body=flipped(message.body, len(message.body) - 1))
        refused(BadMac, bob, alice.address, damaged)
        assert bob.cipher.decrypt(alice.address, message) == b"late"
        assert len(tried) == 2


def test_an_archived_session_still_reads_far_ahead_in_a_chain_it_knows() -> None:
    alice, bob = established()
    bob.cipher.decrypt(alice.address, sent(alice, bob))
    for _ in range(SKIP_AHEAD // 40 + 100):
        late = sent(alice, bob, b"late")
    for _ in range(40):
        alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
        exchange(alice, bob)
    assert bob.cipher.decrypt(alice.address, late) == b"late"


def test_a_message_for_another_device_is_refused() -> None:
    alice, bob = begun()
    message = sent(alice, bob)
    other = alice.address._replace(device=DeviceId(2))
    refused(InvalidMessage, bob, other, message)
    twin = Device(bob.address.account, device=2)
    twin.store = bob.store
    twin.cipher = type(bob.cipher)(twin.address, bob.store)
    refused(InvalidMessage, twin, alice.address, message)
    assert bob.cipher.decrypt(alice.address, message) == b"hello"


def test_addresses_are_checked_in_every_message_that_has_them() -> None:
    alice, bob = established()
    state = alice.store.sessions[bob.address].current
    assert state is not None
    for sender, error in ((Device().address, InvalidMessage), (alice.address, None)):
        signal = state.copy().encrypt(b"hello", address_pair(sender, bob.address))
        message = CiphertextMessage(MessageKind.WHISPER, signal.body)
        if error:
            refused(error, bob, alice.address, message)
        else:
            assert bob.cipher.decrypt(alice.address, message) == b"hello"


def test_a_message_from_another_session_is_refused() -> None:
    alice, bob = established()
    carol, dave = established()
    refused(CryptoError, bob, alice.address, sent(carol, dave))


def test_an_unknown_kind_is_refused() -> None:
    _, bob = established()
    message = CiphertextMessage(7, b"\x44")  # type: ignore[arg-type]
    refused(InvalidMessage, bob, Device().address, message)


def test_a_message_under_the_wrong_kind_is_refused() -> None:
    alice, bob = begun()
    first = sent(alice, bob)
    refused(InvalidMessage, bob, alice.address, first._replace(kind=MessageKind.WHISPER))
    bob.cipher.decrypt(alice.address, first)
    exchange(bob, alice)
    message = sent(alice, bob)
    refused(InvalidMessage, bob, alice.address, message._replace(kind=MessageKind.PRE_KEY))


@pytest.mark.parametrize("kind", ["pre_keys", "signed_pre_keys", "kyber_pre_keys"])
def test_a_first_message_to_an_unknown_pre_key_is_refused_by_name(kind: str) -> None:
    alice, bob = begun()
    message = sent(alice, bob)
    getattr(bob.store, kind).clear()
    refused(UnknownPreKey, bob, alice.address, message)


def test_a_first_message_replayed_after_its_session_was_forgotten_is_refused() -> None:
    for one_time, error in ((True, UnknownPreKey), (False, DuplicateMessage)):
        alice, bob = begun(one_time=one_time, last_resort=True)
        message = sent(alice, bob)
        bob.cipher.decrypt(alice.address, message)
        del bob.store.sessions[alice.address]
        refused(error, bob, alice.address, message)


def test_a_plaintext_over_the_limit_is_refused_and_uses_no_key() -> None:
    alice, bob = established()
    before = alice.snapshot()
    with pytest.raises(TooLarge):
        sent(alice, bob, bytes(CIPHERTEXT_BYTES - 60))
    assert alice.snapshot() == before
    largest = bytes(CIPHERTEXT_BYTES - 128)
    assert exchange(alice, bob, largest) is MessageKind.WHISPER


# -- identities ----------------------------------------------------------------------------


def reinstalled(device: Device) -> Device:
    """The same address with new keys."""
    return Device(device.address.account, device.address.device)


def test_a_bundle_with_a_changed_identity_is_refused() -> None:
    alice, bob = established()
    again = reinstalled(bob)
    before = alice.snapshot()
    with pytest.raises(UntrustedIdentity):
        alice.cipher.process_bundle(bob.address, again.bundle(), NOW)
    assert alice.snapshot() == before


def test_a_first_message_with_a_changed_identity_is_refused_until_accepted() -> None:
    alice, bob = established()
    again = reinstalled(bob)
    again.cipher.process_bundle(alice.address, alice.bundle(), NOW)
    message = sent(again, alice)
    refused(UntrustedIdentity, alice, bob.address, message)
    alice.store.save_identity(bob.address, again.identity.public)
    assert alice.cipher.decrypt(bob.address, message) == b"hello"
    exchange(alice, again)


def test_sending_to_an_identity_no_longer_trusted_is_refused() -> None:
    alice, bob = established()
    alice.store.save_identity(bob.address, reinstalled(bob).identity.public)
    before = alice.snapshot()
    with pytest.raises(UntrustedIdentity):
        sent(alice, bob)
    assert alice.snapshot() == before
    refused(UntrustedIdentity, alice, bob.address, sent(bob, alice))


class TrustingReceiver(MemoryStore):
    """Accepts messages under any identity; for sending the last one seen counts."""

    def is_trusted(self, address: Address, key: PublicKey, direction: Direction) -> bool:
        return direction is Direction.RECEIVING or super().is_trusted(address, key, direction)


def test_a_change_of_identity_that_the_store_accepts_is_told_once() -> None:
    alice, bob = Device(), Device()
    alice.store = Accepting(alice.identity, 1)
    alice.cipher = type(alice.cipher)(alice.address, alice.store)
    assert alice.cipher.process_bundle(bob.address, bob.bundle(), NOW) is None
    again = reinstalled(bob)
    change = IdentityChange(bob.address, bob.identity.public, again.identity.public)
    again.cipher.process_bundle(alice.address, alice.bundle(), NOW)
    first, second = sent(again, alice), sent(again, alice)
    assert alice.cipher.open(bob.address, first) == Opened(b"hello", change)
    assert alice.cipher.open(bob.address, second) == Opened(b"hello", None)
    third = reinstalled(bob)
    assert alice.cipher.process_bundle(bob.address, third.bundle(), NOW) == IdentityChange(
        bob.address, again.identity.public, third.identity.public
    )


def test_an_opened_message_does_not_show_itself() -> None:
    assert repr(Opened(b"hello")) == "Opened(5 bytes, None)"


class Accepting(MemoryStore):
    """Goes on with any identity."""

    def is_trusted(self, address: Address, key: PublicKey, direction: Direction) -> bool:
        return True


def test_a_late_message_of_a_former_identity_does_not_turn_replies_to_it() -> None:
    alice, bob = Device(), Device()
    alice.store = TrustingReceiver(alice.identity, 1)
    alice.cipher = type(alice.cipher)(alice.address, alice.store)
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    exchange(alice, bob)
    exchange(bob, alice)
    late = sent(bob, alice, b"late")
    again = reinstalled(bob)
    again.cipher.process_bundle(alice.address, alice.bundle(), NOW)
    exchange(again, alice)
    assert alice.cipher.decrypt(bob.address, late) == b"late"
    exchange(alice, again)


def test_a_first_message_claiming_a_known_session_under_another_identity_is_refused() -> None:
    alice, bob = begun()
    bob.store = TrustingReceiver(bob.identity, 1)
    for kind in ("pre_keys", "signed_pre_keys", "kyber_pre_keys"):
        setattr(bob.store, kind, getattr(begun()[1].store, kind))
    bob.cipher = type(bob.cipher)(bob.address, bob.store)
    alice.cipher.process_bundle(bob.address, bob.bundle(), NOW)
    exchange(alice, bob)
    body = sent(alice, bob).body
    mallory = IdentityKeyPair.generate().public
    forged = body.replace(alice.identity.public.data, mallory.data)
    assert forged != body
    message = CiphertextMessage(MessageKind.PRE_KEY, forged)
    refused(InvalidMessage, bob, alice.address, message)
    assert bob.store.load_identity(alice.address) == alice.identity.public


def test_an_unsigned_bundle_is_refused() -> None:
    alice, bob = Device(), Device()
    bundle = replace(bob.bundle(), identity_key=Device().identity.public)
    before = alice.snapshot()
    with pytest.raises(BadSignature):
        alice.cipher.process_bundle(bob.address, bundle, NOW)
    assert alice.snapshot() == before
