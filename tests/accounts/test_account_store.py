"""Accounts and registrations last, and a number never has two accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from raychat.accounts import registration as rules
from raychat.accounts import sending
from raychat.accounts.lock import Lock
from raychat.accounts.pepper import NumberHash, PoolKey, Proof, RegistrationKey
from raychat.accounts.registration import Registration, Started, Verified
from raychat.accounts.sending import Known, Sending
from raychat.accounts.store import Record, Resting, SqliteAccountStore
from raychat.accounts.store.sqlite import MIGRATIONS
from raychat.errors import NotFound, StoreError, StoreInUse, StoreLocked, StoreTooNew
from raychat.ids import AccountId

NOW = 1_000_000
MANY = 1_000
DAY = 20_000
PREFIX = PoolKey(b"x" * 32)
NOTHING = Known(None, None, None)


def number(byte: int) -> NumberHash:
    return NumberHash(bytes((byte,)) * 32)


def started(key: int, of: int, now: int = NOW) -> Started:
    return rules.start(
        RegistrationKey(bytes((key,)) * 32), number(of), PREFIX, Proof(b"p" * 32), now
    )


def verified(state: Started) -> Verified:
    after = rules.check(state, state.proof, NOW)
    assert isinstance(after, Verified)
    return after


def account(byte: int) -> AccountId:
    return AccountId(bytes((byte,)) * 16)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteAccountStore]:
    store = SqliteAccountStore(tmp_path / "accounts.db")
    yield store
    await store.close()


async def test_the_first_account_of_a_number_is_the_only_one(store: SqliteAccountStore) -> None:
    assert await store.account(number(1)) is None
    assert await store.claim(number(1), account(1), DAY) == account(1)
    assert await store.claim(number(1), account(2), DAY) == account(1)
    assert await store.account(number(1)) == account(1)
    assert await store.count() == 1


async def test_an_account_id_is_not_given_to_two_numbers(store: SqliteAccountStore) -> None:
    await store.claim(number(1), account(1), DAY)
    with pytest.raises(StoreError):
        await store.claim(number(2), account(1), DAY)
    assert await store.account(number(2)) is None


async def test_accounts_come_in_pages_in_order(store: SqliteAccountStore) -> None:
    for byte in (3, 1, 2):
        await store.claim(number(byte), account(byte), DAY)
    assert await store.accounts(AccountId(b""), 2) == [account(1), account(2)]
    assert await store.accounts(account(2), 2) == [account(3)]
    assert await store.accounts(account(3), 2) == []


async def test_every_state_of_a_registration_comes_back_as_it_was(
    store: SqliteAccountStore,
) -> None:
    first = started(1, of=1)
    wrong = replace(first, tries=2)
    right = verified(first)
    states: list[Registration] = [wrong, right, rules.redeem(right, account(1))]
    assert await store.begin(first, NOTHING, NOW, MANY)
    assert await store.registration(first.key) == first
    for state in states:
        await store.save(state)
        assert await store.registration(first.key) == state


async def test_a_new_start_replaces_the_started_one_of_its_number(
    store: SqliteAccountStore,
) -> None:
    old, other, new = started(1, of=1), started(2, of=2), started(3, of=1)
    for state in (old, other, new):
        assert await store.begin(state, NOTHING, NOW, MANY)
    assert await store.registration(old.key) is None
    assert await store.registration(other.key) == other
    assert await store.registration(new.key) == new


async def test_a_new_start_does_not_throw_out_who_has_proven_the_number(
    store: SqliteAccountStore,
) -> None:
    first = started(1, of=1)
    await store.begin(first, NOTHING, NOW, MANY)
    await store.save(verified(first))
    await store.begin(started(2, of=1), NOTHING, NOW, MANY)
    assert await store.registration(first.key) == verified(first)


async def test_what_was_replaced_does_not_come_back_by_a_late_save(
    store: SqliteAccountStore,
) -> None:
    old = started(1, of=1)
    await store.begin(old, NOTHING, NOW, MANY)
    await store.begin(started(2, of=1), NOTHING, NOW, MANY)
    await store.save(verified(old))
    assert await store.registration(old.key) is None


async def test_registrations_are_bounded_and_expired_ones_make_room(
    store: SqliteAccountStore,
) -> None:
    assert await store.begin(started(1, of=1), NOTHING, NOW, 2)
    assert await store.begin(started(2, of=2), NOTHING, NOW, 2)
    assert not await store.begin(started(3, of=3), NOTHING, NOW, 2)
    assert await store.begin(started(4, of=2), NOTHING, NOW, 2), "it replaces one"
    later = started(1, of=1).expires
    assert await store.begin(started(5, of=5, now=later), NOTHING, later, 2)
    assert await store.registration(started(1, of=1).key) is None


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    first = SqliteAccountStore(path)
    state = started(1, of=1)
    await first.begin(state, NOTHING, NOW, MANY)
    await first.claim(number(1), account(1), DAY)
    fingerprint = first.pepper.fingerprint()
    await first.close()
    again = SqliteAccountStore(path)
    assert await again.registration(state.key) == state
    assert await again.account(number(1)) == account(1)
    assert again.pepper.fingerprint() == fingerprint
    await again.close()


async def test_what_was_answered_is_there_after_a_crash(tmp_path: Path) -> None:
    """The files as they are while the store is open: what a killed process leaves."""
    store = SqliteAccountStore(tmp_path / "accounts.db")
    await store.claim(number(1), account(1), DAY)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("accounts.db", "accounts.db-wal", "accounts.pepper"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    await store.close()
    after = SqliteAccountStore(left / "accounts.db")
    assert await after.account(number(1)) == account(1)
    await after.close()


async def test_a_store_has_one_process(store: SqliteAccountStore, tmp_path: Path) -> None:
    with pytest.raises(StoreInUse):
        SqliteAccountStore(tmp_path / "accounts.db")


@pytest.mark.parametrize("pepper", [None, b"x" * 32, b"damaged"], ids=["lost", "other", "cut"])
async def test_without_its_pepper_the_store_stays_shut(
    tmp_path: Path, pepper: bytes | None
) -> None:
    path, secret = tmp_path / "accounts.db", tmp_path / "accounts.pepper"
    await SqliteAccountStore(path).close()
    kept = secret.read_bytes()
    secret.unlink()
    if pepper is not None:
        secret.write_bytes(pepper)
    with pytest.raises(StoreLocked):
        SqliteAccountStore(path)
    secret.write_bytes(kept)
    await SqliteAccountStore(path).close()  # the failure let go of the file


async def test_a_crash_between_pepper_and_database_uses_the_pepper(tmp_path: Path) -> None:
    (tmp_path / "accounts.pepper").write_bytes(b"p" * 32)
    store = SqliteAccountStore(tmp_path / "accounts.db")
    await store.close()
    assert (tmp_path / "accounts.pepper").read_bytes() == b"p" * 32


async def test_the_files_are_the_owner_s_alone(store: SqliteAccountStore, tmp_path: Path) -> None:
    await store.claim(number(1), account(1), DAY)
    for name in ("db", "db-wal", "db-shm", "lock", "pepper"):
        assert (tmp_path / f"accounts.{name}").stat().st_mode & 0o777 == 0o600, name


async def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    await SqliteAccountStore(path).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.close()
    with pytest.raises(StoreTooNew):
        SqliteAccountStore(path)


async def test_errors_of_the_database_are_ours(store: SqliteAccountStore, tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "accounts.db"))
    db.execute("DROP TABLE account")
    db.close()
    for call in (
        store.claim(number(1), account(1), DAY),
        store.account(number(1)),
        store.accounts(AccountId(b""), 1),
        store.count(),
    ):
        with pytest.raises(StoreError):
            await call


async def test_what_is_known_of_codes_sent_lasts_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    first = SqliteAccountStore(path)
    assert await first.known(number(1), PREFIX) == NOTHING
    known = sending.send(Sending.of_limits(), NOTHING, NOW)
    await first.begin(started(1, of=1), known, NOW, MANY)
    await first.close()
    again = SqliteAccountStore(path)
    assert await again.known(number(1), PREFIX) == known
    other = PoolKey(b"y" * 32)
    assert await again.known(number(2), other) == Known(None, None, known.all)
    await again.close()


async def test_a_code_that_is_typed_in_is_counted_with_its_registration(
    store: SqliteAccountStore,
) -> None:
    state = started(1, of=1)
    known = sending.send(Sending.of_limits(), NOTHING, NOW)
    await store.begin(state, known, NOW, MANY)
    pools = sending.verified(known.prefix, NOW), sending.verified(known.all, NOW)
    await store.save_verified(verified(state), PREFIX, pools)
    assert await store.registration(state.key) == verified(state)
    assert await store.known(number(1), PREFIX) == Known(known.pace, *pools)


async def test_what_says_nothing_any_more_is_swept(store: SqliteAccountStore) -> None:
    known = sending.send(Sending.of_limits(), NOTHING, NOW)
    await store.begin(started(1, of=1), known, NOW, MANY)
    later = NOW + 8 * sending.DAY
    await store.begin(
        replace(started(2, of=2, now=later), prefix=PoolKey(b"y" * 32)), NOTHING, later, MANY
    )
    assert await store.known(number(1), PREFIX) == NOTHING


async def test_what_was_refused_for_lack_of_room_is_not_counted(store: SqliteAccountStore) -> None:
    known = sending.send(Sending.of_limits(), NOTHING, NOW)
    assert not await store.begin(started(1, of=1), known, NOW, 0)
    assert await store.known(number(1), PREFIX) == NOTHING


async def test_a_record_is_an_account_with_its_lock(store: SqliteAccountStore) -> None:
    lock = Lock("a slow hash", NOW)
    assert await store.record(account(1)) is None
    await store.claim(number(1), account(1), DAY)
    assert await store.record(account(1)) == Record(number(1), DAY, None)
    await store.put_lock(account(1), lock)
    await store.see(account(1), DAY + 1)
    await store.see(account(1), DAY)
    assert await store.record(account(1)) == Record(number(1), DAY + 1, lock)
    await store.put_lock(account(1), None)
    assert await store.record(account(1)) == Record(number(1), DAY + 1, None)


async def test_an_account_that_is_not_there_gets_no_lock(store: SqliteAccountStore) -> None:
    await store.put_lock(account(1), Lock("a slow hash", NOW))
    await store.claim(number(1), account(1), DAY)
    assert await store.record(account(1)) == Record(number(1), DAY, None)


async def test_a_number_that_is_given_up_rests_until_it_is_taken(store: SqliteAccountStore) -> None:
    await store.claim(number(1), account(1), DAY)
    assert await store.move(account(1), number(2), NOW) is None
    assert await store.account(number(2)) == account(1)
    assert await store.resting(number(1)) == Resting(account(1), NOW)
    await store.claim(number(1), account(3), DAY)
    assert await store.resting(number(1)) is None


async def test_who_loses_its_number_to_another_leaves(store: SqliteAccountStore) -> None:
    for byte in (1, 2):
        await store.claim(number(byte), account(byte), DAY)
    await store.put_lock(account(2), Lock("a slow hash", NOW))
    assert await store.move(account(1), number(2), NOW) == account(2)
    assert await store.record(account(2)) is None
    assert await store.leaving(MANY) == [account(2)]
    assert await store.accounts(AccountId(b""), MANY) == [account(1), account(2)]
    await store.gone(account(2))
    assert await store.accounts(AccountId(b""), MANY) == [account(1)]


async def test_a_move_that_cannot_be_changes_nothing(store: SqliteAccountStore) -> None:
    await store.claim(number(2), account(2), DAY)
    with pytest.raises(NotFound):
        await store.move(account(1), number(2), NOW)
    assert await store.account(number(2)) == account(2)


async def test_a_file_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    await SqliteAccountStore(path).close()
    path.unlink()
    db = apsw.Connection(str(path))
    db.execute(MIGRATIONS[0])
    db.pragma("user_version", 1)
    db.execute("INSERT INTO account VALUES (?, ?)", (account(1), number(1)))
    db.close()
    store = SqliteAccountStore(path)
    assert await store.record(account(1)) == Record(number(1), 0, None)
    await store.close()
