"""A keeper of a log in memory. It does what it is told, also what an honest one would not."""

from __future__ import annotations

from copy import deepcopy

from nacl.signing import SigningKey

from raychat.ids import AccountId
from raychat.transparency import accounts_map, merkle
from raychat.transparency.accounts_map import Leaf, Stored
from raychat.transparency.answer import Answer, Lists, State, expected
from raychat.transparency.head import NO_LISTS, Entry, Epoch, SignedHead, chained, label_of

NOW = 1_700_000_000_000


class Map:
    """The nodes of a map."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Leaf | bytes] = {}

    def get(self, place: bytes) -> Stored:
        return self.nodes.get(place)

    def put(self, place: bytes, node: Leaf | bytes) -> None:
        self.nodes[place] = node


class Tree:
    """The nodes of a log."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def append(self, leaf: bytes) -> None:
        for level, index, value in merkle.grown(self.node, self.size, leaf):
            assert (level, index) not in self.nodes
            self.nodes[level, index] = value
        self.size += 1

    def root(self, size: int | None = None) -> bytes:
        return merkle.root(self.node, self.size if size is None else size)


class Keeper:
    """The log of a server."""

    def __init__(self, seed: bytes = b"k" * 32) -> None:
        self.key = SigningKey(seed)
        self.tree = Tree()
        self.map = Map()
        self.lists: dict[AccountId, list[bytes]] = {}
        self.entries: dict[AccountId, Entry] = {}
        self.epoch_time = 0
        self.now = NOW

    @property
    def public(self) -> bytes:
        return bytes(self.key.verify_key)

    def fork(self) -> Keeper:
        """Another history from here on, under the same key."""
        other = Keeper(bytes(self.key))
        for name in ("tree", "map", "lists", "entries", "epoch_time", "now"):
            setattr(other, name, deepcopy(getattr(self, name)))
        return other

    def publish(self, *changes: tuple[AccountId, bytes]) -> None:
        """One epoch."""
        for account, digest in changes:
            self.set_lists(account, [*self.lists.get(account, []), digest])
        self.close_epoch()

    def set_lists(self, account: AccountId, lists: list[bytes]) -> None:
        """What no honest keeper does but by appending."""
        self.lists[account] = lists
        entry = Entry(len(lists), self.tree.size + 1, chained(NO_LISTS, lists))
        self.entries[account] = entry
        accounts_map.put(self.map, label_of(account), entry.value())

    def close_epoch(self) -> None:
        self.epoch_time = self.now
        epoch = Epoch(self.tree.size + 1, self.now, accounts_map.root(self.map))
        self.tree.append(epoch.leaf())

    def head(self) -> SignedHead:
        map_root = accounts_map.root(self.map)
        return SignedHead.sign(self.tree.size, self.tree.root(), map_root, self.now, self.key)

    def consistency(self, since: int) -> tuple[bytes, ...]:
        return tuple(merkle.consistency(self.tree.node, since, self.tree.size))

    def answer(self, account: AccountId, since: int = 0, known: int = 0) -> Answer:
        lists = None
        if account in self.entries:
            count = expected(len(self.lists[account]), known)
            before = self.lists[account][:-count]
            latest = tuple(self.lists[account][-count:])
            lists = Lists(self.entries[account], chained(NO_LISTS, before), latest)
        size = self.tree.size
        return Answer(
            self.head(),
            self.consistency(since),
            tuple(merkle.inclusion(self.tree.node, size - 1, size)) if size else (),
            self.epoch_time,
            accounts_map.prove(self.map, label_of(account)),
            lists,
        )

    def state(self, since: int = 0) -> State:
        return State(self.public, self.head(), self.consistency(since))
