from __future__ import annotations

import contextlib
import hmac
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.crypto.curve import KeyPair
from raychat.crypto.kdf import hkdf
from raychat.crypto.ratchet import (
    ChainKey,
    MessageKeys,
    Outgoing,
    Ratchet,
    ReceiverChain,
    SenderChain,
)
from raychat.crypto.skipped import SkippedKeys
from raychat.errors import CryptoError, DuplicateMessage, InvalidMessage, TooFarAhead
from raychat.limits import RECEIVER_CHAINS, SKIP_AHEAD, SKIPPED_KEYS

KEY = b"k" * 32


def pair() -> tuple[Ratchet, Ratchet]:
    """The two sides of a session just agreed."""
    signed_pre_key = KeyPair.generate()
    return (
        Ratchet.initiator(b"r" * 32, b"c" * 32, signed_pre_key.public),
        Ratchet.responder(b"r" * 32, b"c" * 32, signed_pre_key),
    )


def arrives(receiver: Ratchet, sent: Outgoing) -> bool:
    return receiver.receive(sent.ratchet_key, sent.counter) == sent.seed


def receiver_chain() -> ReceiverChain:
    return ReceiverChain(KeyPair.generate().public, ChainKey(KEY, 0))


def seed_at(counter: int) -> bytes:
    chain = ChainKey(KEY, 0)
    for _ in range(counter):
        chain = chain.next()
    return chain.seed()


def test_a_chain_key_steps_by_hmac() -> None:
    chain = ChainKey(KEY, 7)
    assert chain.seed() == hmac.digest(KEY, b"\x01", "sha256")
    assert chain.next() == ChainKey(hmac.digest(KEY, b"\x02", "sha256"), 8)


def test_message_keys_are_aes_then_mac_then_iv() -> None:
    keys = MessageKeys.derive(KEY, None)
    assert b"".join(keys) == hkdf(KEY, b"WhisperMessageKeys", 80)
    assert [len(key) for key in keys] == [32, 32, 16]


def test_the_post_quantum_salt_changes_all_keys() -> None:
    assert not set(MessageKeys.derive(KEY, None)) & set(MessageKeys.derive(KEY, b"s" * 32))


@given(st.binary(max_size=100))
def test_a_plaintext_reads_back(plaintext: bytes) -> None:
    keys = MessageKeys.derive(KEY, None)
    ciphertext = keys.encrypt(plaintext)
    assert len(ciphertext) == len(plaintext) // 16 * 16 + 16
    assert keys.decrypt(ciphertext) == plaintext


