"""Our messages against those of the reference library, byte for byte and in both directions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raychat.crypto import CiphertextMessage, MessageKind
from raychat.errors import BadSignature, CryptoError, DuplicateMessage
from tests.crypto.device import NOW, Device
from tests.crypto.fields import flipped, pre_key_corruptions, signal_corruptions
from tests.interop.peer import PeerDevice, PeerError

pytestmark = pytest.mark.interop

BOTH = pytest.mark.parametrize("we_begin", [True, False], ids=["we-begin", "they-begin"])
ONE_TIME = pytest.mark.parametrize("one_time", [True, False], ids=["one-time", "no-one-time"])


class Pair:
    """Our device and theirs; `from_us` says which of them sends."""

    def __init__(self, theirs: PeerDevice) -> None:
        self.ours = Device()
        self.theirs = theirs

    def begin(self, we_begin: bool, *, one_time: bool = True) -> None:
        ours, theirs = self.ours, self.theirs
        if we_begin:
            ours.cipher.process_bundle(theirs.address, theirs.bundle(one_time=one_time), NOW)
        else:
            theirs.process_bundle(ours.address, ours.bundle(one_time=one_time), NOW)

    def send(self, from_us: bool, plaintext: bytes) -> CiphertextMessage:
        if from_us:
            return self.ours.cipher.encrypt(self.theirs.address, plaintext, NOW)
        return self.theirs.encrypt(self.ours.address, plaintext, NOW)

    def receive(self, from_us: bool, message: CiphertextMessage) -> bytes:
        if from_us:
            return self.theirs.decrypt(self.ours.address, message)
        return self.ours.cipher.decrypt(self.theirs.address, message)

    def exchange(self, from_us: bool, plaintext: bytes) -> MessageKind:
        message = self.send(from_us, plaintext)
        assert self.receive(from_us, message) == plaintext
        return message.kind


@pytest.fixture
def pair(theirs: PeerDevice) -> Pair:
    return Pair(theirs)


@BOTH
@ONE_TIME
def test_a_session_begins_and_is_answered(pair: Pair, we_begin: bool, one_time: bool) -> None:
    pair.begin(we_begin, one_time=one_time)
    assert pair.exchange(we_begin, b"first") is MessageKind.PRE_KEY
    assert pair.exchange(we_begin, b"second, still unanswered") is MessageKind.PRE_KEY
    assert pair.exchange(not we_begin, b"answer") is MessageKind.WHISPER
    assert pair.exchange(we_begin, b"third") is MessageKind.WHISPER
    if we_begin:
        assert pair.theirs.state()["pre_keys"] == []
        assert pair.theirs.state()["kyber_used"] == [1]
    else:
        assert not pair.ours.store.pre_keys
        assert not pair.ours.store.kyber_pre_keys


@BOTH
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 60_000])
def test_plaintexts_of_every_size_arrive(pair: Pair, we_begin: bool, size: int) -> None:
    pair.begin(we_begin)
    pair.exchange(we_begin, bytes(size))
    pair.exchange(not we_begin, bytes(size))


@BOTH
def test_three_hundred_rounds(pair: Pair, we_begin: bool) -> None:
    pair.begin(we_begin)
    for number in range(300):
        pair.exchange(we_begin, b"ping %d" % number)
        pair.exchange(not we_begin, b"pong %d" % number)
        if number % 7 == 0:
            pair.ours.reload()


@BOTH
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_hundred_rounds_with_loss_reorder_and_duplicates(
    pair: Pair, we_begin: bool, seed: int
) -> None:
    chance = random.Random(seed)
    pair.begin(we_begin)
    under_way: list[tuple[bool, bytes, CiphertextMessage]] = []
    arrived = 0
    # The beginner alone can send until its first message is there.
    pair.exchange(we_begin, b"first")
    for number in range(600):
        from_us = chance.random() < 0.5
        plaintext = b"%d " % number + chance.randbytes(chance.randrange(200))
        message = pair.send(from_us, plaintext)
        if chance.random() < 0.7:
            under_way.append((from_us, plaintext, message))
        while len(under_way) > chance.randrange(12):
            at = chance.randrange(len(under_way))
            sender, expected, late = under_way[at]
            assert pair.receive(sender, late) == expected
            arrived += 1
            if chance.random() < 0.1:
                with pytest.raises((DuplicateMessage, PeerError)):
                    pair.receive(sender, late)
            del under_way[at]
        if chance.random() < 0.2:
            pair.ours.reload()
    assert arrived > 350


@BOTH
@ONE_TIME
def test_a_first_message_damaged_anywhere_is_refused_and_then_accepted_whole(
    pair: Pair, we_begin: bool, one_time: bool
) -> None:
    pair.begin(we_begin, one_time=one_time)
    message = pair.send(we_begin, b"whole")
    damaged = dict(pre_key_corruptions(message.body))
    assert len(damaged) == (12 if one_time else 11)
    for name, body in damaged.items():
        before = pair.ours.snapshot()
        with pytest.raises((CryptoError, PeerError)):
            pair.receive(we_begin, message._replace(body=body))
            pytest.fail(f"accepted with a damaged {name}")
        assert pair.ours.snapshot() == before
    assert pair.receive(we_begin, message) == b"whole"


@BOTH
def test_a_message_damaged_anywhere_is_refused_and_then_accepted_whole(
    pair: Pair, we_begin: bool
) -> None:
    pair.begin(we_begin)
    pair.exchange(we_begin, b"first")
    pair.exchange(not we_begin, b"answer")
    for from_us in (we_begin, not we_begin):
        message = pair.send(from_us, b"whole")
        for name, body in signal_corruptions(message.body):
            # The previous counter is told and not used, so only the MAC protects it.
            before = pair.ours.snapshot()
            with pytest.raises((CryptoError, PeerError)):
                pair.receive(from_us, message._replace(body=body))
                pytest.fail(f"accepted with a damaged {name}")
            assert pair.ours.snapshot() == before
        assert pair.receive(from_us, message) == b"whole"


def test_both_begin_at_once_and_meet_in_one_session(pair: Pair) -> None:
    pair.begin(True)
    pair.begin(False)
    from_us, from_them = pair.send(True, b"ours"), pair.send(False, b"theirs")
    assert pair.receive(True, from_us) == b"ours"
    assert pair.receive(False, from_them) == b"theirs"
    kinds = [pair.exchange(turn % 2 == 0, b"%d" % turn) for turn in range(8)]
    assert kinds[2:] == [MessageKind.WHISPER] * 6


@BOTH
def test_a_session_begun_anew_takes_over_and_late_messages_still_arrive(
    pair: Pair, we_begin: bool
) -> None:
    pair.begin(we_begin)
    pair.exchange(we_begin, b"first")
    pair.exchange(not we_begin, b"answer")
    late = pair.send(we_begin, b"late")
    pair.begin(we_begin)
    assert pair.exchange(we_begin, b"anew") is MessageKind.PRE_KEY
    pair.exchange(not we_begin, b"answer anew")
    pair.ours.reload()
    assert pair.receive(we_begin, late) == b"late"
    pair.exchange(not we_begin, b"still in touch")


@BOTH
def test_a_message_far_ahead_is_reached_and_those_before_it_too(pair: Pair, we_begin: bool) -> None:
    pair.begin(we_begin)
    pair.exchange(we_begin, b"first")
    pair.exchange(not we_begin, b"answer")
    messages = [pair.send(we_begin, b"%d" % number) for number in range(500)]
    for number in (499, 0, 250, 498):
        assert pair.receive(we_begin, messages[number]) == b"%d" % number


def test_signatures_are_valid_on_both_sides(theirs: PeerDevice) -> None:
    ours = Device()
    for size in (0, 1, 33, 1569):
        data = bytes(size)
        signature = theirs.sign(data)
        theirs.identity_key.verify(data, signature)
        with pytest.raises(BadSignature):
            theirs.identity_key.verify(data, flipped(signature, 40))
        signature = ours.identity.private.sign(data)
        assert theirs.verify(ours.identity.public, data, signature)
        assert not theirs.verify(ours.identity.public, data, flipped(signature, 40))


def test_their_bundle_with_a_foreign_signature_is_refused(theirs: PeerDevice) -> None:
    ours, bundle = Device(), theirs.bundle()
    swapped = replace(bundle, signed_pre_key_signature=bundle.kyber_pre_key_signature)
    with pytest.raises(BadSignature):
        ours.cipher.process_bundle(theirs.address, swapped, NOW)
    assert not ours.store.sessions
