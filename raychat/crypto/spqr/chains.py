"""The keys the post-quantum ratchet gives to messages: a chain for each epoch and direction.

Specification: "The Double Ratchet Algorithm", revision 3, section 5 (the sparse post-quantum
ratchet). A is the side that began the session, B the other:

    start      root | A to B | B to A = HKDF(secret, "… Chain  Start", 96), no salt
    epoch      root'| A to B | B to A = HKDF(epoch secret, "… Chain Add Epoch", 96), salt root
    message n  chain' | key = HKDF(chain, n u32 || "… Chain Next", 64), no salt, n = 1, 2…

Messages may come late or never, so keys of skipped messages are kept, as in the other ratchet.
Chains of the epoch that is sent in, of the one before it and of later ones are kept; a chain
for sending is forgotten as soon as a later one is used.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, NewType, Self

from raychat.crypto.kdf import hkdf
from raychat.crypto.skipped import ENTRY_BYTES, NO_KEYS, SkippedKeys, entry
from raychat.errors import InvalidMessage, TooFarAhead
from raychat.limits import SKIPPED_KEYS

_KEY: Final = 32
_LAST_COUNTER: Final = 0xFFFF_FFFF
_LABEL: Final = b"Signal PQ Ratchet V1 Chain"
_START: Final = _LABEL + b"  Start"
_ADD: Final = _LABEL + b" Add Epoch"
_NEXT: Final = _LABEL + b" Next"

# Stored form: root, whether we are A, epoch of the first link, number of links. Then each link.
_HEAD: Final = struct.Struct(">32s?QB")
# Whether it still sends, chain key and count of messages sent, the same received, number of
# skipped keys, which follow. `Chains` relies on where the first and the last of these are.
_LINK: Final = struct.Struct(">?32sI32sIH")


class Step(NamedTuple):
    """A chain after `counter` messages."""

    key: bytes
    counter: int

    def next(self) -> tuple[Step, bytes]:
        """The chain after one more message, and that message's key."""
        counter = self.counter + 1
        keys = hkdf(self.key, counter.to_bytes(4, "big") + _NEXT, 2 * _KEY)
        return Step(keys[:_KEY], counter), keys[_KEY:]

    def passed(self) -> Step:
        """The chain after one more message, whose key nobody will ask for."""
        counter = self.counter + 1
        return Step(hkdf(self.key, counter.to_bytes(4, "big") + _NEXT, _KEY), counter)

    def __repr__(self) -> str:
        return f"Step(counter={self.counter})"


StoredLink = NewType("StoredLink", bytes)
"""A Link as bytes, the first of which is 0 if it does not send any more."""


class Link(NamedTuple):
    """Both directions of one epoch. `sender` is None when a later epoch is sent in."""

    sender: Step | None
    receiver: Step
    skipped: SkippedKeys = NO_KEYS

    def received(self, counter: int, most: int) -> tuple[Link, bytes]:
        """The key of message `counter`, which can't be had again from the link returned.

        Raises InvalidMessage if it was taken before or is gone, TooFarAhead if it is more than
        `most` messages ahead.
        """
        step = self.receiver
        ahead = counter - step.counter - 1
        if ahead < 0:
            found = self.skipped.taken(counter)
            if found is None:
                raise InvalidMessage("The post-quantum key of this message is not here any more.")
            key, rest = found
            return self._replace(skipped=rest), key
        if ahead > most:
            raise TooFarAhead
        skipped = self.skipped
        if ahead:
            # Keys that the limit would drop at once are not worth making.
            for _ in range(ahead - SKIPPED_KEYS):
                step = step.passed()
            entries = []
            while step.counter < counter - 1:
                step, key = step.next()
                entries.append(entry(step.counter, key))
            skipped = skipped.added(b"".join(entries))
        step, key = step.next()
        return Link(self.sender, step, skipped), key

    def to_bytes(self) -> StoredLink:
        sender, receiver, skipped = self
        step = sender or _NO_STEP
        head = _LINK.pack(sender is not None, *step, *receiver, len(skipped))
        return StoredLink(head + skipped.data)

    @classmethod
    def from_bytes(cls, data: StoredLink) -> Self:
        sends, key, sent, their_key, received, count = _LINK.unpack_from(data)
        skipped = SkippedKeys(data[_LINK.size :]) if count else NO_KEYS
        return cls(Step(key, sent) if sends else None, Step(their_key, received), skipped)


