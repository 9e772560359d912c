"""Our messages against those of the reference library, byte for byte and in both directions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raychat.crypto import CiphertextMessage, MessageKind
from raychat.crypto.message import PreKeySignalMessage, SignalMessage
from raychat.crypto.spqr.message import BraidMessage
from raychat.errors import (
    BadSignature,
    CryptoError,
    DuplicateMessage,
    InvalidMessage,
    StaleSession,
    UntrustedIdentity,
)
from raychat.ids import Address, DeviceId
from raychat.limits import UNACKED_SESSION_DAYS
from tests.crypto.device import DAY, NOW, Device
from tests.crypto.fields import flipped, pre_key_corruptions, signal_corruptions
from tests.interop.peer import Peer, PeerDevice, PeerError

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

    def establish(self, we_begin: bool) -> None:
        self.begin(we_begin)
        self.exchange(we_begin, b"first")
        self.exchange(not we_begin, b"answer")

    def send(self, from_us: bool, plaintext: bytes, now: int = NOW) -> CiphertextMessage:
        if from_us:
            return self.ours.cipher.encrypt(self.theirs.address, plaintext, now)
        return self.theirs.encrypt(self.ours.address, plaintext, now)

    def receive(self, from_us: bool, message: CiphertextMessage) -> bytes:
        if from_us:
            return self.theirs.decrypt(self.ours.address, message)
        return self.ours.cipher.decrypt(self.theirs.address, message)

    def exchange(self, from_us: bool, plaintext: bytes) -> MessageKind:
        message = self.send(from_us, plaintext)
        assert self.receive(from_us, message) == plaintext
        return message.kind

    def refused(self, from_us: bool, message: CiphertextMessage, why: str) -> None:
        """Whoever receives refuses; our side also has not changed."""
        before = self.ours.snapshot()
        with pytest.raises((CryptoError, PeerError)):
            self.receive(from_us, message)
            pytest.fail(f"accepted with {why}")
        assert self.ours.snapshot() == before

    @property
    def epoch(self) -> int:
        """How far the post-quantum ratchet of our side has come."""
        current = self.ours.store.sessions[self.theirs.address].current
        assert current is not None
        return current.pq.epoch

    @property
    def state(self) -> str:
        current = self.ours.store.sessions[self.theirs.address].current
        assert current is not None
        return type(current.pq.state).__name__


def braid(message: CiphertextMessage) -> BraidMessage:
    if message.kind is MessageKind.PRE_KEY:
        signal = PreKeySignalMessage.parse(message.body).message
    else:
        signal = SignalMessage.parse(message.body)
    return BraidMessage.parse(signal.pq_ratchet)


@pytest.fixture
def pair(theirs: PeerDevice) -> Pair:
    return Pair(theirs)


# -- sessions ------------------------------------------------------------------------------


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


def test_a_last_resort_key_serves_several_of_their_sessions(peer: Peer) -> None:
    ours = Device()
    bundle = ours.bundle(one_time=False, last_resort=True)
    for theirs in (peer.device(), peer.device()):
        theirs.process_bundle(ours.address, bundle, NOW)
        first = theirs.encrypt(ours.address, b"first", NOW)
        assert ours.cipher.decrypt(theirs.address, first) == b"first"
        again = theirs.encrypt(ours.address, b"again", NOW)
        del ours.store.sessions[theirs.address]
        with pytest.raises(DuplicateMessage):
            ours.cipher.decrypt(theirs.address, again)


@BOTH
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 60_000])
def test_plaintexts_of_every_size_arrive(pair: Pair, we_begin: bool, size: int) -> None:
    pair.begin(we_begin)
    pair.exchange(we_begin, bytes(size))
    pair.exchange(not we_begin, bytes(size))


def test_both_begin_at_once_and_meet_in_one_session(pair: Pair) -> None:
    pair.begin(True)
    pair.begin(False)
    from_us, from_them = pair.send(True, b"ours"), pair.send(False, b"theirs")
    assert pair.receive(True, from_us) == b"ours"
    assert pair.receive(False, from_them) == b"theirs"
    kinds = [pair.exchange(turn % 2 == 0, b"%d" % turn) for turn in range(120)]
    assert kinds[2:] == [MessageKind.WHISPER] * 118
    assert pair.epoch >= 2


@BOTH
def test_a_session_begun_anew_takes_over_and_late_messages_still_arrive(
    pair: Pair, we_begin: bool
) -> None:
    pair.establish(we_begin)
    late = pair.send(we_begin, b"late")
    pair.begin(we_begin)
    assert pair.exchange(we_begin, b"anew") is MessageKind.PRE_KEY
    pair.exchange(not we_begin, b"answer anew")
    pair.ours.reload()
    assert pair.receive(we_begin, late) == b"late"
    pair.exchange(not we_begin, b"still in touch")


@BOTH
def test_a_session_never_answered_is_stale_after_thirty_days(pair: Pair, we_begin: bool) -> None:
    late = NOW + UNACKED_SESSION_DAYS * DAY + 1
    pair.begin(we_begin)
    pair.exchange(we_begin, b"first")
    with pytest.raises((StaleSession, PeerError)):
        pair.send(we_begin, b"late", late)
    pair.exchange(not we_begin, b"answer")
    pair.send(we_begin, b"late", late)


def test_their_new_installation_is_noticed_and_accepted_when_we_say_so(peer: Peer) -> None:
    ours, theirs = Device(), peer.device()
    theirs.process_bundle(ours.address, ours.bundle(), NOW)
    hello = theirs.encrypt(ours.address, b"hello", NOW)
    assert ours.cipher.open(theirs.address, hello) == (b"hello", None)
    again = peer.device(theirs.address)
    again.process_bundle(ours.address, ours.bundle(), NOW)
    message = again.encrypt(ours.address, b"it is me", NOW)
    with pytest.raises(UntrustedIdentity):
        ours.cipher.decrypt(theirs.address, message)
    ours.store.save_identity(theirs.address, again.identity_key)
    assert ours.cipher.decrypt(theirs.address, message) == b"it is me"
    answer = ours.cipher.encrypt(theirs.address, b"so I see", NOW)
    assert again.decrypt(ours.address, answer) == b"so I see"


# -- long conversations --------------------------------------------------------------------


@BOTH
def test_six_hundred_rounds_go_through_many_epochs(pair: Pair, we_begin: bool) -> None:
    pair.begin(we_begin)
    seen = set()
    for number in range(600):
        pair.exchange(we_begin, b"ping %d" % number)
        message = pair.send(not we_begin, b"pong %d" % number)
        assert pair.receive(not we_begin, message) == b"pong %d" % number
        seen.add((pair.epoch % 2, pair.state))
        if number % 3 == 0:
            pair.ours.reload()
    assert pair.epoch >= 12
    assert braid(pair.send(False, b"")).epoch in (pair.epoch, pair.epoch - 1)
    # Our part changes with every epoch.
    assert len(seen) >= 7
    assert {parity for parity, _ in seen} == {0, 1}


@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_six_hundred_messages_with_loss_reorder_duplicates_and_reloads(
    pair: Pair, we_begin: bool, seed: int
) -> None:
    chance = random.Random(seed)
    pair.begin(we_begin)
    under_way: list[tuple[bool, bytes, CiphertextMessage]] = []
    arrived = 0
    # The beginner alone can send until its first message is there.
    pair.exchange(we_begin, b"first")
    for number in range(1200):
        from_us = chance.random() < 0.5
        plaintext = b"%d " % number + chance.randbytes(chance.randrange(200))
        message = pair.send(from_us, plaintext)
        if chance.random() < 0.7:
            under_way.append((from_us, plaintext, message))
        while len(under_way) > chance.randrange(8):
            at = chance.randrange(len(under_way))
            sender, expected, late = under_way[at]
            assert pair.receive(sender, late) == expected
            arrived += 1
            if chance.random() < 0.1:
                pair.refused(sender, late, "a duplicate")
            del under_way[at]
        if chance.random() < 0.3:
            pair.ours.reload()
    assert arrived > 750
    assert pair.epoch >= 6


@BOTH
def test_over_a_thousand_messages_in_any_order(pair: Pair, we_begin: bool) -> None:
    pair.establish(we_begin)
    chance = random.Random(3)
    for from_us in (we_begin, not we_begin):
        messages = [(b"%d" % number, pair.send(from_us, b"%d" % number)) for number in range(1100)]
        chance.shuffle(messages)
        for plaintext, message in messages:
            assert pair.receive(from_us, message) == plaintext
        pair.refused(from_us, messages[500][1], "a duplicate")
    pair.ours.reload()
    pair.exchange(we_begin, b"and on")


@BOTH
def test_long_turns_go_through_an_epoch_in_a_few_of_them(pair: Pair, we_begin: bool) -> None:
    pair.establish(we_begin)
    for turn in range(24):
        for number in range(40):
            pair.exchange(turn % 2 == 0, b"%d" % number)
        pair.ours.reload()
    assert pair.epoch >= 5


@BOTH
def test_the_session_can_be_reloaded_at_any_point_of_an_epoch(pair: Pair, we_begin: bool) -> None:
    pair.begin(we_begin)
    states = set()
    for turn in range(220):
        pair.ours.reload()
        message = pair.send((turn % 2 == 0) is we_begin, b"%d" % turn)
        pair.ours.reload()
        assert pair.receive((turn % 2 == 0) is we_begin, message) == b"%d" % turn
        states.add(pair.state)
    assert pair.epoch >= 3
    # KeysUnsampled lasts for no message, EkReceivedCt1Sampled needs loss.
    assert len(states) >= 9


# -- damage --------------------------------------------------------------------------------


@BOTH
@ONE_TIME
def test_a_first_message_damaged_anywhere_is_refused_and_then_accepted_whole(
    pair: Pair, we_begin: bool, one_time: bool
) -> None:
    pair.begin(we_begin, one_time=one_time)
    message = pair.send(we_begin, b"whole")
    damaged = dict(pre_key_corruptions(message.body))
    assert len(damaged) >= (18 if one_time else 17)
    for name, body in damaged.items():
        pair.refused(we_begin, message._replace(body=body), f"a damaged {name}")
    assert pair.receive(we_begin, message) == b"whole"


@BOTH
def test_a_message_damaged_anywhere_is_refused_and_then_accepted_whole(
    pair: Pair, we_begin: bool
) -> None:
    pair.establish(we_begin)
    for turn in range(100):
        from_us = (turn % 2 == 0) is we_begin
        message = pair.send(from_us, b"whole")
        # The previous counter is told and not used, so only the MAC protects it.
        for name, body in signal_corruptions(message.body):
            pair.refused(from_us, message._replace(body=body), f"a damaged {name}")
        assert pair.receive(from_us, message) == b"whole"
    assert pair.epoch >= 2


# -- addresses -----------------------------------------------------------------------------


def other_device(address: Address) -> Address:
    return address._replace(device=DeviceId(address.device + 1))


def test_our_first_message_is_refused_from_another_address(pair: Pair) -> None:
    pair.begin(True)
    message = pair.send(True, b"bound")
    assert PreKeySignalMessage.parse(message.body).message.addresses
    if pair.theirs.binds_addresses:
        with pytest.raises(PeerError, match=r"(?i)address|mismatch|invalid"):
            pair.theirs.decrypt(other_device(pair.ours.address), message)
    assert pair.receive(True, message) == b"bound"


def test_their_first_message_is_refused_from_another_address(pair: Pair) -> None:
    pair.begin(False)
    message = pair.send(False, b"bound")
    bound = PreKeySignalMessage.parse(message.body).message.addresses
    assert bool(bound) is pair.theirs.binds_addresses
    if bound:
        before = pair.ours.snapshot()
        with pytest.raises(InvalidMessage):
            pair.ours.cipher.decrypt(other_device(pair.theirs.address), message)
        assert pair.ours.snapshot() == before
    assert pair.receive(False, message) == b"bound"


# -- signatures ----------------------------------------------------------------------------


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
