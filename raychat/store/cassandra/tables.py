"""How rows that were changed are written to the tables, and in which batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgpack

from raychat.store.cassandra.layer import Kind, Layer
from raychat.store.cassandra.schema import INBOX_BUCKET_BITS, SLICE_BITS
from raychat.store.cassandra.session import Call

BATCH_PARTITIONS: Final = 10
BATCH_ROWS: Final = 50
BATCH_BYTES: Final = 32 * 1024
"""Below what Cassandra refuses for a batch over several partitions (50 KiB)."""

ROW_BYTES: Final = 100

_DEVICE: Final = (
    "INSERT INTO account (shard, account, device, box, incarnation, token_hash, next_hash, seen)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_BOX: Final = (
    "INSERT INTO box (shard, slice, box, account, device) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_HEAD: Final = "UPDATE box USING TIMESTAMP ? SET head = ? WHERE shard = ? AND slice = ? AND box = ?"
_CURSOR: Final = (
    "UPDATE box USING TIMESTAMP ? SET cursor = ? WHERE shard = ? AND slice = ? AND box = ?"
)
_INBOX: Final = "INSERT INTO inbox (shard, box, bucket, number, frame) VALUES (?, ?, ?, ?, ?)"
_LIST: Final = (
    "UPDATE account USING TIMESTAMP ? SET list_version = ?, list_key = ?, list_digest = ?,"
    " list = ? WHERE shard = ? AND account = ?"
)
_BLOCKED: Final = "UPDATE account USING TIMESTAMP ? SET blocked = ? WHERE shard = ? AND account = ?"
_REVISION: Final = (
    "UPDATE account USING TIMESTAMP ? SET revision = ? WHERE shard = ? AND account = ?"
)
_PEER: Final = (
    "INSERT INTO peer (shard, account, sender, device, incarnation, last, recent)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_RECEIPT: Final = (
    "INSERT INTO receipt (shard, account, device, peer, outcome, revision, ranges)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_OWED: Final = "INSERT INTO owed (shard, sequence, told) VALUES (?, ?, ?) USING TIMESTAMP ?"
_PAID: Final = "DELETE FROM owed USING TIMESTAMP ? WHERE shard = ? AND sequence = ?"
_KEYS: Final = (
    "INSERT INTO keys (shard, account, device, keys) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
)
_NO_KEYS: Final = (
    "DELETE FROM keys USING TIMESTAMP ? WHERE shard = ? AND account = ? AND device = ?"
)
_PREKEY: Final = (
    "INSERT INTO prekey (shard, account, device, generation, kind, block, id, record)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SEEN: Final = "INSERT INTO seen (shard, day, account, device) VALUES (?, ?, ?, ?)"
_TOTALS: Final = "INSERT INTO totals (shard, totals) VALUES (?, ?) USING TIMESTAMP ?"

_WIPES: Final = {
    (Kind.PEER, True): "DELETE FROM peer USING TIMESTAMP ? WHERE shard = ? AND account = ?",
    (Kind.RECEIPT, True): "DELETE FROM receipt USING TIMESTAMP ? WHERE shard = ? AND account = ?",
    (Kind.RECEIPT, False): (
        "DELETE FROM receipt USING TIMESTAMP ? WHERE shard = ? AND account = ? AND device = ?"
    ),
}
_DROP: Final = (
    "DELETE FROM prekey WHERE shard = ? AND account = ? AND device = ? AND generation = ?"
    " AND kind = ? AND block = ?"
)

Writer = Callable[[str, Any, Any, Any, int], Call]


def _list(shard: str, account: Any, _: Any, value: Any, stamp: int) -> Call:
    return _LIST, (stamp, *(value or (None,) * 4), shard, account)


def _owed(shard: str, _: Any, sequence: Any, told: Any, stamp: int) -> Call:
    if told is None:
        return _PAID, (stamp, shard, sequence)
    return _OWED, (shard, sequence, msgpack.packb(told), stamp)


def _keys(shard: str, account: Any, device: Any, keys: Any, stamp: int) -> Call:
    if keys is None:
        return _NO_KEYS, (stamp, shard, account, device)
    return _KEYS, (shard, account, device, msgpack.packb(keys), stamp)


_WRITERS: Final[dict[int, Writer]] = {
    Kind.DEVICE: lambda s, account, device, v, t: (_DEVICE, (s, account, device, *v, t)),
    Kind.BOX: lambda s, box, _, v, t: (_BOX, (s, box >> SLICE_BITS, box, *v, t)),
    Kind.HEAD: lambda s, box, _, v, t: (_HEAD, (t, v, s, box >> SLICE_BITS, box)),
    Kind.CURSOR: lambda s, box, _, v, t: (_CURSOR, (t, v, s, box >> SLICE_BITS, box)),
    Kind.INBOX: lambda s, box, number, v, t: (
        _INBOX,
        (s, box, number >> INBOX_BUCKET_BITS, number, v),
    ),
    Kind.LIST: _list,
    Kind.BLOCKED: lambda s, account, _, v, t: (_BLOCKED, (t, v, s, account)),
    Kind.REVISION: lambda s, account, _, v, t: (_REVISION, (t, v, s, account)),
    Kind.PEER: lambda s, account, key, v, t: (_PEER, (s, account, *key, *v, t)),
    Kind.RECEIPT: lambda s, account, key, v, t: (_RECEIPT, (s, account, *key, *v, t)),
    Kind.OWED: _owed,
    Kind.KEYS: _keys,
    Kind.PREKEY: lambda s, block, number, v, t: (_PREKEY, (s, *block, number, v)),
    Kind.SEEN: lambda s, day, key, v, t: (_SEEN, (s, day, *key)),
    Kind.TOTALS: lambda s, _, __, v, t: (_TOTALS, (s, msgpack.packb(v), t)),
}


def deletions(shard: str, layer: Layer, stamp: int) -> Iterator[list[Call]]:
    for kind, wiped in enumerate(layer.wiped):
        for partition, first in wiped:
            key = (shard, partition) if first is None else (shard, partition, first)
            yield [(_WIPES[Kind(kind), first is None], (stamp, *key))]
    for block in layer.dropped:
        yield [(_DROP, (shard, *block))]


def rows(shard: str, layer: Layer, stamp: int) -> Iterator[list[Call]]:
    """Batches of rows. Those of one partition are together, and some small partitions, which saves
    Cassandra and us most of what a statement costs; none of it needs to be atomic."""
    batch: list[Call] = []
    partitions = size = 0
    for kind, writer in _WRITERS.items():
        for partition, there in layer.rows[kind].items():
            partitions += 1
            for rest, value in there.items():
                bytes_ = ROW_BYTES + (len(value) if type(value) is bytes else 0)
                if batch and (
                    partitions > BATCH_PARTITIONS
                    or len(batch) >= BATCH_ROWS
                    or size + bytes_ > BATCH_BYTES
                ):
                    yield batch
                    batch, partitions, size = [], 1, 0
                batch.append(writer(shard, partition, rest, value, stamp))
                size += bytes_
    if batch:
        yield batch
