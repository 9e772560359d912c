"""Users come into memory when something happens to them, and leave it when nothing does."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from raychat.clock import ManualClock
from raychat.cluster.placement import Layout
from raychat.cluster.turns import Turns
from raychat.config import Placement
from raychat.errors import StoreError
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.observe.metrics import HostMetrics
from raychat.store.protocol import Writes
from raychat.store.sqlite import SqliteStore
from raychat.users.events import (
    Attach,
    Detach,
    Incoming,
    ListRecord,
    NewList,
    PutDevice,
    Register,
    Session,
)
from raychat.wire.batch import Op

ME = AccountId(b"m" * 16)
FRIEND = AccountId(b"f" * 16)
ONE = DeviceId(1)
TOKEN = sha256(b"token").digest()


class Wire:
    """A link that only listens."""

    name = "gateway-0"

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, item: Any, _size: int = 0) -> None:
        self.said.append(item)


@pytest.fixture
async def turns(tmp_path: Path):
    store = SqliteStore(tmp_path / "host-0.db", "host-0", log_pages=50)
    writes = Writes()
    writes.add(PutDevice(ME, ONE, 1, TOKEN))
    await store.commit(writes)
    layout = Layout(Placement.SHARDED, 1)
    yield Turns("host-0", store, layout, HostMetrics(), ManualClock(), lambda owed: None)
    await store.close()


async def turn(turns: Turns, *events: Any) -> None:
    for event in events:
        turns.add(event)
    await turns.think()
    await turns.commit()


def message(wire: Wire, number: int) -> Incoming:
    part = [1, 1, 2, b"hi"]
    return Incoming(ME, Session(wire, 7), FRIEND, ONE, 1, MessageId(number), [part])


def attach(wire: Wire) -> Attach:
    return Attach(ME, Session(wire, 8), ONE, TOKEN, InboxNumber(0), (), 0, (), ())


async def test_an_idle_user_leaves_memory_and_goes_on_where_it_was(turns: Turns) -> None:
    wire = Wire()
    await turn(turns, message(wire, 1))
    await turns.passivate(turns._clock() + 1)
    assert ME not in turns.users
    await turn(turns, message(wire, 1), message(wire, 2))
    assert [item[0] for item in wire.said] == [Op.DATA] * 3
    assert turns.users[ME].devices[ONE].head == 2


async def test_a_connected_user_stays_and_forgets_only_what_can_be_loaded(turns: Turns) -> None:
    wire = Wire()
    await turn(turns, attach(wire))
    await turn(turns, message(wire, 1))
    await turns.passivate(turns._clock() + 1)
    assert turns.users[ME].peers is None
    await turn(turns, message(wire, 2))
    assert turns.users[ME].devices[ONE].pushed == 2


async def test_a_user_with_something_not_yet_durable_stays(turns: Turns) -> None:
    turns.add(message(Wire(), 1))
    await turns.think()
    await turns.passivate(turns._clock() + 1)
    assert ME in turns.users


async def test_nothing_is_said_of_a_turn_that_could_not_be_written(turns: Turns) -> None:
    wire, commit = Wire(), turns._store.commit

    async def full(_writes: Writes) -> None:
        raise StoreError("The disk is full.")

    turns._store.commit = full
    turns.add(message(wire, 1))
    await turns.think()
    with pytest.raises(StoreError):
        await turns.commit()
    assert wire.said == []
    assert ME not in turns.users
    turns._store.commit = commit
    await turn(turns)
    assert [item[0] for item in wire.said] == [Op.DATA]


async def test_a_fault_in_one_user_leaves_the_others_alone(turns: Turns, monkeypatch) -> None:
    wire = Wire()
    await turn(turns, attach(wire))

    def broken(_self: object, _event: object, _now: int) -> list[Any]:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("raychat.users.user.User._incoming", broken)
        await turn(turns, message(wire, 1))
    assert wire.said[-1][0] == Op.DISMISS
    assert turns._metrics.failed_turns == 1
    await turn(turns, message(wire, 1))
    assert wire.said[-1][0] == Op.DATA


async def test_a_user_to_be_loaded_anew_is_asked_nothing_till_its_turn_is_durable(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while that turn's commit is on its way to a slow disk."""
    wire, commit, seen = Wire(), turns._store.commit, []

    async def slow(writes: Writes) -> None:
        turns.add(message(wire, 2))
        seen.append(turns._next())
        await commit(writes)

    def broken(_self: object, _event: object) -> list[Any]:
        raise ZeroDivisionError

    turns._store.commit = slow
    with monkeypatch.context() as patched:
        patched.setattr("raychat.users.user.User._detach", broken)
        await turn(turns, message(wire, 1), Detach(ME, Session(wire, 8), ONE))
    assert seen == [[]]
    turns._store.commit = commit
    await turn(turns)
    assert turns.users[ME].devices[ONE].head == 2


def register(answers: list[Any]) -> Register:
    listed = ListRecord(1, b"key", [ONE], b"list")
    return Register(ME, ONE, b"new token".ljust(32), listed, None, 9, answers.append)


async def test_who_asks_is_answered_when_it_is_durable(turns: Turns) -> None:
    answers: list[Any] = []
    turns.add(register(answers))
    await turns.think()
    assert answers == []
    await turns.commit()
    assert answers == [2]


async def test_a_removal_that_could_not_be_written_leaves_no_connection_behind(
    turns: Turns,
) -> None:
    """The User that is loaded anew would know nothing of it, and it would go on writing."""
    wire, commit, two = Wire(), turns._store.commit, DeviceId(2)
    writes, answers = Writes(), []
    writes.add(PutDevice(ME, two, 1, TOKEN))
    await commit(writes)
    await turn(turns, attach(wire)._replace(device=two))

    async def full(_writes: Writes) -> None:
        raise StoreError("The disk is full.")

    turns._store.commit = full
    turns.add(NewList(ME, ListRecord(1, b"key", [ONE], b"list"), answers.append))
    await turns.think()
    with pytest.raises(StoreError):
        await turns.commit()
    assert wire.said[-1][:2] == (Op.DISMISS, 8)
    assert answers == []
    turns._store.commit = commit
    await turn(turns)
    assert answers == [None]
    assert set(turns.users[ME].devices) == {ONE}
