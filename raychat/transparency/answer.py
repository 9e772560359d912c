"""What the log's keeper answers: bytes that anybody can check against the log's key.

    answer  msgpack [1, head, consistency, inclusion, epoch time, siblings, found, account]
      head          the signed head (`head`)
      consistency   hashes: that the log begins with what the asker has seen of it
      inclusion     hashes: that the newest epoch, and so the head's map root, is in the log
      siblings      hashes beside the label's way through the map, root first
      found         what the way leads to: nil or [label, value]
      account       nil, or [counter, epoch, base, lists]: the entry; the chain hash `base` and then
                    the hashes of the latest lists give the entry's chain
    state   msgpack [1, key, head, consistency]: the log itself, without an account

`lists` has all that came after the counter that was asked for, but no more than
limits.LOG_HISTORY, and always the newest. A proof is written in one way only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgpack

from raychat import limits
from raychat.errors import BadProof, BadSignature, Malformed, TooLarge
from raychat.ids import AccountId
from raychat.transparency import accounts_map, merkle
from raychat.transparency.accounts_map import Leaf, MapProof
from raychat.transparency.head import (
    KEY_BYTES,
    MAX_COUNTER,
    MAX_TIME,
    Entry,
    Epoch,
    SignedHead,
    chained,
    follow,
    label_of,
)

FORMAT: Final = 1


class Lists(NamedTuple):
    """What the log has of an account: its entry, the chain hash before the latest lists, and the
    hashes of those, the newest last."""

    entry: Entry
    base: bytes
    latest: tuple[bytes, ...]

    @property
    def before(self) -> int:
        """How many lists there were before the latest ones."""
        return self.entry.counter - len(self.latest)


@dataclass(frozen=True, slots=True)
class Answer:
    """About one account. Only `check` says what of it is true."""

    head: SignedHead
    consistency: tuple[bytes, ...]
    inclusion: tuple[bytes, ...]
    epoch_time: int
    proof: MapProof
    lists: Lists | None

    def to_bytes(self) -> bytes:
        lists = self.lists
        packed: bytes = msgpack.packb(
            (
                FORMAT,
                self.head.to_bytes(),
                self.consistency,
                self.inclusion,
                self.epoch_time,
                self.proof.siblings,
                self.proof.found,
                lists and (lists.entry.counter, lists.entry.epoch, lists.base, lists.latest),
            )
        )
        return packed

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises Malformed, TooLarge."""
        match _unpack(data):
            case [1, bytes(head), consistency, inclusion, time, siblings, found, account]:
                answer = cls(
                    SignedHead.parse(head),
                    _hashes(consistency, merkle.PATH),
                    _hashes(inclusion, merkle.PATH),
                    _number(time, MAX_TIME),
                    MapProof(_hashes(siblings, accounts_map.DEPTH), _leaf(found)),
                    _lists(account),
                )
                if answer.to_bytes() == data:
                    return answer
        raise Malformed("That is not an answer of a key log.")

    def check(self, account: AccountId, kept: SignedHead | None, key: bytes, since: int) -> None:
        """Whether all of it holds for a device that has seen `kept` and asked about an account
        and its lists after the first `since` of them.

        Raises BadSignature, BadProof.
        """
        follow(kept, self.head, self.consistency, key)
        size = self.head.size
        if size:
            epoch = Epoch(size, self.epoch_time, self.head.map_root)
            merkle.check_inclusion(epoch.leaf(), size - 1, size, self.inclusion, self.head.root)
        elif self.head.map_root != accounts_map.EMPTY or self.head.root != merkle.EMPTY_ROOT:
            raise BadProof("A log without epochs has an empty map.")
        value = accounts_map.check(self.head.map_root, label_of(account), self.proof)
        if self.lists is None:
            if value is not None:
                raise BadProof("The answer leaves out what the log has of the account.")
            return
        entry, base, latest = self.lists
        if value != entry.value():
            raise BadProof("The log has another entry of the account.")
        if entry.epoch > size or chained(base, latest) != entry.chain:
            raise BadProof("The entry does not fit its lists.")
        if len(latest) < expected(entry.counter, since) or self.lists.before < 0:
            raise BadProof("The answer leaves out lists.")


class State(NamedTuple):
    """The log as it is: its key, its head, and that it continues what the asker has seen."""

    key: bytes
    head: SignedHead
    consistency: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        packed: bytes = msgpack.packb((FORMAT, self.key, self.head.to_bytes(), self.consistency))
        return packed

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises Malformed, TooLarge."""
        match _unpack(data):
            case [1, bytes(key), bytes(head), path] if len(key) == KEY_BYTES:
                state = cls(key, SignedHead.parse(head), _hashes(path, merkle.PATH))
                if state.to_bytes() == data:
                    return state
        raise Malformed("That is not the state of a key log.")

    def check(self, kept: SignedHead | None, key: bytes) -> None:
        """Raises BadSignature for another key or a bad signature, BadProof."""
        if self.key != key:
            raise BadSignature("The key log has another key than before.")
        follow(kept, self.head, self.consistency, key)


def expected(counter: int, since: int) -> int:
    """How many lists an answer has: all that are new to the asker, as far as they are not too
    many, and the newest in any case."""
    return max(1, min(counter - since, limits.LOG_HISTORY))


def _lists(value: Any) -> Lists | None:
    match value:
        case None:
            return None
        case [counter, epoch, bytes(base), latest] if len(base) == merkle.HASH_BYTES:
            numbers = _number(counter, MAX_COUNTER), _number(epoch, merkle.MAX_SIZE)
            hashes = _hashes(latest, limits.LOG_HISTORY)
            return Lists(Entry(*numbers, chained(base, hashes)), base, hashes)
    raise Malformed("That is no entry of a key log.")


def _leaf(value: Any) -> Leaf | None:
    match value:
        case None:
            return None
        case [bytes(label), bytes(given)] if len(label) == len(given) == merkle.HASH_BYTES:
            return Leaf(label, given)
    raise Malformed("That is no leaf of a map.")


def _hashes(value: Any, most: int) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed("A proof is a list of hashes.")
    if not all(isinstance(each, bytes) and len(each) == merkle.HASH_BYTES for each in value):
        raise Malformed(f"A hash is {merkle.HASH_BYTES} bytes.")
    return tuple(value)


def _number(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed("A number of the proof is out of range.")
    return value


def _unpack(data: bytes) -> Any:
    if len(data) > limits.LOG_ANSWER_BYTES:
        raise TooLarge("A proof of the key log is longer than any may be.")
    try:
        return msgpack.unpackb(data, max_ext_len=0, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The proof is not msgpack.") from error
