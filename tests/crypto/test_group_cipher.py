from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from raychat.crypto.group_message import DistributionId, SenderKeyMessage
from raychat.crypto.sender_keys import SendingKey
from raychat.errors import (
    BadSignature,
    CryptoError,
    DuplicateMessage,
    InvalidMessage,
    NoSession,
    StaleSession,
    TooFarAhead,
    TooLarge,
)
from raychat.limits import CIPHERTEXT_BYTES, SENDER_KEY_DAYS, SENDER_KEY_MESSAGES, SKIP_AHEAD
from tests.crypto.device import DAY, NOW
from tests.crypto.fields import flipped
from tests.crypto.group import GROUP, Member, addresses, group_corruptions


def members(count: int) -> list[Member]:
    return [Member() for _ in range(count)]


def test_one_message_is_read_by_all() -> None:
    alice, bob, carol = members(3)
    alice.share(bob, carol)
    body = alice.send(b"hello", bob, carol)
    assert bob.read(alice, body) == carol.read(alice, body) == b"hello"


def test_a_group_without_a_key_cannot_be_written_to() -> None:
    alice, bob = members(2)
    with pytest.raises(NoSession):
        alice.send(b"hello", bob)


def test_nobody_is_left_out_by_mistake() -> None:
    alice, bob, carol = members(3)
    alice.share(bob)
    with pytest.raises(NoSession):
        alice.send(b"hello", bob, carol)
    alice.share(bob, carol)
    body = alice.send(b"hello", bob, carol)
    assert carol.read(alice, body) == b"hello"


def test_who_joins_gets_the_same_key_and_reads_nothing_older() -> None:
    alice, bob, carol = members(3)
    alice.share(bob)
    older = alice.send(b"older", bob)
    alice.share(bob, carol)
    newer = alice.send(b"newer", bob, carol)
    assert SenderKeyMessage.parse(older).chain_id == SenderKeyMessage.parse(newer).chain_id
    assert carol.read(alice, newer) == b"newer"
    with pytest.raises(DuplicateMessage):
        carol.read(alice, older)


def test_who_leaves_reads_nothing_more() -> None:
    alice, bob, carol = members(3)
    alice.share(bob, carol)
    alice.send(b"to both", bob, carol)
    with pytest.raises(StaleSession):
        alice.send(b"to bob", bob)
    alice.share(bob)
    body = alice.send(b"to bob", bob)
    assert bob.read(alice, body) == b"to bob"
    with pytest.raises(NoSession):
        carol.read(alice, body)


def test_a_key_due_for_replacement_writes_nothing_more() -> None:
    alice, bob = members(2)
    alice.share(bob)
    late = NOW + SENDER_KEY_DAYS * DAY
    with pytest.raises(StaleSession):
        alice.cipher.encrypt(GROUP, b"late", addresses(bob), late)
    shared = alice.cipher.share(GROUP, addresses(bob), late)
    assert shared.missing == addresses(bob)
    key = alice.store.sending_keys[GROUP]
    for _ in range(SENDER_KEY_MESSAGES):
        key = key.next()
    alice.store.sending_keys[GROUP] = key
    alice.cipher.mark_shared(GROUP, shared, addresses(bob))
    with pytest.raises(StaleSession):
        alice.cipher.encrypt(GROUP, b"one too many", addresses(bob), late)


def test_sharing_again_changes_nothing() -> None:
    alice, bob = members(2)
    alice.share(bob)
    before = alice.snapshot()
    shared = alice.cipher.share(GROUP, addresses(bob), NOW)
    assert not shared.missing
    assert alice.snapshot() == before


def test_a_key_replaced_while_it_was_being_sent_is_not_marked_as_shared() -> None:
    alice, bob = members(2)
    shared = alice.cipher.share(GROUP, addresses(bob), NOW)
    alice.cipher.rotate(GROUP, NOW)
    alice.cipher.mark_shared(GROUP, shared, shared.missing)
    with pytest.raises(NoSession):
        alice.send(b"hello", bob)


def test_a_reader_that_lost_the_key_is_given_it_again() -> None:
    alice, bob, carol = members(3)
    alice.share(bob, carol)
    bob.store.sender_keys.clear()
    alice.cipher.mark_lost(GROUP, bob.address)
    shared = alice.cipher.share(GROUP, addresses(bob, carol), NOW)
    assert shared.missing == addresses(bob)


def test_what_is_shared_does_not_show_the_key() -> None:
    alice, bob = members(2)
    shared = alice.cipher.share(GROUP, addresses(bob), NOW)
    assert repr(shared.message)[2:-1] not in repr(shared)


def test_a_message_is_read_once() -> None:
    alice, bob = members(2)
    alice.share(bob)
    body = alice.send(b"once", bob)
    assert bob.read(alice, body) == b"once"
    with pytest.raises(DuplicateMessage):
        bob.read(alice, body)


def test_a_member_cannot_write_as_another() -> None:
    alice, bob, mallory = members(3)
    alice.share(bob, mallory)
    mallory.share(alice, bob)
    # Mallory knows Alice's chain key, but signs with a key of her own.
    (state,) = mallory.store.sender_keys[alice.address, GROUP].states
    forged = SendingKey(
        state.chain_id, state.chain.chain, mallory.store.sending_keys[GROUP].pair, NOW
    )
    before = bob.snapshot()
    with pytest.raises(BadSignature):
        bob.read(alice, forged.seal(GROUP, b"as alice").body)
    with pytest.raises(NoSession):
        bob.read(alice, mallory.send(b"as alice", alice, bob))
    assert bob.snapshot() == before


