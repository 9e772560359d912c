"""A device's published keys are kept fresh: virtual time, and a server of dictionaries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raychat import limits
from raychat.client.http import Caller, KeyCounts, publication
from raychat.client.keys import LongKeys
from raychat.client.rotation import DAY_MS, MANY_USES, PAUSE_MS, SOON_MS, KeyKeeper, is_old
from raychat.client.store import DeviceStore
from raychat.crypto import KeyPair
from raychat.errors import Unavailable, UnknownPreKey
from raychat.ids import AccountId, DeviceId, PhoneNumber, Secret

START = 1_700_000_000_000
HOUR_MS = 3_600_000
CALLER = Caller(AccountId(b"a" * 16), DeviceId(1), Secret(b"t" * 32))


class Server:
    """What the key server has of the device."""

    def __init__(self) -> None:
        self.counts = KeyCounts(limits.PRE_KEY_UPLOAD, limits.PRE_KEY_UPLOAD)
        self.lasting: list[dict[str, Any]] = []
        self.refills: list[tuple[int, int]] = []
        self.error: Exception | None = None
        self.lose_answer = False

    async def key_counts(self, caller: Caller) -> KeyCounts:
        assert caller == CALLER
        if self.error is not None:
            raise self.error
        return self.counts

    async def put_keys(self, caller: Caller, keys: dict[str, Any]) -> None:
        if self.error is not None and not self.lose_answer:
            raise self.error
        if "signed_pre_key" in keys:
            self.lasting.append(keys)
        else:
            self.refills.append(
                (len(keys.get("pre_keys", ())), len(keys.get("kyber_pre_keys", ())))
            )
        if self.error is not None:
            raise self.error


class Time:
    now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeviceStore]:
    store = DeviceStore(tmp_path)
    with store.transaction():
        store.prepare(PhoneNumber("+15550001111"), "http://server")
        store.keys.long_keys_published(store.keys.make_long_keys(START), START)
    yield store
    store.close()


@pytest.fixture
def keeper(store: DeviceStore, server: Server, time: Time) -> KeyKeeper:
    return KeyKeeper(store, server, lambda: CALLER, time, random.Random(1))


def newest(store: DeviceStore) -> LongKeys:
    found = store.keys.newest_long_keys()
    assert found is not None
    return found[0]


def test_keys_have_served_their_time_after_some_days() -> None:
    days = limits.KEY_ROTATION_DAYS
    assert not is_old(START, START)
    assert not is_old(START, START + days * DAY_MS - 1)
    assert is_old(START, START + days * DAY_MS)
    assert is_old(START + 1, START), "made while the clock was wrong"


async def test_lasting_keys_are_renewed_when_they_are_old(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    before = newest(store)
    await keeper.renew()
    assert server.lasting == []
    time.now += limits.KEY_ROTATION_DAYS * DAY_MS
    await keeper.renew()
    after = newest(store)
    assert server.lasting == [publication(None, None, after, (), ())]
    assert {"signed_pre_key", "last_resort", "last_resort_pre_key"} == server.lasting[0].keys()
    assert all(one.key_id < two.key_id for one, two in zip(before, after, strict=True))
    await keeper.renew()
    assert len(server.lasting) == 1


async def test_old_keys_open_messages_under_way_and_are_then_wiped(
    store: DeviceStore, keeper: KeyKeeper, time: Time
) -> None:
    old = newest(store)
    base = KeyPair.generate().public
    with store.transaction():
        store.keys.mark_kyber_pre_key_used(old.last_resort.key_id, old.signed_pre_key.key_id, base)
    time.now += limits.KEY_ROTATION_DAYS * DAY_MS
    await keeper.keep()
    new = newest(store)
    time.now += limits.KEY_KEPT_DAYS * DAY_MS - 1
    with store.transaction():
        assert store.keys.wipe_long_keys(time.now) == 0
    assert store.keys.load_signed_pre_key(old.signed_pre_key.key_id) == old.signed_pre_key
    assert store.keys.load_kyber_pre_key(old.last_resort.key_id).last_resort
    assert store.keys.load_pre_key(old.last_resort_pre_key.key_id).key_id
    time.now += 1
    with store.transaction():
        assert store.keys.wipe_long_keys(time.now) == 3
    for load, key in (
        (store.keys.load_signed_pre_key, old.signed_pre_key),
        (store.keys.load_kyber_pre_key, old.last_resort),
        (store.keys.load_pre_key, old.last_resort_pre_key),
    ):
        with pytest.raises(UnknownPreKey):
            load(key.key_id)
    assert store.keys.load_signed_pre_key(new.signed_pre_key.key_id) == new.signed_pre_key
    assert store._row("SELECT count(*) FROM key_use") == (0,)


async def test_keys_the_server_may_hand_out_are_never_wiped(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    """The server cannot be reached for months: what it has is still needed."""
    known = newest(store)
    server.error = Unavailable()
    for _ in range(30):
        time.now += limits.KEY_ROTATION_DAYS * DAY_MS
        with pytest.raises(Unavailable):
            await keeper.keep()
        with store.transaction():
            store.keys.wipe_long_keys(time.now)
    assert store.keys.load_signed_pre_key(known.signed_pre_key.key_id) == known.signed_pre_key


async def test_new_keys_are_published_again_until_an_answer_comes(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    time.now += limits.KEY_ROTATION_DAYS * DAY_MS
    server.error, server.lose_answer = Unavailable(), True
    with pytest.raises(Unavailable):
        await keeper.renew()
    server.error = None
    await keeper.renew()
    assert server.lasting[0] == server.lasting[1]
    await keeper.renew()
    assert len(server.lasting) == 2


async def test_a_device_of_an_early_version_gets_a_last_resort_pre_key(
    store: DeviceStore, keeper: KeyKeeper, server: Server
) -> None:
    with store.transaction():
        store._db.execute("DELETE FROM long_key WHERE kind = 2")
    await keeper.renew()
    assert "last_resort_pre_key" in server.lasting[0]


async def test_one_time_keys_are_refilled_when_few_are_left(
    store: DeviceStore, keeper: KeyKeeper, server: Server
) -> None:
    await keeper.refill()
    assert server.refills == []
    server.counts = KeyCounts(limits.PRE_KEY_REFILL - 1, limits.PRE_KEY_REFILL)
    await keeper.refill()
    assert server.refills == [(limits.PRE_KEY_UPLOAD, 0)]
    assert store.keys.unpublished(9) == ([], [])


async def test_when_something_is_done_is_drawn_ahead_and_survives_a_restart(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    assert await keeper.look()
    due = store.upkeep("keys")
    assert PAUSE_MS[0] <= due - START <= PAUSE_MS[1]
    again = KeyKeeper(store, server, lambda: CALLER, time, random.Random(2))
    time.now = due - 1
    assert not await again.look()
    time.now = due
    assert await again.look()
    assert store.upkeep("keys") > due


async def test_it_is_looked_sooner_when_many_keys_were_used(
    store: DeviceStore, keeper: KeyKeeper, time: Time
) -> None:
    await keeper.look()
    assert not await keeper.look(uses=MANY_USES - 1)
    assert store.upkeep("keys") - START >= PAUSE_MS[0]
    assert not await keeper.look(uses=MANY_USES)
    assert SOON_MS[0] <= store.upkeep("keys") - START <= SOON_MS[1]
    time.now = store.upkeep("keys")
    assert await keeper.look(uses=MANY_USES)
    assert not await keeper.look(uses=MANY_USES)


async def test_a_call_that_fails_is_made_again_soon(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    server.error = Unavailable()
    with pytest.raises(Unavailable):
        await keeper.look()
    assert SOON_MS[0] <= store.upkeep("keys") - START <= SOON_MS[1]
    server.error = None
    time.now = store.upkeep("keys")
    assert await keeper.look()


async def test_a_clock_set_back_does_not_stop_the_upkeep(
    store: DeviceStore, keeper: KeyKeeper, time: Time
) -> None:
    time.now = START + 365 * DAY_MS
    await keeper.look()
    time.now = START
    assert await keeper.look()


async def test_the_times_of_a_year_are_spread(
    store: DeviceStore, keeper: KeyKeeper, server: Server, time: Time
) -> None:
    end = START + 365 * DAY_MS
    pauses = set()
    while time.now < end:
        assert await keeper.look()
        pauses.add((store.upkeep("keys") - time.now) // HOUR_MS)
        time.now = store.upkeep("keys")
    assert len(pauses) >= 8
    assert 365 // limits.KEY_ROTATION_DAYS - 3 <= len(server.lasting) <= 53
    rows = store._row("SELECT count(*) FROM long_key")
    assert rows[0] <= 3 * (limits.KEY_KEPT_DAYS // limits.KEY_ROTATION_DAYS + 3)
