"""Sender keys against the reference library, in both directions."""

from __future__ import annotations

import random

import pytest

from raychat.crypto.group_message import SenderKeyDistribution
from raychat.crypto.sender_keys import SendingKey
from raychat.errors import CryptoError, DuplicateMessage, NoSession, TooFarAhead
from raychat.limits import SENDER_KEY_STATES, SKIP_AHEAD
from tests.crypto.device import NOW
from tests.crypto.group import GROUP, Member, group_corruptions
from tests.interop.group_peer import GroupPeer
from tests.interop.peer import Peer, PeerDevice, PeerError

pytestmark = pytest.mark.interop

BOTH = pytest.mark.parametrize("from_us", [True, False], ids=["we-send", "they-send"])


class Pair:
    """Our device and theirs in one group; one of them sends."""

    def __init__(self, theirs: PeerDevice) -> None:
        self.ours = Member()
        self.theirs = GroupPeer(theirs)
        self.readers = frozenset((self.theirs.address,))

    def share(self, from_us: bool) -> None:
        if from_us:
            shared = self.ours.cipher.share(GROUP, self.readers, NOW)
            self.ours.cipher.mark_shared(GROUP, shared, self.readers)
            self.theirs.take_sender_key(self.ours.address, shared.message)
        else:
            body = self.theirs.sender_key(GROUP)
            assert self.ours.cipher.process(self.theirs.address, body) == GROUP

    def replace(self, from_us: bool) -> None:
        if from_us:
            self.ours.cipher.rotate(GROUP, NOW)
        else:
            self.theirs.drop_sender_keys()
        self.share(from_us)

    def send(self, from_us: bool, plaintext: bytes) -> bytes:
        if from_us:
            return self.ours.cipher.encrypt(GROUP, plaintext, self.readers, NOW)
        return self.theirs.encrypt(GROUP, plaintext)

    def receive(self, from_us: bool, body: bytes) -> bytes:
        if from_us:
            return self.theirs.decrypt(self.ours.address, body)
        opened = self.ours.cipher.decrypt(self.theirs.address, body)
        assert opened.distribution == GROUP
        return opened.plaintext


@pytest.fixture
def pair(theirs: PeerDevice) -> Pair:
    return Pair(theirs)


@BOTH
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 60_000])
def test_messages_of_every_size_arrive(pair: Pair, from_us: bool, size: int) -> None:
    pair.share(from_us)
    for _ in range(3):
        assert pair.receive(from_us, pair.send(from_us, bytes(size))) == bytes(size)


@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_messages_arrive_with_loss_reorder_and_duplicates(
    pair: Pair, from_us: bool, seed: int
) -> None:
    chance = random.Random(seed)
    pair.share(from_us)
    under_way: list[tuple[bytes, bytes]] = []
    for number in range(1000):
        plaintext = b"%d " % number + chance.randbytes(chance.randrange(100))
        body = pair.send(from_us, plaintext)
        if chance.random() < 0.7:
            under_way.append((plaintext, body))
    chance.shuffle(under_way)
    for plaintext, body in under_way:
        assert pair.receive(from_us, body) == plaintext
        if chance.random() < 0.1:
            with pytest.raises((DuplicateMessage, PeerError)):
                pair.receive(from_us, body)
        if chance.random() < 0.1:
            pair.ours.reload()


def test_they_get_our_key_late_and_read_from_then_on(peer: Peer) -> None:
    ours, early, late = Member(), GroupPeer(peer.device()), GroupPeer(peer.device())
    for readers, newcomer in (((early,), early), ((early, late), late)):
        devices = frozenset(reader.address for reader in readers)
        shared = ours.cipher.share(GROUP, devices, NOW)
        assert shared.missing == {newcomer.address}
        newcomer.take_sender_key(ours.address, shared.message)
        ours.cipher.mark_shared(GROUP, shared, shared.missing)
        body = ours.cipher.encrypt(GROUP, b"hello", devices, NOW)
        assert [reader.decrypt(ours.address, body) for reader in readers] == [b"hello"] * len(
            readers
        )
        if newcomer is early:
            before = body
    with pytest.raises(PeerError):
        late.decrypt(ours.address, before)


