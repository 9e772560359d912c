"""Two sides of the post-quantum ratchet on a lossy road, always in the same way."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from raychat.crypto.spqr import PostQuantumRatchet, kem, states
from raychat.crypto.spqr.ahead import Ahead

SECRET = bytes(range(32))


def pair() -> list[PostQuantumRatchet]:
    """The side that began a session, and the other."""
    return [PostQuantumRatchet.initiator(SECRET), PostQuantumRatchet.responder(SECRET)]


@contextmanager
def in_turn() -> Iterator[None]:
    """Nothing is done before its turn. Then randomness is drawn in the order of the steps."""
    with (
        patch.object(Ahead, "prepare", lambda *_: None),
        patch.object(Ahead, "take", lambda ahead, key: ahead._make(key)),
    ):
        yield


@contextmanager
def restarted() -> Iterator[None]:
    """Nothing has been done ahead yet."""
    everything = [ahead for module in (states, kem) for ahead in vars(module).values()]
    with ExitStack() as stack:
        for ahead in everything:
            if isinstance(ahead, Ahead):
                stack.enter_context(patch.dict(ahead._kept, clear=True))
        yield


class Rehearsal:
    """Some 1,000 messages in turns of 1 to 12, a third of them lost, with drawn randomness.

    It comes through all eleven states.
    """

    def __init__(self, turns: int = 150, loss: float = 0.3) -> None:
        self._turns = turns
        self._loss = loss

    def receipts(self) -> Iterator[tuple[PostQuantumRatchet, bytes, bytes | None]]:
        """Each ratchet before it receives, the field it receives, and the salt found."""
        chance = random.Random(7)
        sides = pair()
        drawn = random.Random(8)
        with patch("os.urandom", drawn.randbytes), restarted():
            turns = (turn % 2 for turn in range(self._turns) for _ in range(chance.randint(1, 12)))
            for sender in turns:
                step = sides[sender].send()
                sides[sender] = step.ratchet
                if chance.random() < self._loss:
                    continue
                before = sides[1 - sender]
                sides[1 - sender], salt = before.receive(step.field)
                assert salt == step.salt
                yield before, step.field, salt

    def digest(self) -> bytes:
        """Of everything: what is stored, what travels, what is derived."""
        hashed = hashlib.sha256()
        for before, field, salt in self.receipts():
            hashed.update(before.to_bytes() + field + (salt or b""))
        return hashed.digest()
