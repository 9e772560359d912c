"""Two devices under a network that does everything a network may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from raychat.crypto import CiphertextMessage, MessageKind
from raychat.crypto.message import PreKeySignalMessage, SignalMessage
from raychat.crypto.spqr.message import BraidMessage
from raychat.errors import CryptoError, DuplicateMessage
from raychat.limits import RECEIVER_CHAINS
from tests.crypto.device import NOW, Device
from tests.crypto.fields import flipped


class Letter(NamedTuple):
    sender: int
    plaintext: bytes
    message: CiphertextMessage
    ratchet_key: bytes
    epoch: int
    session: bytes


# Long ones too, for an epoch takes some 70 messages.
BURSTS = (1, 1, 1, 2, 3, 4, 40)


class Conversation(RuleBasedStateMachine):
    """Whatever is delivered decrypts to what was sent, once; a bad message changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.devices = (Device(), Device())
        self.under_way: list[Letter] = []
        self.delivered: list[Letter] = []
        # The ratchet keys each receiver has seen in each session, in order.
        self.seen: dict[tuple[int, bytes], list[bytes]] = {}
        # The post-quantum epoch each side has last sent in, in each session.
        self.epochs: dict[tuple[int, bytes], int] = {}
        self.count = 0

    @initialize()
    def first_session(self) -> None:
        self.begin(0, True)

    @rule(sender=st.integers(0, 1), one_time=st.booleans(), really=st.integers(0, 3))
    def begin(self, sender: int, one_time: bool, really: int = 0) -> None:
        if really:  # Seldom, or no session would live long enough.
            return
        device, other = self.devices[sender], self.devices[1 - sender]
        device.cipher.process_bundle(other.address, other.bundle(one_time=one_time), NOW)

    @rule(sender=st.integers(0, 1), size=st.integers(0, 64), times=st.sampled_from(BURSTS))
    def send(self, sender: int, size: int, times: int) -> None:
        device, other = self.devices[sender], self.devices[1 - sender]
        if not device.cipher.has_session(other.address, NOW):
            return
        for _ in range(times):
            self.count += 1
            plaintext = b"%d:" % self.count + bytes(size)
            message = device.cipher.encrypt(other.address, plaintext, NOW)
            self.under_way.append(self._letter(sender, plaintext, message))

    def _letter(self, sender: int, plaintext: bytes, message: CiphertextMessage) -> Letter:
        record = self.devices[sender].store.sessions[self.devices[1 - sender].address]
        assert record.current is not None
        if message.kind is MessageKind.PRE_KEY:
            signal = PreKeySignalMessage.parse(message.body).message
        else:
            signal = SignalMessage.parse(message.body)
        session = record.current.base_key.data
        epoch = self.epochs[sender, session] = BraidMessage.parse(signal.pq_ratchet).epoch
        return Letter(sender, plaintext, message, signal.ratchet_key.data, epoch, session)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), times=st.sampled_from(BURSTS))
    def deliver(self, data: st.DataObject, times: int) -> None:
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        for letter in self.under_way[at : at + times]:
            self._deliver(letter)
        del self.under_way[at : at + times]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def crash_while_delivering(self, data: st.DataObject) -> None:
        """Before the store was committed: the letter comes again."""
        letter = data.draw(st.sampled_from(self.under_way))
        if self._is_too_late(letter):
            return
        receiver = self.devices[1 - letter.sender]
        with self._rolled_back(receiver):
            assert self._decrypt(letter, letter.message) == letter.plaintext

    @rule(sender=st.integers(0, 1))
    def crash_while_sending(self, sender: int) -> None:
        """Before the store was committed: the message has not left, and its keys are unused."""
        device, other = self.devices[sender], self.devices[1 - sender]
        if device.cipher.has_session(other.address, NOW):
            with self._rolled_back(device):
                device.cipher.encrypt(other.address, b"never sent", NOW)

    @rule(first=st.integers(0, 1), turns=st.sampled_from((2, 15, 45)))
    def chat(self, first: int, turns: int) -> None:
        """Both write in turns and nothing is lost: the quickest way through an epoch."""
        for turn in range(turns):
            before = len(self.under_way)
            self.send((first + turn) % 2, 0, 1)
            for letter in self.under_way[before:]:
                self._deliver(letter)
            del self.under_way[before:]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        del self.under_way[data.draw(st.integers(0, len(self.under_way) - 1))]

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        letter = data.draw(st.sampled_from(self.delivered))
        chains = self.seen[letter.sender, letter.session][-RECEIVER_CHAINS:]
        error = DuplicateMessage if letter.ratchet_key in chains else CryptoError
        self._refused(letter, letter.message, error)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), bit=st.integers(0, 7))
    def deliver_damaged(self, data: st.DataObject, bit: int) -> None:
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        letter = self.under_way[at]
        body = letter.message.body
        place = data.draw(st.integers(0, len(body) - 1))
        damaged = letter.message._replace(body=flipped(body, place, bit))
        if self._is_too_late(letter):
            return
        before = self.devices[1 - letter.sender].snapshot()
        try:
            plaintext = self._decrypt(letter, damaged)
        except CryptoError:
            assert self.devices[1 - letter.sender].snapshot() == before
            return
        # Its wrapping is not authenticated where it has no effect: the low nibble of the
        # version, the registration id, and all key material once the session exists.
        assert letter.message.kind is MessageKind.PRE_KEY
        assert plaintext == letter.plaintext
        del self.under_way[at]
        self._arrived(letter)

    @rule(who=st.integers(0, 1))
    def crash_and_reload(self, who: int) -> None:
        self.devices[who].reload()

    def _deliver(self, letter: Letter) -> None:
        if self._is_too_late(letter):
            self._refused(letter, letter.message, CryptoError)
            return
        assert self._decrypt(letter, letter.message) == letter.plaintext
        self._arrived(letter)

    def _is_too_late(self, letter: Letter) -> bool:
        """Whether its chain, in either ratchet, has given way to newer ones."""
        seen = self.seen.get((letter.sender, letter.session), [])
        sent_in = self.epochs.get((1 - letter.sender, letter.session), 1)
        return letter.ratchet_key in seen[:-RECEIVER_CHAINS] or letter.epoch < sent_in - 1

    @contextmanager
    def _rolled_back(self, device: Device) -> Iterator[None]:
        before = {name: copy(kept) for name, kept in vars(device.store).items()}
        yield
        vars(device.store).update(before)
        device.reload()

    def _decrypt(self, letter: Letter, message: CiphertextMessage) -> bytes:
        receiver = self.devices[1 - letter.sender]
        return receiver.cipher.decrypt(self.devices[letter.sender].address, message)

    def _refused(
        self, letter: Letter, message: CiphertextMessage, error: type[CryptoError]
    ) -> None:
        before = self.devices[1 - letter.sender].snapshot()
        with pytest.raises(error):
            self._decrypt(letter, message)
        assert self.devices[1 - letter.sender].snapshot() == before

    def _arrived(self, letter: Letter) -> None:
        self.delivered.append(letter)
        seen = self.seen.setdefault((letter.sender, letter.session), [])
        if letter.ratchet_key not in seen:
            seen.append(letter.ratchet_key)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
