"""A file of an earlier version is brought up to date with all that is in it."""

from __future__ import annotations

from pathlib import Path

from raychat.client import keyfile
from raychat.client.model import State
from raychat.client.schema import MIGRATIONS
from raychat.client.search import Query
from raychat.client.store import DeviceStore
from raychat.database import connect, migrate
from raychat.ids import AccountId, DeviceId, MessageId
from raychat.wire.content import MessageName, Text, Unknown

ME = AccountId(b"m" * 16)
BOB = AccountId(b"b" * 16)
BEFORE_AUTHORS = 3
"""The migrations of files whose messages have no authors yet."""


def test_a_history_from_before_authors_is_read_and_found(tmp_path: Path) -> None:
    key_path = tmp_path / "device.key"
    keyfile.create(key_path)
    db = connect(tmp_path / "device.db", key=keyfile.read(key_path))
    migrate(db, MIGRATIONS[:BEFORE_AUTHORS])
    db.execute(
        "INSERT INTO own (one, number, server, registration_id, identity, account, device,"
        " incarnation, token) VALUES (1, '+15550001111', 'http://server', 1, x'00', ?, 1, 1, ?)",
        (ME, bytes(32)),
    )
    db.execute("INSERT INTO conversation (account, number) VALUES (?, '+15550002222')", (BOB,))
    row = (
        "INSERT INTO message (conversation, outgoing, device, incarnation, id, kind, text, data,"
        " composed, at, state) VALUES (1, ?, 1, 1, ?, ?, ?, ?, 5, 5, ?)"
    )
    db.execute(row, (1, 1, 1, "what I said", None, State.SENT))
    db.execute(row, (0, 1, 1, "what Bob said", None, State.DELIVERED))
    later = b"\x94\x01\xcc\xc8\x05\x80"
    db.execute(row, (0, 2, 200, None, later, State.DELIVERED))
    db.close()

    store = DeviceStore(tmp_path)
    mine, bobs, unknown = store.history.history()
    assert (mine.author, bobs.author) == (ME, BOB)
    assert mine.name == MessageName(ME, DeviceId(1), 1, MessageId(1))
    assert bobs.name == MessageName(BOB, DeviceId(1), 1, MessageId(1))
    assert mine.body == Text(5, "what I said")
    assert unknown.body == Unknown(5, 1, 200, later)
    assert bobs.conversation.accepted
    assert store.search.find(Query("said"), 0) == [bobs, mine]
    with store.transaction():
        assert store.history.mark_outgoing(1, 1, 1, 1, 1, State.DELIVERED, 9) == [mine.key]
    store.close()
