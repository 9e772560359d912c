"""A device looks after the key log: against a keeper that is honest, and one that is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from raychat import limits
from raychat.client.events import Event, TransparencyAlarm
from raychat.client.http import Caller
from raychat.client.store import DeviceStore
from raychat.client.transparency import AT_ONCE, LogWatch
from raychat.crypto import IdentityKeyPair
from raychat.crypto.device_list import DeviceList, ListedDevice, SignedDeviceList
from raychat.errors import BadProof, BadSignature, Malformed, Unavailable
from raychat.ids import PRIMARY, AccountId, DeviceId, PhoneNumber, Secret
from raychat.transparency.watch import HOUR_MS, Reason
from tests.transparency.keeper import NOW, Keeper

ME, BOB = AccountId(b"m" * 16), AccountId(b"b" * 16)


class Api:
    """The calls, answered by a keeper."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.asked: list[AccountId] = []
        self.error: Exception | None = None
        self.spoil = False

    async def log_state(self, since: int) -> bytes:
        if since > self.keeper.tree.size:
            raise BadProof
        return self.keeper.state(since).to_bytes()

    async def log_answer(self, caller: Caller, account: AccountId, since: int, known: int) -> bytes:
        self.asked.append(account)
        if self.error is not None:
            raise self.error
        if since > self.keeper.tree.size:
            raise BadProof
        answer = self.keeper.answer(account, since, known)
        if self.spoil:
            answer = replace(answer, lists=None)
        return answer.to_bytes()


class Device:
    """A device with its file, its watch, and what it has told and had repaired."""

    def __init__(self, home: Path, api: Api, number: int = 1) -> None:
        self.api = api
        self.now = NOW
        self.events: list[Event] = []
        self.repaired: list[AccountId] = []
        self.store = DeviceStore(home)
        self.caller = Caller(ME, DeviceId(number), Secret(b"t" * 32))
        with self.store.transaction():
            self.store.prepare(PhoneNumber("+15550001111"), "http://server")
        self.watch = self.begin()

    def begin(self) -> LogWatch:
        return LogWatch(
            self.store,
            self.api,
            lambda: self.caller,
            lambda: self.now,
            self.events.append,
            self.repair,
            random.Random(1),
        )

    async def repair(self, account: AccountId) -> None:
        self.repaired.append(account)

    def sign(self) -> bytes:
        """A new list of the own account, signed and kept; returns its hash."""
        identity = self.store.keys.identity_key_pair()
        devices = (ListedDevice(PRIMARY, identity.public, NOW),)
        with self.store.transaction():
            data = self.store.lists.sign(DeviceList(ME, 1, NOW, devices), identity)
            self.store.lists.take(ME, data, NOW)
        return SignedDeviceList.parse(data).digest()

    def given(self, account: AccountId, version: int = 1) -> bytes:
        """The server gives a list of another account; returns its hash."""
        key = IdentityKeyPair.generate()
        listed = DeviceList(account, version, NOW, (ListedDevice(PRIMARY, key.public, NOW),))
        data = SignedDeviceList.sign(listed, key).to_bytes()
        with self.store.transaction():
            self.store.lists.take(account, data, NOW)
        return SignedDeviceList.parse(data).digest()

    def alarms(self) -> list[tuple[AccountId, Reason]]:
        return [(e.account, e.reason) for e in self.events if isinstance(e, TransparencyAlarm)]


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def me(tmp_path: Path, api: Api) -> Iterator[Device]:
    device = Device(tmp_path / "me", api)
    yield device
    device.store.close()


async def test_an_honest_log_gives_no_alarm(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()), (BOB, me.given(BOB)))
    await me.watch.look()
    assert (me.alarms(), me.repaired, api.asked) == ([], [], [ME, BOB])
    api.keeper.publish((ME, me.sign()))
    me.now += HOUR_MS
    await me.watch.look()
    assert (me.alarms(), me.repaired) == ([], [])


async def test_the_own_entry_is_looked_at_hourly_and_others_weekly_or_when_they_change(
    me: Device, api: Api
) -> None:
    api.keeper.publish((ME, me.sign()), (BOB, me.given(BOB)))
    await me.watch.look()
    api.asked.clear()
    await me.watch.look()
    assert api.asked == []
    me.now += HOUR_MS
    await me.watch.look()
    assert api.asked == [ME]
    api.keeper.publish((BOB, me.given(BOB, 2)))
    me.now += HOUR_MS
    await me.watch.look()
    assert api.asked[1:] == [ME, BOB]
    me.now += limits.LOG_PEER_HOURS * HOUR_MS
    api.keeper.now = me.now
    await me.watch.look()
    assert api.asked[3:] == [ME, BOB]
    assert me.alarms() == []


async def test_few_accounts_are_looked_at_in_one_go(me: Device, api: Api) -> None:
    accounts = [AccountId(bytes([number]) * 16) for number in range(30)]
    api.keeper.publish((ME, me.sign()), *((each, me.given(each)) for each in accounts))
    await me.watch.look()
    assert len(api.asked) == AT_ONCE + 1
    await me.watch.look()
    assert sorted(api.asked) == sorted([ME, *accounts])