def test_we_get_their_key_late_and_read_from_then_on(theirs: PeerDevice) -> None:
    sender, late = GroupPeer(theirs), Member()
    sender.sender_key(GROUP)
    before = sender.encrypt(GROUP, b"before")
    late.cipher.process(sender.address, sender.sender_key(GROUP))
    assert late.cipher.decrypt(sender.address, sender.encrypt(GROUP, b"hello"))[1] == b"hello"
    with pytest.raises(DuplicateMessage):
        late.cipher.decrypt(sender.address, before)


@BOTH
def test_old_keys_still_read_until_five_newer_ones_came(pair: Pair, from_us: bool) -> None:
    pair.share(from_us)
    late = [pair.send(from_us, b"late") for _ in range(2)]
    for number in range(SENDER_KEY_STATES - 1):
        pair.replace(from_us)
        assert pair.receive(from_us, pair.send(from_us, b"%d" % number)) == b"%d" % number
    assert pair.receive(from_us, late[0]) == b"late"
    pair.replace(from_us)
    with pytest.raises((NoSession, PeerError)):
        pair.receive(from_us, late[1])


@BOTH
def test_the_same_key_given_again_opens_nothing_twice(pair: Pair, from_us: bool) -> None:
    if from_us:
        given = pair.ours.cipher.share(GROUP, pair.readers, NOW)
        pair.ours.cipher.mark_shared(GROUP, given, pair.readers)

        def give() -> None:
            pair.theirs.take_sender_key(pair.ours.address, given.message)
    else:
        body = pair.theirs.sender_key(GROUP)

        def give() -> None:
            pair.ours.cipher.process(pair.theirs.address, body)

    give()
    message = pair.send(from_us, b"once")
    assert pair.receive(from_us, message) == b"once"
    give()
    with pytest.raises((DuplicateMessage, PeerError)):
        pair.receive(from_us, message)


@BOTH
def test_a_message_damaged_anywhere_is_refused_and_then_accepted_whole(
    pair: Pair, from_us: bool
) -> None:
    pair.share(from_us)
    body = pair.send(from_us, b"whole")
    damaged = dict(group_corruptions(body))
    assert len(damaged) == 5
    for name, bad in damaged.items():
        before = pair.ours.snapshot()
        with pytest.raises((CryptoError, PeerError)):
            pair.receive(from_us, bad)
            pytest.fail(f"accepted with a damaged {name}")
        assert pair.ours.snapshot() == before
    assert pair.receive(from_us, body) == b"whole"


@BOTH
def test_a_message_under_a_key_that_was_not_given_is_refused(pair: Pair, from_us: bool) -> None:
    pair.share(not from_us)
    if from_us:
        shared = pair.ours.cipher.share(GROUP, pair.readers, NOW)
        pair.ours.cipher.mark_shared(GROUP, shared, pair.readers)
    else:
        pair.theirs.sender_key(GROUP)
    with pytest.raises((NoSession, PeerError)):
        pair.receive(from_us, pair.send(from_us, b"for others"))


def test_both_follow_a_jump_of_25_000_messages_and_no_longer_one(theirs: PeerDevice) -> None:
    sender, ours, peer = Member(), Member(), GroupPeer(theirs)
    key = SendingKey.generate(NOW)
    given = key.distribution(GROUP).to_bytes()
    ours.cipher.process(sender.address, given)
    peer.take_sender_key(sender.address, given)
    for _ in range(SKIP_AHEAD):
        key = key.next()
    too_far = key.next().seal(GROUP, b"too far").body
    with pytest.raises(TooFarAhead):
        ours.read(sender, too_far)
    with pytest.raises(PeerError, match="future"):
        peer.decrypt(sender.address, too_far)
    body = key.seal(GROUP, b"far").body
    assert ours.read(sender, body) == peer.decrypt(sender.address, body) == b"far"


def test_a_key_is_written_with_the_same_bytes(pair: Pair) -> None:
    body = pair.theirs.sender_key(GROUP)
    assert SenderKeyDistribution.parse(body).to_bytes() == body