def test_a_message_of_one_group_is_none_of_another() -> None:
    alice, bob = members(2)
    alice.share(bob)
    other = DistributionId(bytes(16))
    body = alice.store.sending_keys[GROUP].seal(other, b"elsewhere").body
    with pytest.raises(NoSession):
        bob.read(alice, body)


def test_the_signature_is_checked_before_anything_is_done() -> None:
    alice, bob = members(2)
    alice.share(bob)
    key = alice.store.sending_keys[GROUP]
    for _ in range(SKIP_AHEAD + 1):
        key = key.next()
    body = key.seal(GROUP, b"far").body
    with pytest.raises(TooFarAhead):
        bob.read(alice, body)
    with pytest.raises(BadSignature):
        bob.read(alice, flipped(body, len(body) - 1))


def test_a_refused_message_changes_nothing() -> None:
    alice, bob = members(2)
    alice.share(bob)
    skipped, body = alice.send(b"skipped", bob), alice.send(b"whole", bob)
    damaged_padding = SenderKeyMessage.seal(
        distribution=GROUP,
        chain_id=alice.store.sending_keys[GROUP].chain_id,
        iteration=9,
        ciphertext=bytes(16),
        signing_key=alice.store.sending_keys[GROUP].pair.private,
    ).body
    before = bob.snapshot()
    for bad in (damaged_padding, *(bad for _, bad in group_corruptions(body))):
        with pytest.raises(CryptoError):
            bob.read(alice, bad)
        assert bob.snapshot() == before
    assert bob.read(alice, body) == b"whole"
    assert bob.read(alice, skipped) == b"skipped"


def test_a_key_given_twice_opens_nothing_twice() -> None:
    alice, bob = members(2)
    shared = alice.cipher.share(GROUP, addresses(bob), NOW)
    alice.cipher.mark_shared(GROUP, shared, shared.missing)
    bob.cipher.process(alice.address, shared.message)
    body = alice.send(b"once", bob)
    assert bob.read(alice, body) == b"once"
    bob.cipher.process(alice.address, shared.message)
    with pytest.raises(DuplicateMessage):
        bob.read(alice, body)


def test_a_refused_key_changes_nothing() -> None:
    alice, bob = members(2)
    for bad in (b"", b"\x33", b"\x23" + bytes(40)):
        with pytest.raises(CryptoError):
            bob.cipher.process(alice.address, bad)
    assert not bob.store.sender_keys


def test_a_message_too_large_is_refused_before_its_key_is_used() -> None:
    alice, bob = members(2)
    alice.share(bob)
    before = alice.snapshot()
    with pytest.raises(TooLarge):
        alice.send(bytes(CIPHERTEXT_BYTES), bob)
    assert alice.snapshot() == before
    with pytest.raises(InvalidMessage):
        bob.read(alice, bytes(CIPHERTEXT_BYTES + 1))


class Groups(RuleBasedStateMachine):
    """Three members who come and go, and a network that loses, repeats and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self.members = members(3)
        self.inside = {0, 1, 2}
        self.count = 0
        self.under_way: list[tuple[int, int, bytes, bytes]] = []
        self.read: set[tuple[int, bytes]] = set()

    def readers(self, sender: int) -> list[Member]:
        return [self.members[place] for place in sorted(self.inside - {sender})]

    @rule(sender=st.integers(0, 2))
    def send(self, sender: int) -> None:
        if sender not in self.inside:
            return
        member, readers = self.members[sender], self.readers(sender)
        member.share(*readers)
        assert member.store.holders[GROUP] == addresses(*readers)
        self.count += 1
        plaintext = b"%d" % self.count
        body = member.send(plaintext, *readers)
        for place in self.inside - {sender}:
            self.under_way.append((sender, place, plaintext, body))
        for place in {0, 1, 2} - self.inside:
            with pytest.raises(CryptoError):
                self.members[place].read(member, body)

    @rule(place=st.integers(0, 1_000_000), keep=st.booleans())
    def deliver(self, place: int, keep: bool) -> None:
        if not self.under_way:
            return
        place %= len(self.under_way)
        sender, reader, plaintext, body = self.under_way[place]
        if not keep:
            del self.under_way[place]
        if (reader, plaintext) in self.read:
            with pytest.raises(DuplicateMessage):
                self.members[reader].read(self.members[sender], body)
            return
        try:
            assert self.members[reader].read(self.members[sender], body) == plaintext
        except NoSession:
            # Five keys later the one it is under is gone.
            return
        self.read.add((reader, plaintext))

    @rule(place=st.integers(0, 1_000_000))
    def lose(self, place: int) -> None:
        if self.under_way:
            del self.under_way[place % len(self.under_way)]

    @rule(place=st.integers(0, 2))
    def come_or_go(self, place: int) -> None:
        self.inside ^= {place}

    @rule(place=st.integers(0, 2))
    def crash(self, place: int) -> None:
        self.members[place].reload()


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
