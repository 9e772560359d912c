"""A shard's store in Cassandra: a journal that is durable at once, and tables written behind it.

`commit` writes the turn to the journal (`journal` says how, and why an old owner cannot), then
keeps its changes in memory (`layer`), and returns. Every `WRITE_BEHIND_SECONDS`, or when there is
much, the changes of all turns since are written to the tables, each row once, in its last
state; an envelope that was acknowledged meanwhile is never written there. Reads ask memory first,
then the tables. Who takes over reads the turns that were not written behind yet from the journal
back into memory: a few seconds' worth.

Chosen by measuring, on two cores, one node, a turn of 40 envelopes of 350 bytes (p50, and what
Cassandra spends on an envelope): journal row and lease read 2.7 ms, 113 us; journal row by a
lightweight transaction 9.8 ms, 308 us; an INSERT each, side by side and not atomic, 12.7 ms,
626 us; a logged batch 24.7 ms, 755 us.

What is read from a table while its rows are written behind may be from before; so a read takes the
layers there were when it began, and looks into them too when it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgpack
import structlog

from raychat.errors import Fenced, StoreError
from raychat.ids import AccountId, DeviceId, Epoch, InboxNumber
from raychat.store.cassandra import tables
from raychat.store.cassandra.journal import Journal
from raychat.store.cassandra.keys import CassandraKeys, erased, replaced
from raychat.store.cassandra.layer import MISSING, Change, Kind, Layer, check, look, overlay
from raychat.store.cassandra.schema import INBOX_BUCKET_BITS, SLICE_BITS, stamp
from raychat.store.cassandra.session import Call, Session
from raychat.store.protocol import Owed, PeerId, ReceiptId, Writes
from raychat.store.records import OWED_BITS, PAGE_BYTES, inbox_row, told
from raychat.users.events import (
    Box,
    DeviceRecord,
    PeerRecord,
    ReceiptRecord,
    Row,
    Told,
    UserRecord,
)

log = structlog.get_logger("raychat.store")

WRITE_BEHIND_SECONDS: Final = 5.0
LAYER_BYTES: Final = 16 * 1024 * 1024
"""Of turns in memory, after which they are written behind at once."""

MOST_BYTES: Final = 4 * LAYER_BYTES
"""With more than that a commit waits for the tables."""

WAIT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0
WRITES_AT_ONCE: Final = 32
READS_AT_ONCE: Final = 32

COUNTERS: Final = 100_000
"""Boxes whose cursor and head are kept in memory."""

DAYS_AT_ONCE: Final = 1_000

_USER: Final = (
    "SELECT device, box, incarnation, token_hash, next_hash, seen,"
    " list_version, list_key, list_digest, blocked, revision"
    " FROM account WHERE shard = ? AND account = ?"
)
_LIST: Final = "SELECT list FROM account WHERE shard = ? AND account = ? LIMIT 1"
_REVISION: Final = "SELECT revision FROM account WHERE shard = ? AND account = ? LIMIT 1"
_BOX: Final = (
    "SELECT account, device, cursor, head FROM box WHERE shard = ? AND slice = ? AND box = ?"
)
_BOXES: Final = (
    "SELECT box, account, device, cursor, head FROM box"
    " WHERE shard = ? AND slice = ? AND box > ? LIMIT ?"
)
_INBOX: Final = (
    "SELECT number, frame FROM inbox"
    " WHERE shard = ? AND box = ? AND bucket = ? AND number >= ? AND number <= ?"
)
_PEER: Final = (
    "SELECT incarnation, last, recent FROM peer"
    " WHERE shard = ? AND account = ? AND sender = ? AND device = ?"
)
_RECEIPT: Final = (
    "SELECT revision, ranges FROM receipt"
    " WHERE shard = ? AND account = ? AND device = ? AND peer = ? AND outcome = ?"
)
_RECEIPTS: Final = (
    "SELECT device, peer, outcome, revision, ranges FROM receipt WHERE shard = ? AND account = ?"
)
_OWED: Final = "SELECT sequence, told FROM owed WHERE shard = ?"
_SEEN: Final = "SELECT account, device FROM seen WHERE shard = ? AND day = ?"
_FORGET_DAY: Final = "DELETE FROM seen WHERE shard = ? AND day = ?"
_TOTALS: Final = "SELECT totals FROM totals WHERE shard = ?"


class CassandraStore(CassandraKeys):
    """Implements `HostStore` for one shard."""

    def __init__(self, session: Session, shard: str, journal: Journal) -> None:
        self.epoch: Epoch = journal.epoch
        self._session = session
        self._shard = shard
        self._journal = journal
        self._layers: tuple[Layer, ...] = (Layer(),)
        self._turn = asyncio.Lock()
        self._writing_behind = asyncio.Lock()
        self._wake = asyncio.Event()
        self._room = asyncio.Condition()
        self._counters: dict[Box, tuple[int, int]] = {}
        self._owed: dict[int, Told] = {}
        self._owed_number = self.epoch << OWED_BITS
        self._box = self._given_box = self._waiting = 0
        self._first_day: int | None = None
        self._written = 0
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, session: Session, shard: str, owner: str) -> CassandraStore:
        """Take the shard over. Raises Fenced if somebody else does so meanwhile, StoreError."""
        store = cls(session, shard, await Journal.take_over(session, shard, owner))
        await store._recall()
        store._writer = asyncio.create_task(store._keep_writing_behind())
        return store

    async def _recall(self) -> None:
        """What the tables and the turns that are not in them say about the whole shard."""
        memory = self._layers[0]
        for before in self._journal.before:
            for turn in before.turns:
                memory.add(msgpack.unpackb(turn, use_list=False, strict_map_key=False), len(turn))
        rows = await self._session.execute(_OWED, (self._shard,))
        owed = {sequence: msgpack.unpackb(told) for sequence, told in rows}
        owed = overlay(self._layers, Kind.OWED, 0, owed)
        self._owed = {sequence: told(fields) for sequence, fields in sorted(owed.items())}
        totals = look(self._layers, Kind.TOTALS, 0, 0)
        if totals is MISSING:
            rows = await self._session.execute(_TOTALS, (self._shard,))
            totals = msgpack.unpackb(rows[0][0]) if rows else (0, 0, None)
        self._box, self._waiting, self._first_day = totals
        self._given_box = self._box

    # -- reading ---------------------------------------------------------------------------

    async def load(self, accounts: Sequence[AccountId]) -> list[UserRecord]:
        """A record for each account, without devices where the account is not known here."""
        return await _gather([self._load(account) for account in accounts])

    async def _load(self, account: AccountId) -> UserRecord:
        layers, rows = await self._read(_USER, account)
        stored = {row[0]: row[1:6] for row in rows if row[0] is not None}
        devices = overlay(layers, Kind.DEVICE, account, stored)
        version, key, digest, blocked, revision = rows[0][6:] if rows else (None,) * 5
        signed = look(layers, Kind.LIST, account, 0)
        if signed is not MISSING:
            version, key, digest = signed[:3] if signed else (None,) * 3
        blocked = _newer(look(layers, Kind.BLOCKED, account, 0), blocked)
        revision = _newer(look(layers, Kind.REVISION, account, 0), revision)
        records = []
        for device, (box, incarnation, token_hash, next_hash, seen) in sorted(devices.items()):
            cursor, head = await self._counters_of(box)
            inbox = (InboxNumber(cursor), InboxNumber(head))
            records.append(
                DeviceRecord(
                    DeviceId(device), box, incarnation, token_hash, *inbox, next_hash, seen
                )
            )
        listed = (version or 0, key or b"", digest or b"", blocked or b"")
        return UserRecord(account, revision or 0, records, *listed)

    async def device_list(self, account: AccountId) -> bytes | None:
        """The signed device list of an account, None if it has none."""
        layers, rows = await self._read(_LIST, account)
        signed = look(layers, Kind.LIST, account, 0)
        if signed is MISSING:
            return (rows[0][0] or None) if rows else None
        return signed[3] if signed else None

    async def peers(self, keys: Sequence[PeerId]) -> list[PeerRecord | None]:
        async def one(key: PeerId) -> PeerRecord | None:
            value = await self._row(Kind.PEER, key[0], key[1:], _PEER, key)
            return PeerRecord(*value) if value else None

        return await _gather([one(key) for key in keys])

    async def receipts(self, keys: Sequence[ReceiptId]) -> list[ReceiptRecord | None]:
        async def one(key: ReceiptId) -> ReceiptRecord | None:
            value = await self._row(Kind.RECEIPT, key[0], key[1:], _RECEIPT, key)
            return ReceiptRecord(*key[1:], *value) if value else None

        return await _gather([one(key) for key in keys])

    async def receipts_after(self, account: AccountId, revision: int) -> list[ReceiptRecord]:
        """What became of messages of all devices of an account since, oldest first."""
        newest = look(self._layers, Kind.REVISION, account, 0)
        if newest is MISSING:
            layers, rows = await self._read(_REVISION, account)
            newest = _newer(look(layers, Kind.REVISION, account, 0), rows[0][0] if rows else None)
        if (newest or 0) <= revision:
            return []
        layers, rows = await self._read(_RECEIPTS, account)
        there = overlay(layers, Kind.RECEIPT, account, {row[:3]: row[3:] for row in rows})
        records = [ReceiptRecord(*key, *value) for key, value in there.items()]
        return sorted(
            (record for record in records if record.revision > revision),
            key=lambda record: record.revision,
        )

    async def page(self, box: Box, after: InboxNumber, most: int) -> list[Row]:
        """The next envelopes after a number, at most `most` and about PAGE_BYTES."""
        cursor, head = await self._counters_of(box)
        after = max(after, InboxNumber(cursor))
        rows: list[Row] = []
        size = 0
        for number, frame in await self._frames(box, after + 1, min(head, after + most)):
            rows.append(inbox_row(number, frame))
            size += len(frame)
            if size >= PAGE_BYTES:
                break
        return rows

    async def _frames(self, box: Box, first: int, last: int) -> list[tuple[int, bytes]]:
        """The envelopes with numbers from first to last."""
        layers = self._layers
        held = [layer.rows[Kind.INBOX].get(box, {}) for layer in layers]
        found = {
            number: there[number]
            for there in held
            if there
            for number in range(first, last + 1)
            if number in there
        }
        missing = [number for number in range(first, last + 1) if number not in found]
        if missing:
            low, high = missing[0], missing[-1]
            for bucket in range(low >> INBOX_BUCKET_BITS, (high >> INBOX_BUCKET_BITS) + 1):
                key = (self._shard, box, bucket, low, high)
                for number, frame in await self._session.execute(_INBOX, key):
                    found.setdefault(number, frame)
        return sorted(found.items())

    async def oldest(
        self, after: Box, boxes: int, before: int, most: int
    ) -> tuple[Box, list[tuple[AccountId, DeviceId, list[Row]]]]:
        """Walk the inboxes: from box `after` on, at most `boxes` of them, the envelopes taken
        before `before` (ms). Returns where to go on (0 after the last box)."""
        layers = self._layers
        there: dict[Box, tuple[bytes, int, int, int]] = {}
        for part in range(after >> SLICE_BITS, (self._box >> SLICE_BITS) + 1):
            key = (self._shard, part, after, boxes - len(there))
            for box, account, device, cursor, head in await self._session.execute(_BOXES, key):
                if account is not None:
                    there[box] = account, device, cursor or 0, head or 0
            if len(there) >= boxes:
                break
        for box, _, (account, device) in (
            item for layer in (*self._layers, *layers) for item in layer.items(Kind.BOX)
        ):
            if box > after:
                there.setdefault(box, (account, device, 0, 0))
        walked = sorted(there)[:boxes]
        found = []
        for box in walked:
            account, device, cursor, head = there[box]
            cursor = _newer(look(self._layers + layers, Kind.CURSOR, box, 0), cursor)
            head = _newer(look(self._layers + layers, Kind.HEAD, box, 0), head)
            rows: list[Row] = []
            if cursor < head:
                for number, frame in await self._frames(box, cursor + 1, min(head, cursor + most)):
                    row = inbox_row(number, frame)
                    if row.at >= before:
                        break
                    rows.append(row)
            if rows:
                found.append((AccountId(account), DeviceId(device), rows))
        return (walked[-1] if len(walked) == boxes else 0), found

    async def unseen(self, before: int, most: int) -> list[tuple[AccountId, DeviceId]]:
        """Linked devices that were last there before a day (since 1970)."""
        found: list[tuple[AccountId, DeviceId]] = []
        if self._first_day is None:
            return found
        for day in range(self._first_day, min(before, self._first_day + DAYS_AT_ONCE)):
            layers = self._layers
            rows = await self._session.execute(_SEEN, (self._shard, day))
            there = overlay(self._layers + layers, Kind.SEEN, day, dict.fromkeys(rows, True))
            away = []
            for account, number in there:
                away += [
                    (account, number)
                    for device in (await self._load(account)).devices
                    if device.device == number and device.seen == day and device.token_hash
                ]
            found += away
            if len(found) >= most:
                return found[:most]
            if not away and not found:
                # All of them have been back since; nobody goes back to a day that is over.
                self._first_day = day + 1
                if rows:
                    await self._session.execute(_FORGET_DAY, (self._shard, day))
        return found

    async def owed(self, after: int, most: int) -> list[Owed]:
        there = (Owed(*item) for item in self._owed.items() if item[0] > after)
        return [owed for owed, _ in zip(there, range(most), strict=False)]

    async def depth(self) -> tuple[int, int]:
        """Envelopes in all inboxes, and bytes that are not written behind yet: for metrics."""
        return self._waiting, sum(layer.size for layer in self._layers)

    def next_box(self) -> Box:
        """A number for the inbox of a new device; none is given twice."""
        self._given_box += 1
        return self._given_box

    def next_owed(self) -> int:
        """A number for the next `Owed`; numbers only grow, and none is given twice."""
        self._owed_number += 1
        return self._owed_number

    async def _read(self, statement: str, account: AccountId) -> tuple[tuple[Layer, ...], Any]:
        """Rows of an account, and the layers that are over them."""
        before = self._layers
        rows = await self._session.execute(statement, (self._shard, account))
        return _both(self._layers, before), rows

    async def _row(
        self, kind: Kind, partition: Any, rest: Any, statement: str, key: Sequence[Any]
    ) -> Any:
        """One row, None if there is none."""
        before = self._layers
        value = look(before, kind, partition, rest)
        if value is MISSING:
            rows = await self._session.execute(statement, (self._shard, *key))
            value = look(_both(self._layers, before), kind, partition, rest)
            if value is MISSING:
                value = rows[0] if rows else None
        return value

    async def _counters_of(self, box: Box) -> tuple[int, int]:
        """Cursor and head of a box."""
        known = self._counters.get(box)
        if known is None:
            before = self._layers
            rows = await self._session.execute(_BOX, (self._shard, box >> SLICE_BITS, box))
            _, _, cursor, head = rows[0] if rows else (None,) * 4
            layers = _both(self._layers, before)
            cursor = _newer(look(layers, Kind.CURSOR, box, 0), cursor) or 0
            head = _newer(look(layers, Kind.HEAD, box, 0), head) or 0
            known = self._keep(box, (cursor, head))
        return known

    def _keep(self, box: Box, counters: tuple[int, int]) -> tuple[int, int]:
        if len(self._counters) >= COUNTERS:
            del self._counters[next(iter(self._counters))]
        self._counters[box] = counters
        return counters

    # -- writing ---------------------------------------------------------------------------

    @property
    def commits_at_once(self) -> bool:
        return False

    async def commit(self, writes: Writes) -> None:
        """All or nothing, and durable when it returns. Raises Fenced, StoreError."""
        await self._make_room()
        async with self._turn:
            changes: list[Change] = []
            box, waiting, first_day = self._box, self._waiting, self._first_day
            counters: dict[Box, tuple[int, int]] = {}
            for put in writes.devices:
                account, device, incarnation, token_hash, new_box, next_hash, seen = put
                old = await self._device(account, device, changes)
                if old is None:
                    new = new_box if new_box is not None else max(box, self._given_box) + 1
                    box = max(box, new)
                    counters[new] = (0, 0)
                    changes.append((Kind.BOX, new, 0, (account, device)))
                else:
                    new = old[0]
                value = (new, incarnation, token_hash, next_hash, seen)
                changes.append((Kind.DEVICE, account, device, value))
                if device > 1 and token_hash and (old is None or old[4] != seen or not old[2]):
                    changes.append((Kind.SEEN, seen, (account, device), True))
                    first_day = seen if first_day is None else min(first_day, seen)
            await self._account_changes(writes, changes)
            appended: dict[Box, int] = {}
            for to, number, frame in writes.appends:
                changes.append((Kind.INBOX, to, number, frame))
                appended[to] = max(number, appended.get(to, 0))
            waiting += len(writes.appends)
            for to, last in appended.items():
                cursor, head = counters.get(to) or await self._counters_of(to)
                counters[to] = cursor, max(head, last)
                changes.append((Kind.HEAD, to, 0, counters[to][1]))
            for to, upto, _ in writes.advances:
                cursor, head = counters.get(to) or await self._counters_of(to)
                counters[to] = max(cursor, upto), max(head, upto)
                waiting -= max(0, min(upto, head) - cursor)
                changes.append((Kind.CURSOR, to, 0, counters[to][0]))
            for key, peer in writes.peers.items():
                changes.append((Kind.PEER, key[0], key[1:], tuple(peer[3:])))
            revisions: dict[AccountId, int] = {}
            for id_, receipt in writes.receipts.items():
                changes.append((Kind.RECEIPT, id_[0], id_[1:], tuple(receipt[4:])))
                revisions[id_[0]] = max(receipt.revision, revisions.get(id_[0], 0))
            for account, revision in revisions.items():
                newest = look(self._layers, Kind.REVISION, account, 0)
                if newest is not MISSING:
                    revision = max(revision, newest or 0)  # noqa: PLW2901
                changes.append((Kind.REVISION, account, 0, revision))
            changes += [(Kind.OWED, 0, sequence, tuple(told)) for sequence, told in writes.owed]
            changes += [(Kind.OWED, 0, paid, None) for paid in writes.paid]
            totals = (box, waiting, first_day)
            if totals != (self._box, self._waiting, self._first_day):
                changes.append((Kind.TOTALS, 0, 0, totals))
            check(changes)
            await self._happen(changes)
            self._box, self._waiting, self._first_day = totals
            self._given_box = max(self._given_box, box)
            for to, both in counters.items():
                self._keep(to, both)
            self._owed.update(writes.owed)
            for paid in writes.paid:
                self._owed.pop(paid, None)

    async def _device(
        self, account: AccountId, device: DeviceId, changes: Iterable[Change]
    ) -> tuple[Any, ...] | None:
        """A device as it is by now, in a turn that has made these changes."""
        latest = None
        for kind, partition, rest, value in changes:
            if (kind, partition, rest) == (Kind.DEVICE, account, device):
                latest = value
        if latest is None:
            layers, rows = await self._read(_USER, account)
            stored = {row[0]: row[1:6] for row in rows if row[0] is not None}
            latest = overlay(layers, Kind.DEVICE, account, stored).get(device)
        return latest

    async def _account_changes(self, writes: Writes, changes: list[Change]) -> None:
        """What changes with an account or its devices, which is seldom."""
        for account, device, revision in writes.forgets:
            changes.append((Kind.WIPE, account, (Kind.RECEIPT, device), None))
            user = await self._load(account)
            changes.append((Kind.REVISION, account, 0, max(user.revision, revision)))
        for account, revision in writes.forgotten:
            changes.append((Kind.WIPE, account, (Kind.RECEIPT, None), None))
            changes.append((Kind.WIPE, account, (Kind.PEER, None), None))
            changes.append((Kind.LIST, account, 0, None))
            changes.append((Kind.BLOCKED, account, 0, None))
            changes.append((Kind.REVISION, account, 0, revision))
        for account, version, key, data in writes.lists.values():
            digest = sha256(data).digest() if data else b""
            changes.append((Kind.LIST, account, 0, (version, key, digest, data)))
        for account, blocked in writes.blocked.values():
            changes.append((Kind.BLOCKED, account, 0, blocked))
        for account, device, keys in writes.keys.values():
            old = await self._keys_of(account, device)
            if keys is None:
                changes += erased(account, device, old)
            else:
                changes += replaced(account, device, old, keys, self._generation())

    def _generation(self) -> int:
        return stamp(self.epoch, self._journal.sequence + 1)

    async def _happen(self, changes: list[Change]) -> None:
        """A turn, once it is in the journal. `_turn` is held. Raises Fenced, StoreError."""
        turn = msgpack.packb(changes)
        await self._journal.append(turn)
        # Nobody else runs between the turn's happening and its being seen.
        self._layers[0].add(changes, len(turn))
        if self._layers[0].size > LAYER_BYTES:
            self._wake.set()

    async def _make_room(self) -> None:
        async with self._room:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._room.wait_for(
                        lambda: sum(layer.size for layer in self._layers) < MOST_BYTES
                    )
            except TimeoutError:
                raise StoreError("Cassandra's tables do not keep up with the journal.") from None

    # -- writing behind --------------------------------------------------------------------

    async def _keep_writing_behind(self) -> None:
        while not self._journal.fenced:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_BEHIND_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.write_behind()
            except Fenced:
                return
            except Exception as error:
                # Whatever it is: it is all in the journal, and commits stop when memory is full.
                log.error("not written behind, trying again", shard=self._shard, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def write_behind(self) -> None:
        """Put what has happened into the tables. Raises StoreError, and then what is not there yet
        stays in memory and in the journal."""
        async with self._writing_behind:
            if len(self._layers) == 1:
                if not self._layers[0] and not self._journal.before:
                    return
                self._written = self._journal.sequence
                self._layers = (Layer(), self._layers[0])
            layer = self._layers[1]
            at = stamp(self.epoch, self._written)
            await self._write_all(tables.deletions(self._shard, layer, at))
            await self._write_all(tables.rows(self._shard, layer, at + 1))
            self._layers = self._layers[:1]
            async with self._room:
                self._room.notify_all()
            await self._journal.written_behind(self._written)

    async def _write_all(self, batches: Iterable[list[Call]]) -> None:
        todo = iter(batches)

        async def some() -> None:
            for batch in todo:
                await self._session.write_together(batch)

        ends = await asyncio.gather(
            *(some() for _ in range(WRITES_AT_ONCE)), return_exceptions=True
        )
        for end in ends:
            if end is not None:
                raise end

    async def close(self) -> None:
        """Write behind what can be; the rest is in the journal."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if not self._journal.fenced:
            try:
                await self.write_behind()
            except (StoreError, Fenced) as error:
                log.warning("closed with turns in the journal", shard=self._shard, error=str(error))


def _both(now: tuple[Layer, ...], before: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return now if now is before else now + before


def _newer(value: Any, stored: Any) -> Any:
    return stored if value is MISSING else value


async def _gather(coroutines: list[Any]) -> list[Any]:
    if len(coroutines) == 1:
        return [await coroutines[0]]
    found: list[Any] = []
    for at in range(0, len(coroutines), READS_AT_ONCE):
        found += await asyncio.gather(*coroutines[at : at + READS_AT_ONCE])
    return found
