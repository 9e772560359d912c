"""The tables of the Cassandra store, and the failure that each choice guards against.

Every partition key begins with `shard`, so that no partition is shared by two writers that know
nothing of each other.

**lease**: the only lightweight transactions there are, a few at each change of the owner; see
`journal`. Nothing else writes this table: plain writes and lightweight transactions on one row
do not see each other.

**journal**: what one turn of a host makes durable, whole, as one row (or a few, see `journal`). A
logged batch over all the tables would be *atomic in the end*: readers see half of it, and the
batch log writes everything twice; a turn over several partitions without it may stay half done
for ever. A partition is `BUCKET` turns of one epoch. It is never deleted from by rows: it leaves
as a whole, one tombstone that nobody reads past. No TTL: a shard that nobody took for a month
still has its turns. What a read at quorum has found is on a quorum afterwards (`read_repair`), so
that the end of an old epoch is the same for all who look for it.

The other tables are what the turns come to, written behind (`store`). Each row that changes is
written with a timestamp of ours, made of the epoch and the turn (`stamp`), and not with the time of
day: an old owner that was stopped and goes on, late, with writing what it had acknowledged,
loses against what a later owner wrote, on each replica, however wrong the clocks are; and what is
written twice or out of order comes to the same.

**inbox**: never deleted from by rows (the queue anti-pattern: a read of what waits would step
over a tombstone for each envelope that ever left). A cursor in `box` says what has left, all reads
start after it, and the rows leave by TTL, whole SSTables at a time: TWCS keeps rows of about the
same time together, which needs real timestamps; a row here never changes, so it needs no other.
A partition holds `INBOX_BUCKET` numbers of one box, so that none grows without end. The TTL is
twice the retention: the host tells the senders first, the TTL only cleans up. Most envelopes are
acknowledged within a second and are never written here at all.

**owed** is short: what waits for hosts that are down. **seen** finds devices that stay away by
their last day, without a walk over all devices; a row whose device has been back since is no
longer true, and is skipped. **prekey**: one-time keys that are given away leave by the row in
`keys` that lists those left, and the block they are in is dropped when it is empty: no tombstone
per key.

Consistency is LOCAL_QUORUM for all reads and writes, with three replicas in production: one node
may be lost, and what was acknowledged is on two disks (`commitlog_sync: batch`, so that a node's
answer means its disk has it).
"""

from __future__ import annotations

from typing import Final

from raychat import limits

BUCKET: Final = 256
"""Turns in a partition of the journal."""

INBOX_BUCKET_BITS: Final = 10
SLICE_BITS: Final = 12
"""Boxes in a partition of `box`."""

PREKEY_BLOCK_BITS: Final = 7

DAY_SECONDS: Final = 86_400
INBOX_TTL: Final = 2 * limits.RETENTION_DAYS * DAY_SECONDS
INBOX_WINDOW_DAYS: Final = 2
"""About thirty windows within the TTL."""

EPOCH_SHIFT: Final = 40


def stamp(epoch: int, sequence: int) -> int:
    """The timestamp of deletions that are written behind, after turn `sequence`; that of rows is
    one more, so that a row put after a deletion in the same turns stays."""
    return epoch << EPOCH_SHIFT | sequence << 1


TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS lease (
        shard text PRIMARY KEY, owner text, epoch bigint,
        since bigint, closed map<bigint, bigint>)""",
    """
    CREATE TABLE IF NOT EXISTS progress (
        shard text, epoch bigint, turn bigint, PRIMARY KEY (shard, epoch))""",
    """
    CREATE TABLE IF NOT EXISTS journal (
        shard text, epoch bigint, bucket bigint, sequence bigint, part int,
        attempt bigint, parts int, turn blob,
        PRIMARY KEY ((shard, epoch, bucket), sequence, part))
        WITH gc_grace_seconds = 3600 AND read_repair = 'BLOCKING'
        AND compaction = {'class': 'UnifiedCompactionStrategy'}""",
    """
    CREATE TABLE IF NOT EXISTS account (
        shard text, account blob, device int,
        list_version bigint static, list_key blob static, list_digest blob static,
        list blob static, blocked blob static, revision bigint static,
        box bigint, incarnation bigint, token_hash blob, next_hash blob, seen int,
        PRIMARY KEY ((shard, account), device))""",
    """
    CREATE TABLE IF NOT EXISTS box (
        shard text, slice bigint, box bigint, account blob, device int,
        cursor bigint, head bigint, PRIMARY KEY ((shard, slice), box))""",
    f"""
    CREATE TABLE IF NOT EXISTS inbox (
        shard text, box bigint, bucket bigint, number bigint, frame blob,
        PRIMARY KEY ((shard, box, bucket), number))
        WITH default_time_to_live = {INBOX_TTL} AND gc_grace_seconds = {DAY_SECONDS}
        AND compaction = {{'class': 'TimeWindowCompactionStrategy',
            'compaction_window_unit': 'DAYS', 'compaction_window_size': {INBOX_WINDOW_DAYS}}}""",
    """
    CREATE TABLE IF NOT EXISTS peer (
        shard text, account blob, sender blob, device int,
        incarnation bigint, last bigint, recent blob,
        PRIMARY KEY ((shard, account), sender, device))""",
    """
    CREATE TABLE IF NOT EXISTS receipt (
        shard text, account blob, device int, peer blob, outcome int,
        revision bigint, ranges blob,
        PRIMARY KEY ((shard, account), device, peer, outcome))""",
    """
    CREATE TABLE IF NOT EXISTS owed (
        shard text, sequence bigint, told blob, PRIMARY KEY (shard, sequence))""",
    """
    CREATE TABLE IF NOT EXISTS keys (
        shard text, account blob, device int, keys blob,
        PRIMARY KEY ((shard, account), device))""",
    """
    CREATE TABLE IF NOT EXISTS prekey (
        shard text, account blob, device int, generation bigint, kind int, block bigint,
        id bigint, record blob,
        PRIMARY KEY ((shard, account, device, generation, kind, block), id))""",
    """
    CREATE TABLE IF NOT EXISTS seen (
        shard text, day int, account blob, device int,
        PRIMARY KEY ((shard, day), account, device))""",
    """
    CREATE TABLE IF NOT EXISTS totals (shard text PRIMARY KEY, totals blob)""",
)
