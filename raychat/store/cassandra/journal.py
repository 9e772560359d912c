"""The journal of a shard, and who may write it.

A turn of a host touches many partitions, and Cassandra writes only one partition at once. So the
whole turn is one row of the journal, and durable when that row is on a quorum of disks; the tables
are written behind (`store`). One owner writes at a time, each turn after the other, under
(epoch, sequence) with no gap.

**Fencing without a lightweight transaction for each turn.** The lease row has the epoch; only
lightweight transactions write it. Who takes over:

 1. raises the epoch (a transaction that is known to be applied; one with an unknown end is
    followed by another, higher, never trusted);
 2. *then* reads the journal of the epochs before, to its first gap, at quorum;
 3. writes into the lease where each of them ended (`closed`). What the journal has or will have
    beyond that never happened.

Who writes a turn:

 1. writes its row, at quorum;
 2. *then* reads the epoch in the lease, at quorum. Only if it is still its own has the turn
    happened, and only then is anything acknowledged.

Each side first writes and then reads what the other writes, so at least one of the two sees the
other: either the owner finds a higher epoch and acknowledges nothing; or it finds its own, then the
raise was not complete before that read began, so the taker's read of the journal begins after the
row was on a quorum, and finds it. No clock is asked: it holds for a process that was stopped for
an hour between any two steps, and for a machine that was suspended, where a lease in time, which
costs no read, does not; and it lets a host that was started anew take over at once, without
waiting for a lease to end. When to take over is a question of time, whether to acknowledge is not.

A write of a turn that failed may still be there, or come later. The next turn has the same
sequence and a later `attempt`, which is its timestamp, and so takes its place on every replica. If
there is no next one, the next owner finds the turn, or does not: nobody was told either way.

A turn larger than `PART_BYTES` is written in several rows, the first one last: it says how many
there are, and a turn has happened only with all of them, of one attempt. A write may not be larger
than half a segment of Cassandra's commit log.

A bucket of the journal is deleted once all its turns are in the tables. Who takes over could read
`progress`, then the journal while its old owner deletes from it, and take the hole for the end; so
it reads `progress` again afterwards, and starts again if that has moved. (It is written before
anything is deleted.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, NamedTuple

from raychat.errors import Fenced, StoreError
from raychat.ids import Epoch
from raychat.store.cassandra.schema import BUCKET
from raychat.store.cassandra.session import Rows, Session

PART_BYTES: Final = 512 * 1024
PATIENCE_SECONDS: Final = 8.0
"""How long a turn is tried again, before the host hears that it cannot be written."""

RETRY_SECONDS: Final = 0.1
END_OF_TIME: Final = 1 << 62
"""The timestamp of deletions from the journal: what comes late is deleted already."""

_LEASE: Final = "SELECT epoch, since, closed FROM lease WHERE shard = ?"
_EPOCH: Final = "SELECT epoch FROM lease WHERE shard = ?"
_FIRST: Final = "INSERT INTO lease (shard, owner, epoch, since) VALUES (?, ?, 1, 1) IF NOT EXISTS"
_RAISE: Final = "UPDATE lease SET owner = ?, epoch = ? WHERE shard = ? IF epoch = ?"
_CLOSE: Final = "UPDATE lease SET since = ?, closed = ? WHERE shard = ? IF epoch = ?"
_APPEND: Final = (
    "INSERT INTO journal (shard, epoch, bucket, sequence, part, attempt, parts, turn)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_READ: Final = (
    "SELECT sequence, part, attempt, parts, turn FROM journal"
    " WHERE shard = ? AND epoch = ? AND bucket = ? AND sequence > ?"
)
_DELETE: Final = (
    "DELETE FROM journal USING TIMESTAMP ? WHERE shard = ? AND epoch = ? AND bucket = ?"
)
_PROGRESS: Final = "SELECT turn FROM progress WHERE shard = ? AND epoch = ?"
# The later turn is the later timestamp, in whatever order they are written.
_ADVANCE: Final = "INSERT INTO progress (shard, epoch, turn) VALUES (?, ?, ?) USING TIMESTAMP ?"


class Closed(NamedTuple):
    """Turns of an earlier epoch that may not be in the tables yet: those after `start`."""

    epoch: int
    start: int
    turns: list[bytes]

    @property
    def end(self) -> int:
        return self.start + len(self.turns)


class Journal:
    """Made by `take_over`."""

    def __init__(self, session: Session, shard: str, epoch: Epoch, before: list[Closed]) -> None:
        self.epoch = epoch
        self.before = before
        """What the owners before have left, oldest first; empty once it is in the tables."""
        self.sequence = 0
        """The last turn that has happened."""
        self.fenced = False
        self._session = session
        self._shard = shard
        self._attempt = 0
        self._deleted = 0

    @classmethod
    async def take_over(cls, session: Session, shard: str, owner: str) -> Journal:
        """Become the owner: all who were before can write no more. Raises Fenced if somebody else
        takes over meanwhile, StoreError."""
        await session.prepare((_EPOCH, _APPEND, _READ, _ADVANCE))
        epoch = await _raise_epoch(session, shard, owner)
        # Read again: until the epoch was raised the one before could still change it.
        ((now, since, closed),) = await session.agreed(_LEASE, (shard,))
        if now != epoch:
            raise Fenced
        ends = sorted((closed or {}).items()) + [(old, None) for old in range(since, epoch)]
        before = [await _read_whole(session, shard, old, end) for old, end in ends]
        before = [some for some in before if some.turns]
        ended = {some.epoch: some.end for some in before}
        await _close(session, shard, epoch, ended)
        return cls(session, shard, Epoch(epoch), before)

    async def append(self, turn: bytes) -> None:
        """One turn, after all others. Raises Fenced, or StoreError: then it has not happened."""
        if self.fenced:
            raise Fenced
        self._attempt += 1
        sequence, attempt = self.sequence + 1, self._attempt
        place = (self._shard, self.epoch, sequence // BUCKET, sequence)
        parts = [turn[at : at + PART_BYTES] for at in range(0, len(turn), PART_BYTES)]
        deadline = monotonic() + PATIENCE_SECONDS

        async def write(number: int) -> None:
            row = (*place, number, attempt, len(parts), parts[number], attempt)
            await _patiently(lambda: self._session.execute(_APPEND, row), deadline)

        for number in range(1, len(parts)):
            await write(number)
        await write(0)
        rows = await _patiently(lambda: self._session.execute(_EPOCH, (self._shard,)), deadline)
        if rows != [(self.epoch,)]:
            self.fenced = True
            raise Fenced
        self.sequence = sequence

    async def written_behind(self, sequence: int) -> None:
        """All turns up to this one are in the tables. Raises StoreError."""
        if self.before:
            await self._forget_before()
        await self._advance(self.epoch, sequence)
        while (self._deleted + 1) * BUCKET <= sequence + 1:
            await self._delete(self.epoch, self._deleted)
            self._deleted += 1

    async def _forget_before(self) -> None:
        """In this order: who takes over in the middle of it finds nothing to read, or all."""
        for epoch, start, turns in self.before:
            end = start + len(turns)
            await self._advance(epoch, end)
            for bucket in range(start // BUCKET, end // BUCKET + 1):
                await self._delete(epoch, bucket)
        try:
            await _close(self._session, self._shard, self.epoch, {})
        except Fenced:
            self.fenced = True
            raise
        self.before = []

    async def _advance(self, epoch: int, sequence: int) -> None:
        await self._session.execute(_ADVANCE, (self._shard, epoch, sequence, sequence))

    async def _delete(self, epoch: int, bucket: int) -> None:
        await self._session.execute(_DELETE, (END_OF_TIME, self._shard, epoch, bucket))


async def _raise_epoch(session: Session, shard: str, owner: str) -> int:
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            rows = await session.agreed(_LEASE, (shard,))
            if not rows:
                if await session.decide(_FIRST, (shard, owner)):
                    return 1
            elif await session.decide(_RAISE, (owner, rows[0][0] + 1, shard, rows[0][0])):
                return int(rows[0][0]) + 1
        except StoreError:
            # It may have been applied, or not: the next one is higher in any case.
            if monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _close(session: Session, shard: str, epoch: int, ended: dict[int, int]) -> None:
    """Say where the epochs before this one ended. Said twice it comes to the same, as long as
    nobody else has raised the epoch. Raises Fenced, StoreError."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if await session.decide(_CLOSE, (epoch, ended, shard, epoch)):
                return
            raise Fenced
        except StoreError:
            if monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _read_whole(session: Session, shard: str, epoch: int, end: int | None) -> Closed:
    """The turns of an epoch that may not be in the tables, up to its end; if that is not known
    yet, up to the first gap."""
    while True:
        start = await _progress(session, shard, epoch)
        turns: list[bytes] = []
        while end is None or start + len(turns) < end:
            after = start + len(turns)
            bucket = (after + 1) // BUCKET
            rows = await session.execute(_READ, (shard, epoch, bucket, after))
            some = _turns(rows, after)
            turns += some[: None if end is None else end - after]
            if start + len(turns) + 1 < (bucket + 1) * BUCKET:
                break
        # What was deleted while this read was under way was written behind before.
        if await _progress(session, shard, epoch) == start:
            if end is not None and start + len(turns) < end:
                raise StoreError(f"Turns after {start + len(turns)} of epoch {epoch} are missing.")
            return Closed(epoch, start, turns)


async def _progress(session: Session, shard: str, epoch: int) -> int:
    rows = await session.execute(_PROGRESS, (shard, epoch))
    return int(rows[0][0]) if rows else 0


def _turns(rows: Rows, after: int) -> list[bytes]:
    """The turns next to each other after a number, without what comes after a gap."""
    found: dict[int, dict[int, tuple[int, int, bytes]]] = {}
    for sequence, part, attempt, parts, turn in rows:
        found.setdefault(sequence, {})[part] = attempt, parts, turn
    turns: list[bytes] = []
    while (row := found.get(after + len(turns) + 1)) and 0 in row:
        attempt, parts, _ = row[0]
        whole = [row[part] for part in range(parts) if part in row and row[part][0] == attempt]
        if len(whole) < parts:
            break
        turns.append(b"".join(turn for _, _, turn in whole))
    return turns


async def _patiently(call: Callable[[], Awaitable[Rows]], deadline: float) -> Rows:
    while True:
        try:
            return await call()
        except StoreError:
            if monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)