@given(st.binary(max_size=100))
def test_any_ciphertext_is_decrypted_or_refused(ciphertext: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        MessageKeys.derive(KEY, None).decrypt(ciphertext)


@pytest.mark.parametrize("last", [0, 17, 255])
def test_damaged_padding_is_refused(last: int) -> None:
    keys = MessageKeys.derive(KEY, None)
    # Appended padding turns the wrong one into plaintext: cut its block off again.
    ciphertext = keys.encrypt(bytes(15) + bytes((last,)))[:16]
    with pytest.raises(InvalidMessage):
        keys.decrypt(ciphertext)


def test_a_seed_is_had_once() -> None:
    chain = receiver_chain()
    seed, chain = chain.taken(0)
    assert seed == seed_at(0)
    with pytest.raises(DuplicateMessage):
        chain.taken(0)


def test_skipped_seeds_are_kept_until_taken() -> None:
    seed, chain = receiver_chain().taken(5)
    assert seed == seed_at(5)
    for counter in (3, 0, 4, 1, 2):
        seed, chain = chain.taken(counter)
        assert seed == seed_at(counter)
        with pytest.raises(DuplicateMessage):
            chain.taken(counter)
    assert chain.skipped == SkippedKeys()
    assert chain.taken(6)[0] == seed_at(6)


def test_a_message_may_be_so_far_ahead_and_no_further() -> None:
    chain = receiver_chain()
    with pytest.raises(TooFarAhead):
        chain.taken(SKIP_AHEAD + 1)
    _, chain = chain.taken(SKIP_AHEAD)
    assert chain.chain.counter == SKIP_AHEAD + 1


def test_the_oldest_skipped_seeds_give_way() -> None:
    _, chain = receiver_chain().taken(SKIPPED_KEYS + 10)
    assert len(chain.skipped) == SKIPPED_KEYS
    with pytest.raises(DuplicateMessage):
        chain.taken(9)
    assert chain.taken(10)[0] == seed_at(10)
    _, chain = chain.taken(SKIPPED_KEYS + 14)
    assert len(chain.skipped) == SKIPPED_KEYS
    with pytest.raises(DuplicateMessage):
        chain.taken(12)
    assert chain.taken(13)[0] == seed_at(13)


@given(st.permutations(range(20)))
def test_any_order_gives_every_seed_once(order: list[int]) -> None:
    chain = receiver_chain()
    for counter in order:
        seed, chain = chain.taken(counter)
        assert seed == seed_at(counter)
    assert len(chain.skipped) == 0


def test_each_turn_has_a_new_ratchet_key() -> None:
    alice, bob = pair()
    keys = []
    for turn in range(10):
        sender, receiver = (alice, bob) if turn % 2 == 0 else (bob, alice)
        first, second = sender.send(), sender.send()
        assert first.ratchet_key == second.ratchet_key
        assert (first.counter, second.counter) == (0, 1)
        assert arrives(receiver, first)
        assert arrives(receiver, second)
        keys.append(first.ratchet_key)
    assert len(set(keys)) == 10


def test_the_previous_counter_is_the_last_one_of_the_chain_before() -> None:
    alice, bob = pair()
    for _ in range(4):
        last = alice.send()
    assert last.previous_counter == 0
    assert arrives(bob, last)
    assert arrives(alice, bob.send())
    assert alice.send().previous_counter == 3


def test_a_new_ratchet_key_is_made_when_prepared_or_when_sending() -> None:
    alice, bob = pair()
    assert alice.sender is None
    assert arrives(bob, alice.send())
    assert bob.sender is None
    prepared = bob.prepare()
    assert bob.prepare() is prepared
    assert bob.send().ratchet_key == prepared.pair.public
    assert bob.sender is not None


def test_late_messages_of_earlier_chains_arrive() -> None:
    alice, bob = pair()
    late = []
    for _ in range(RECEIVER_CHAINS):
        assert arrives(bob, alice.send())
        late.append(alice.send())
        assert arrives(alice, bob.send())
    for sent in late:
        assert arrives(bob, sent)


def test_the_oldest_receiver_chain_gives_way() -> None:
    alice, bob = pair()
    assert arrives(bob, alice.send())
    late = alice.send()
    for _ in range(RECEIVER_CHAINS):
        assert arrives(alice, bob.send())
        assert arrives(bob, alice.send())
    assert len(bob.receivers) == RECEIVER_CHAINS
    assert not bob.knows(late.ratchet_key)
    with pytest.raises(CryptoError):
        bob.receive(late.ratchet_key, late.counter)


def test_an_unknown_ratchet_key_before_our_answer_is_refused() -> None:
    alice, bob = pair()
    assert arrives(bob, alice.send())
    with pytest.raises(InvalidMessage):
        bob.receive(KeyPair.generate().public, 0)


def test_a_copy_is_independent() -> None:
    alice, bob = pair()
    sent = alice.send()
    trial = bob.copy()
    assert arrives(trial, sent)
    assert arrives(bob, sent)


def test_a_chain_ends_at_the_last_counter() -> None:
    alice, _ = pair()
    alice.send()
    assert alice.sender is not None
    alice.sender = SenderChain(alice.sender.pair, ChainKey(KEY, 2**32 - 1))
    with pytest.raises(TooFarAhead):
        alice.send()


def later(alice: Ratchet, bob: Ratchet) -> Ratchet:
    for _ in range(7):
        alice.send()
        assert arrives(bob, alice.send())
        assert arrives(alice, bob.send())
    return bob


@pytest.mark.parametrize(
    "state",
    [
        lambda: pair()[0],
        lambda: pair()[1],
        lambda: later(*pair()),
    ],
    ids=["initiator", "responder", "later"],
)
def test_a_state_reads_back(state: Callable[[], Ratchet]) -> None:
    ratchet = state()
    data = ratchet.to_bytes()
    assert Ratchet.read(b"before" + data + b"after", 6) == (ratchet, 6 + len(data))


def test_a_stored_state_without_any_key_is_refused() -> None:
    data = Ratchet(b"r" * 32, None, ()).to_bytes()
    with pytest.raises(struct.error):
        Ratchet.read(data, 0)


def test_a_stored_chain_without_a_key_is_refused() -> None:
    alice, _ = pair()
    data = alice.to_bytes()
    at = data.index(alice.receivers[0])
    with pytest.raises(struct.error):
        Ratchet.read(data[:at] + b"\x06" + data[at + 1 :], 0)


def test_nothing_secret_shows() -> None:
    alice, bob = pair()
    sent = alice.send()
    assert arrives(bob, sent)
    shown = repr((alice, bob, sent, receiver_chain().taken(3)[1], MessageKeys.derive(KEY, None)))
    assert "b'" not in shown
    assert 'b"' not in shown