async def test_what_was_seen_is_still_known_after_a_restart(
    me: Device, api: Api, tmp_path: Path
) -> None:
    api.keeper.publish((ME, me.sign()))
    await me.watch.look()
    api.keeper.set_lists(ME, [b"another" + bytes(25)])
    api.keeper.close_epoch()
    me.store.close()
    again = Device(tmp_path / "me", api)
    again.now += HOUR_MS
    await again.watch.look()
    assert again.alarms() == [(ME, Reason.ROLLBACK)]
    me.store = again.store


async def test_a_ghost_list_of_the_own_account_is_an_alarm(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    await me.watch.look()
    api.keeper.publish((ME, b"g" * 32))
    assert await me.watch.look_at(ME) is Reason.GHOST
    assert me.alarms() == [(ME, Reason.GHOST)]
    assert me.repaired == [ME], "the own list is put again"


async def test_a_linked_device_compares_the_list_it_was_given(api: Api, tmp_path: Path) -> None:
    linked = Device(tmp_path / "linked", api, 2)
    api.keeper.publish((ME, b"before" + bytes(26)), (ME, linked.given(ME)))
    assert await linked.watch.look_at(ME) is None
    api.keeper.publish((ME, b"newer" + bytes(27)))
    assert await linked.watch.look_at(ME) is None
    assert linked.repaired == [ME]
    linked.store.close()


async def test_a_list_that_was_given_but_is_not_in_the_log_is_fetched_anew_and_then_an_alarm(
    me: Device, api: Api
) -> None:
    api.keeper.publish((BOB, b"true" + bytes(28)))
    me.given(BOB)
    assert await me.watch.look_at(BOB) is None
    assert me.repaired == [BOB]
    me.now += limits.LOG_GRACE_HOURS * HOUR_MS
    api.keeper.now = me.now
    assert await me.watch.look_at(BOB) is Reason.MISSING
    assert await me.watch.look_at(BOB) is Reason.MISSING
    assert me.alarms() == [(BOB, Reason.MISSING)], "told once"


async def test_a_fork_is_an_alarm_with_evidence_and_is_never_followed(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    other = api.keeper.fork()
    api.keeper.publish((BOB, b"1" * 32))
    other.publish((BOB, b"2" * 32))
    other.publish((BOB, b"3" * 32))
    await me.watch.look()
    kept = me.store.key_log.head()
    true, api.keeper = api.keeper, other
    for _ in range(2):
        assert await me.watch.look_at(ME) is Reason.FORK
    assert me.alarms() == [(ME, Reason.FORK)]
    (evidence,) = me.store.key_log.evidence()
    assert kept is not None
    assert (evidence.kept, evidence.shown) == (kept, other.head())
    for head in evidence[1:]:
        head.verify(other.public)
    assert me.store.key_log.head() == kept
    api.keeper = true
    assert await me.watch.look_at(ME) is None


async def test_a_log_that_was_shortened_is_an_alarm(me: Device, api: Api) -> None:
    early = api.keeper.fork()
    api.keeper.publish((ME, me.sign()))
    await me.watch.look()
    api.keeper = early
    assert await me.watch.look_at(ME) is Reason.FORK


async def test_another_key_of_the_log_is_an_alarm(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    await me.watch.look()
    other = Keeper(b"x" * 32)
    other.publish((ME, me.store.key_log.signed_lists(ME)[0]))
    api.keeper = other
    assert await me.watch.look_at(ME) is Reason.SIGNER


async def test_an_old_head_is_an_alarm(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    me.now += limits.LOG_HEAD_HOURS * HOUR_MS + 1
    assert await me.watch.look_at(ME) is Reason.STALE


async def test_an_answer_without_its_proof_is_an_alarm(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    api.spoil = True
    assert await me.watch.look_at(ME) is Reason.PROOF


async def test_a_server_that_does_not_answer_is_no_alarm(me: Device, api: Api) -> None:
    api.error = Unavailable()
    with pytest.raises(Unavailable):
        await me.watch.look()
    assert me.alarms() == []


async def test_heads_can_be_compared_with_what_others_were_shown(me: Device, api: Api) -> None:
    api.keeper.publish((ME, me.sign()))
    await me.watch.look()
    early = api.keeper.head().to_bytes()
    other = api.keeper.fork()
    api.keeper.publish((BOB, b"1" * 32))
    later = api.keeper.head().to_bytes()
    for head in (early, later):
        assert await me.watch.compare(head)
    other.publish((BOB, b"2" * 32))
    assert not await me.watch.compare(other.head().to_bytes())
    other.publish((BOB, b"3" * 32))
    assert not await me.watch.compare(other.head().to_bytes())
    assert me.alarms() == [(ME, Reason.FORK)]
    assert len(me.store.key_log.evidence()) == 2
    with pytest.raises(BadSignature):
        await me.watch.compare(Keeper(b"x" * 32).head().to_bytes())
    with pytest.raises(Malformed):
        await me.watch.compare(b"")
