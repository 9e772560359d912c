"""Users move between stores whole, and a crash in between does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from raychat.cluster.placement import Layout
from raychat.config import Placement
from raychat.errors import StoreInUse
from raychat.ids import AccountId, InboxNumber
from raychat.store import move
from raychat.store.protocol import Owed, Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import (
    Advance,
    PutBlocked,
    PutDevice,
    PutList,
    PutPeer,
    PutReceipt,
    Told,
)
from raychat.wire.frames import Outcome
from tests.store.contract import FRIEND, KEYS, ONE, TWO, device, fill, writes

ACCOUNTS = [AccountId(bytes([n]) * 16) for n in range(6)]


async def seed(folder: Path, name: str) -> None:
    store = SqliteStore(folder / f"{name}.db", name)
    for account in ACCOUNTS:
        box = await device(store, account)
        await fill(store, box, range(1, 6))
        await store.commit(
            writes(
                Advance(box, InboxNumber(2), ()),
                PutPeer(account, FRIEND, ONE, 1, 5, b"d"),
                PutReceipt(account, ONE, FRIEND, 0, 4, b"\x92\x01\x02"),
                PutList(account, 3, b"key", b"list"),
                PutBlocked(account, FRIEND),
                PutDevice(account, TWO, 5, b"", None, b"", 77),
            )
        )
        await store.put_keys(account, ONE, KEYS, [(1, b"a")], [(2, b"k")])
    batch = Writes()
    told = Told(FRIEND, ONE, 1, ACCOUNTS[0], Outcome.DELIVERED, 1, 2)
    batch.owed = [Owed(store.next_owed(), told)]
    await store.commit(batch)
    await store.close()


async def whole(folder: Path, host_of) -> None:
    for account in ACCOUNTS:
        store = SqliteStore(folder / f"{host_of(account)}.db", host_of(account))
        (user,) = await store.load([account])
        found, removed = user.devices
        assert (found.incarnation, found.cursor, found.head, user.revision) == (1, 2, 5, 4)
        assert (removed.incarnation, removed.token_hash, removed.seen) == (5, b"", 77)
        assert (user.list_version, user.list_key, user.blocked) == (3, b"key", FRIEND)
        assert await store.device_list(account) == b"list"
        rows = await store.page(found.box, found.cursor, 99)
        assert [row.number for row in rows] == [3, 4, 5]
        assert await store.peers([(account, FRIEND, ONE)]) == [(1, 5, b"d")]
        assert await store.count_keys(account, ONE) == (1, 1)
        owed = await store.owed(0, 9)
        if host_of(account) == host_of(ACCOUNTS[0]):
            assert [o.told.peer for o in owed] == [ACCOUNTS[0]]
        await store.close()


async def test_users_follow_the_layout_there_and_back(tmp_path: Path) -> None:
    await seed(tmp_path, "host-0")
    three = Layout(Placement.SHARDED, 3)
    assert move.settle(tmp_path, three.host_of) > 0
    await whole(tmp_path, three.host_of)
    dedicated = Layout(Placement.DEDICATED, 1)
    assert move.settle(tmp_path, dedicated.host_of) == len(ACCOUNTS)
    await whole(tmp_path, dedicated.host_of)
    one = Layout(Placement.SHARDED, 1)
    assert move.settle(tmp_path, one.host_of) == len(ACCOUNTS)
    await whole(tmp_path, one.host_of)
    assert move.settle(tmp_path, one.host_of) == 0


async def test_a_crash_between_copy_and_removal_is_made_good(tmp_path, monkeypatch) -> None:
    await seed(tmp_path, "host-0")
    layout = Layout(Placement.DEDICATED, 1)
    with monkeypatch.context() as crash:
        crash.setattr(move, "_remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            move.settle(tmp_path, layout.host_of)
    move.settle(tmp_path, layout.host_of)
    await whole(tmp_path, layout.host_of)


async def test_a_running_host_keeps_its_users(tmp_path: Path) -> None:
    await seed(tmp_path, "host-0")
    store = SqliteStore(tmp_path / "host-0.db", "host-0")
    with pytest.raises(StoreInUse):
        move.settle(tmp_path, Layout(Placement.DEDICATED, 1).host_of)
    await store.close()
