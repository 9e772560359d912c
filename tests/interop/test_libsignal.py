"""Our messages against those of the reference library, byte for byte and in both directions."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from raychat.crypto import CiphertextMessage, MessageKind, PreKeyBundle, PublicKey
from raychat.errors import BadSignature, CryptoError, DuplicateMessage, InvalidMessage
from raychat.ids import DeviceId
from tests.crypto.device import DAY, NOW, Device
from tests.crypto.fields import corruptions

if TYPE_CHECKING:
    from tests.interop.conftest import Peer, PeerDevice

pytestmark = pytest.mark.interop

BOTH = pytest.mark.parametrize("we_begin", [True, False], ids=["we-begin", "they-begin"])
ONE_TIME = pytest.mark.parametrize("one_time", [True, False], ids=["one-time", "no-one-time"])


class Pair:
    """Our device and theirs, by whose turn it is rather than by whose code it runs."""

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

    def refused(self, from_us: bool, message: CiphertextMessage) -> str:
        """The reason why the receiver refuses."""
        with pytest.raises((CryptoError, _peer_error())) as caught:
            self.receive(from_us, message)
        return str(caught.value)


def _peer_error() -> type[Exception]:
    # The class belongs to the conftest module, which is not imported by its name.
    return _PEER_ERROR[0]


_PEER_ERROR: list[type[Exception]] = []


@pytest.fixture(autouse=True)
def _know_the_error(peer: Peer) -> None:
    _PEER_ERROR[:] = [peer.refusal]


@pytest.fixture
def pair(theirs: PeerDevice) -> Pair:
    return Pair(theirs)