class Chains(NamedTuple):
    """The links of the epochs `first`, `first` + 1… Epoch 0 is that of the handshake.

    They are kept as they are stored, since a message needs only one of them.
    """

    root: bytes
    began: bool
    first: int
    links: tuple[StoredLink, ...]

    @classmethod
    def begun(cls, secret: bytes, *, began: bool) -> Self:
        """For a new session. `began` is whether we began it; `secret` is the handshake's."""
        root, link = _link(hkdf(secret, _START, 3 * _KEY), began)
        return cls(root, began, 0, (link.to_bytes(),))

    def added(self, secret: bytes) -> Self:
        """With the link of the next epoch."""
        root, link = _link(hkdf(secret, _ADD, 3 * _KEY, self.root), self.began)
        return self._replace(root=root, links=(*self.links, link.to_bytes()))

    def can_send(self, epoch: int) -> bool:
        place = epoch - self.first
        return 0 <= place < len(self.links) and bool(self.links[place][0])

    def sent(self, epoch: int) -> tuple[Chains, int, bytes]:
        """Counter and key of the next message to send in `epoch`, which never falls.

        Raises TooFarAhead at the end of a chain.
        """
        place = epoch - self.first
        link = Link.from_bytes(self.links[place])
        step = link.sender
        assert step is not None, "the epoch of sending has fallen"
        if step.counter == _LAST_COUNTER:
            raise TooFarAhead("The chain is used up; start a new session.")
        step, key = step.next()
        links = list(self.links)
        links[place] = link._replace(sender=step).to_bytes()
        first = self.first
        if place:
            before = links[place - 1]
            if before[0]:
                links[place - 1] = Link.from_bytes(before)._replace(sender=None).to_bytes()
            del links[: place - 1]
            first = epoch - 1
        return Chains(self.root, self.began, first, tuple(links)), step.counter, key

    def received(self, epoch: int, counter: int, most: int) -> tuple[Chains, bytes]:
        """The key of message `counter` of `epoch`. Raises as `Link.received`."""
        place = epoch - self.first
        if not 0 <= place < len(self.links):
            raise InvalidMessage("The message is of an epoch whose keys are not here.")
        link, key = Link.from_bytes(self.links[place]).received(counter, most)
        links = (*self.links[:place], link.to_bytes(), *self.links[place + 1 :])
        return Chains(self.root, self.began, self.first, links), key

    def to_bytes(self) -> bytes:
        head = _HEAD.pack(self.root, self.began, self.first, len(self.links))
        return b"".join((head, *self.links))

    @classmethod
    def read(cls, data: bytes, at: int) -> tuple[Self, int]:
        """The chains stored at offset `at`, and the offset after them. Raises struct.error."""
        root, began, first, count = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        links = []
        for _ in range(count):
            start, at = at, at + _LINK.size
            at += ENTRY_BYTES * int.from_bytes(data[at - 2 : at], "big")
            if at > len(data):
                raise struct.error("a link is cut off")
            links.append(StoredLink(data[start:at]))
        return cls(root, began, first, tuple(links)), at

    def __repr__(self) -> str:
        links = [Link.from_bytes(stored) for stored in self.links]
        return f"Chains(first={self.first}, {links=})"


_NO_STEP: Final = Step(bytes(_KEY), 0)


def _link(keys: bytes, began: bool) -> tuple[bytes, Link]:
    root, a_to_b, b_to_a = keys[:_KEY], keys[_KEY : 2 * _KEY], keys[2 * _KEY :]
    ours, theirs = (a_to_b, b_to_a) if began else (b_to_a, a_to_b)
    return root, Link(Step(ours, 0), Step(theirs, 0))
