"""The log as the server keeps it: durable, in order, and provable after every crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from raychat import limits
from raychat.crypto.device_list import DeviceList, ListedDevice, SignedDeviceList
from raychat.crypto.prekeys import IdentityKeyPair
from raychat.errors import BadProof, Malformed, Overloaded, StoreError, StoreInUse, StoreLocked
from raychat.ids import PRIMARY, AccountId
from raychat.keys import log_key
from raychat.keys.log import RESIGN_MS, TransparencyLog
from raychat.transparency.answer import Answer, State

ANN, BOB = AccountId(b"a" * 16), AccountId(b"b" * 16)
NOW = 1_700_000_000_000


class Account:
    """An account that signs device lists."""

    def __init__(self, account: AccountId = ANN) -> None:
        self.account = account
        self.key = IdentityKeyPair.generate()

    def list(self, version: int) -> bytes:
        devices = (ListedDevice(PRIMARY, self.key.public, NOW),)
        listed = DeviceList(self.account, version, NOW, devices)
        return SignedDeviceList.sign(listed, self.key).to_bytes()


class Time:
    now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def opened(folder: Path, time: Time | None = None) -> TransparencyLog:
    return TransparencyLog(folder / "log.db", folder / "log.key", time or Time())


@pytest.fixture
async def log(tmp_path: Path, time: Time) -> AsyncIterator[TransparencyLog]:
    log = opened(tmp_path, time)
    yield log
    await log.close()


async def state(log: TransparencyLog, since: int = 0) -> State:
    return State.parse(await log.state(since))


async def lists(log: TransparencyLog, account: AccountId) -> tuple[bytes, ...]:
    """What the log proves it has of an account."""
    key = (await state(log)).key
    answer = Answer.parse(await log.prove(account, 0, 0))
    answer.check(account, None, key, 0)
    return answer.lists.latest if answer.lists else ()


def digest(data: bytes) -> bytes:
    return SignedDeviceList.parse(data).digest()


async def test_an_empty_log_proves_that_nobody_is_in_it(log: TransparencyLog) -> None:
    assert await lists(log, ANN) == ()
    assert (await state(log)).head.size == 0


async def test_what_was_appended_is_proven_to_all_who_have_seen_less(log: TransparencyLog) -> None:
    ann, bob = Account(), Account(BOB)
    heads = [(await state(log)).head]
    made = []
    for version in range(1, 12):
        made.append(ann.list(version))
        await log.append(ANN, made[-1])
        await log.append(BOB, bob.list(version))
        heads.append((await state(log)).head)
        key = (await state(log)).key
        for head in heads:
            answer = Answer.parse(await log.prove(ANN, head.size, version - 1))
            answer.check(ANN, head, key, version - 1)
            (await state(log, head.size)).check(head, key)
    assert await lists(log, ANN) == tuple(map(digest, made))


async def test_it_is_durable_before_it_is_answered(tmp_path: Path, log: TransparencyLog) -> None:
    """The files as they are while the log is open: what a killed process leaves."""
    ann = Account()
    for version in (1, 2, 3):
        await log.append(ANN, ann.list(version))
    head = (await state(log)).head
    left = tmp_path / "left"
    left.mkdir()
    for name in ("log.db", "log.db-wal", "log.key"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    again = opened(left)
    assert (await state(again)).head.digest() == head.digest()
    await again.append(ANN, ann.list(4))
    (await state(again, head.size)).check(head, (await state(log)).key)
    assert len(await lists(again, ANN)) == 4
    await again.close()


async def test_the_same_list_again_changes_nothing(log: TransparencyLog) -> None:
    data = Account().list(1)
    await log.append(ANN, data)
    head = (await state(log)).head
    await log.append(ANN, data)
    assert (await state(log)).head == head


async def test_a_list_that_a_newer_one_has_overtaken_is_left_out(log: TransparencyLog) -> None:
    ann = Account()
    newer = ann.list(2)
    await log.append(ANN, newer)
    await log.append(ANN, ann.list(1))
    assert await lists(log, ANN) == (digest(newer),)


async def test_a_new_account_key_counts_its_versions_anew(log: TransparencyLog) -> None:
    old, new = Account().list(5), Account().list(1)
    await log.append(ANN, old)
    await log.append(ANN, new)
    assert await lists(log, ANN) == (digest(old), digest(new))


async def test_what_comes_together_is_one_epoch_or_few(log: TransparencyLog) -> None:
    accounts = [Account(AccountId(number.to_bytes(16, "big"))) for number in range(300)]
    await asyncio.gather(*(log.append(each.account, each.list(1)) for each in accounts))
    assert (await state(log)).head.size <= 4
    for each in accounts[::50]:
        assert len(await lists(log, each.account)) == 1


async def test_who_waits_for_a_commit_that_fails_hears_of_it(
    log: TransparencyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise StoreError("The disk is full.")

    ann = Account()
    with monkeypatch.context() as patch:
        patch.setattr(log._store, "commit", broken)
        with pytest.raises(StoreError, match="full"):
            await log.append(ANN, ann.list(1))
    await log.append(ANN, ann.list(1))
    assert len(await lists(log, ANN)) == 1


async def test_an_epoch_is_all_or_nothing(
    log: TransparencyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Account()
    await log.append(ANN, ann.list(1))
    head = (await state(log)).head
    with monkeypatch.context() as patch:
        patch.setattr("raychat.transparency.merkle.grown", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await log.append(ANN, ann.list(2))
    assert (await state(log)).head == head
    assert len(await lists(log, ANN)) == 1


async def test_what_waits_is_bounded(log: TransparencyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_WAITING", 3)
    accounts = [Account(AccountId(number.to_bytes(16, "big"))) for number in range(9)]
    calls = (log.append(each.account, each.list(1)) for each in accounts)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(result, Overloaded) for result in results)
    assert all(result is None or isinstance(result, Overloaded) for result in results)


async def test_a_list_of_another_account_is_refused(log: TransparencyLog) -> None:
    with pytest.raises(Malformed, match="another account"):
        await log.append(BOB, Account(ANN).list(1))
    with pytest.raises(Malformed):
        await log.append(ANN, b"\xc1")


async def test_a_head_is_signed_anew_when_it_gets_old(log: TransparencyLog, time: Time) -> None:
    first = (await state(log)).head
    time.now += RESIGN_MS - 1
    assert (await state(log)).head == first
    time.now += 1
    second = (await state(log)).head
    assert (second.time, second.digest()) == (time.now, first.digest())
    time.now = NOW - 1
    assert (await state(log)).head.time == time.now, "the clock was set back"


async def test_who_has_seen_more_than_there_is_is_told_so(log: TransparencyLog) -> None:
    """As after a log that was restored from an old copy."""
    with pytest.raises(BadProof, match="never 1"):
        await log.state(1)
    with pytest.raises(BadProof, match="never 7"):
        await log.prove(ANN, 7, 0)


async def test_only_one_process_has_the_log(tmp_path: Path, log: TransparencyLog) -> None:
    with pytest.raises(StoreInUse):
        opened(tmp_path)
    for name in ("log.db", "log.key"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


async def test_a_log_without_its_key_is_not_begun_anew(tmp_path: Path) -> None:
    log = opened(tmp_path)
    await log.append(ANN, Account().list(1))
    await log.close()
    seed = (tmp_path / "log.key").read_bytes()
    (tmp_path / "log.key").unlink()
    with pytest.raises(StoreLocked, match="backup"):
        opened(tmp_path)
    (tmp_path / "log.key").write_bytes(seed[:-1])
    with pytest.raises(StoreLocked):
        opened(tmp_path)
    (tmp_path / "log.key").write_bytes(seed)
    await opened(tmp_path).close()


def test_the_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    made = log_key.load_or_create(path, log_exists=False)
    assert log_key.load_or_create(path, log_exists=True) == made
    assert bytes(made) == path.read_bytes()
    assert isinstance(made, SigningKey)
    assert list(tmp_path.iterdir()) == [path]
