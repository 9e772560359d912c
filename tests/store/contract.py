"""What every store must do, written once. A store's test module subclasses `StoreContract` and
gives it the fixtures `store` and `reopen`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest

from raychat.errors import Fenced
from raychat.ids import AccountId, DeviceId, InboxNumber
from raychat.store.protocol import DeviceKeys, HostStore, NewKeys, Owed, Writes
from raychat.users.events import (
    Advance,
    Append,
    DeviceRecord,
    ForgetAccount,
    ForgetReceipts,
    PutBlocked,
    PutDevice,
    PutKeys,
    PutList,
    PutPeer,
    PutReceipt,
    Told,
    UserRecord,
)
from raychat.wire.frames import Outcome, pack_envelope

ME = AccountId(b"m" * 16)
FRIEND = AccountId(b"f" * 16)
ONE = DeviceId(1)
TWO = DeviceId(2)
KEYS = DeviceKeys(7, b"identity", b"signed", b"last", b"last-ec", b"membership")

Reopen = Callable[[], Awaitable[HostStore]]


def frame(number: int, at: int = 1_000) -> bytes:
    return pack_envelope(number, FRIEND, 1, 1, number, at, 2, b"body %d" % number)


def writes(*effects: object) -> Writes:
    batch = Writes()
    for effect in effects:
        batch.add(effect)
    return batch


async def device(store: HostStore, account: AccountId = ME, number: DeviceId = ONE) -> int:
    await store.commit(writes(PutDevice(account, number, 1, b"hash")))
    (user,) = await store.load([account])
    return next(d.box for d in user.devices if d.device == number)


async def fill(store: HostStore, box: int, numbers: range, at: int = 1_000) -> None:
    await store.commit(writes(*(Append(box, InboxNumber(n), frame(n, at)) for n in numbers)))


class StoreContract:
    async def test_an_unknown_account_has_no_devices(self, store: HostStore) -> None:
        (user,) = await store.load([ME])
        assert user == UserRecord(ME, 0, [])

    async def test_a_device_is_there_after_reopening(self, store, reopen: Reopen) -> None:
        box = await device(store)
        store = await reopen()
        (user,) = await store.load([ME])
        assert user.devices == [DeviceRecord(ONE, box, 1, b"hash", InboxNumber(0), InboxNumber(0))]

    async def test_a_device_put_again_keeps_its_inbox(self, store) -> None:
        box = await device(store)
        await fill(store, box, range(1, 4))
        await store.commit(writes(PutDevice(ME, ONE, 2, b"new")))
        (user,) = await store.load([ME])
        assert user.devices == [DeviceRecord(ONE, box, 2, b"new", InboxNumber(0), InboxNumber(3))]

    async def test_a_device_is_put_as_a_whole_but_for_its_inbox(self, store, reopen) -> None:
        box = store.next_box()
        await store.commit(writes(PutDevice(ME, TWO, 1, b"hash", box, b"next", 90)))
        await fill(store, box, range(1, 3))
        await store.commit(writes(PutDevice(ME, TWO, 1, b"next", box + 5, b"", 91)))
        store = await reopen()
        (user,) = await store.load([ME])
        zero = InboxNumber(0)
        assert user.devices == [DeviceRecord(TWO, box, 1, b"next", zero, InboxNumber(2), b"", 91)]
        assert store.next_box() > box

    async def test_a_device_that_was_removed_keeps_its_counters_and_nothing_else(
        self, store, reopen
    ) -> None:
        box = await device(store)
        await fill(store, box, range(1, 4))
        await store.put_keys(ME, ONE, KEYS, [(1, b"a")], [])
        await store.commit(
            writes(
                Append(box, InboxNumber(4), frame(4)),
                PutDevice(ME, ONE, 1, b"", box),
                Advance(box, InboxNumber(4), ()),
                PutKeys(ME, ONE, None),
            )
        )
        store = await reopen()
        (user,) = await store.load([ME])
        assert user.devices == [DeviceRecord(ONE, box, 1, b"", InboxNumber(4), InboxNumber(4))]
        assert await store.page(box, InboxNumber(0), 99) == []
        assert await store.take_keys(ME) == []
        assert await store.lasting_keys(ME, ONE) is None

    async def test_the_keys_of_a_removed_device_are_given_to_nobody(self, store) -> None:
        await device(store)
        await store.commit(writes(PutDevice(ME, ONE, 1, b"")))
        await store.put_keys(ME, ONE, KEYS, [(1, b"a")], [])
        assert await store.take_keys(ME) == []

    async def test_a_device_gets_its_keys_in_the_turn_in_which_it_is_registered(
        self, store, reopen
    ) -> None:
        await device(store)
        await store.put_keys(ME, ONE, KEYS, [(7, b"old")], [])
        keys = NewKeys(KEYS._replace(identity=b"new"), [(1, b"a"), (2, b"b")], [(3, b"k")])
        await store.commit(writes(PutDevice(ME, ONE, 2, b"hash"), PutKeys(ME, ONE, keys)))
        store = await reopen()
        assert await store.count_keys(ME, ONE) == (2, 1)
        (taken,) = await store.take_keys(ME)
        assert (taken.incarnation, taken.keys.identity) == (2, b"new")
        assert taken.pre_key in (b"a", b"b")

    async def test_the_device_list_and_the_blocks_are_kept_side_by_side(
        self, store, reopen
    ) -> None:
        assert await store.device_list(ME) is None
        await store.commit(writes(PutList(ME, 1, b"key", b"old")))
        await store.commit(writes(PutBlocked(ME, FRIEND)))
        assert await store.device_list(FRIEND) is None
        await store.commit(writes(PutList(ME, 2, b"key", b"list"), PutBlocked(ME, FRIEND + ME)))
        store = await reopen()
        digest = sha256(b"list").digest()
        assert await store.load([ME]) == [UserRecord(ME, 0, [], 2, b"key", digest, FRIEND + ME)]
        assert await store.device_list(ME) == b"list"

    async def test_a_forgotten_account_leaves_its_counters(self, store, reopen) -> None:
        await store.commit(
            writes(PutReceipt(ME, ONE, FRIEND, 0, 1, b"a"), PutList(ME, 1, b"k", b"l"))
        )
        await store.commit(
            writes(
                PutReceipt(ME, ONE, FRIEND, 0, 2, b"b"),
                PutPeer(ME, FRIEND, ONE, 1, 1, b"d"),
                PutBlocked(ME, FRIEND),
                ForgetAccount(ME, 2),
            )
        )
        store = await reopen()
        assert await store.load([ME]) == [UserRecord(ME, 2, [])]
        assert await store.peers([(ME, FRIEND, ONE)]) == [None]
        assert await store.receipts_after(ME, 0) == []
        assert await store.device_list(ME) is None

    async def test_linked_devices_that_were_not_there_lately_are_found(self, store) -> None:
        for number, day in ((ONE, 5), (TWO, 6), (DeviceId(3), 9), (DeviceId(4), 5)):
            await store.commit(writes(PutDevice(ME, number, 1, b"hash", None, b"", day)))
        await store.commit(writes(PutDevice(ME, DeviceId(4), 1, b"", None, b"", 5)))
        assert await store.unseen(9, 99) == [(ME, TWO)]
        assert await store.unseen(10, 1) == [(ME, TWO)]
        assert await store.unseen(6, 99) == []

    async def test_envelopes_come_back_in_order_by_pages(self, store, reopen: Reopen) -> None:
        box = await device(store)
        await fill(store, box, range(1, 11))
        store = await reopen()
        rows = await store.page(box, InboxNumber(3), 4)
        assert [row.number for row in rows] == [4, 5, 6, 7]
        assert rows[0] == (4, 1_000, FRIEND, ONE, 1, 4, frame(4))

    async def test_inboxes_do_not_mix(self, store) -> None:
        first, second = await device(store), await device(store, ME, TWO)
        await fill(store, first, range(1, 4))
        await fill(store, second, range(1, 3))
        assert len(await store.page(first, InboxNumber(0), 99)) == 3
        assert len(await store.page(second, InboxNumber(0), 99)) == 2

    async def test_what_is_acknowledged_leaves_and_the_numbers_go_on(self, store, reopen) -> None:
        box = await device(store)
        await fill(store, box, range(1, 6))
        await store.commit(writes(Advance(box, InboxNumber(5), ())))
        store = await reopen()
        assert await store.page(box, InboxNumber(0), 99) == []
        (user,) = await store.load([ME])
        assert (user.devices[0].cursor, user.devices[0].head) == (5, 5)

    async def test_an_envelope_that_comes_and_goes_in_one_turn_is_gone(self, store) -> None:
        box = await device(store)
        await store.commit(
            writes(Append(box, InboxNumber(1), frame(1)), Advance(box, InboxNumber(1), ()))
        )
        assert await store.page(box, InboxNumber(0), 99) == []

    async def test_peers_are_replaced(self, store, reopen: Reopen) -> None:
        for last in (1, 2):
            await store.commit(writes(PutPeer(ME, FRIEND, ONE, 1, last, b"digests")))
        store = await reopen()
        keys = [(ME, FRIEND, ONE), (ME, FRIEND, TWO)]
        assert await store.peers(keys) == [(1, 2, b"digests"), None]

    async def test_receipts_are_found_by_revision(self, store, reopen: Reopen) -> None:
        other = AccountId(b"o" * 16)
        await store.commit(writes(PutReceipt(ME, ONE, FRIEND, 0, 1, b"a")))
        await store.commit(
            writes(PutReceipt(ME, ONE, FRIEND, 0, 3, b"b"), PutReceipt(ME, ONE, other, 0, 2, b"c"))
        )
        store = await reopen()
        assert [r.ranges for r in await store.receipts_after(ME, 0)] == [b"c", b"b"]
        assert [r.ranges for r in await store.receipts_after(ME, 2)] == [b"b"]
        assert await store.receipts([(ME, ONE, other, 0), (ME, TWO, other, 0)]) == [
            (ONE, other, 0, 2, b"c"),
            None,
        ]
        (user,) = await store.load([ME])
        assert user.revision == 3

    async def test_receipts_of_all_devices_are_found_and_of_no_other_account(self, store) -> None:
        await store.commit(
            writes(
                PutReceipt(ME, ONE, FRIEND, 0, 2, b"b"),
                PutReceipt(ME, TWO, FRIEND, 0, 1, b"a"),
                PutReceipt(FRIEND, ONE, ME, 0, 1, b"c"),
            )
        )
        assert [r[:1] + r[3:] for r in await store.receipts_after(ME, 0)] == [
            (TWO, 1, b"a"),
            (ONE, 2, b"b"),
        ]

    async def test_the_revision_outlives_forgotten_receipts(self, store, reopen: Reopen) -> None:
        await store.commit(writes(PutReceipt(ME, ONE, FRIEND, 0, 3, b"a")))
        await store.commit(writes(PutReceipt(ME, TWO, FRIEND, 0, 7, b"a")))
        await store.commit(writes(ForgetReceipts(ME, TWO, 7)))
        store = await reopen()
        (user,) = await store.load([ME])
        assert user.revision == 7

    async def test_forgotten_receipts_are_gone(self, store) -> None:
        await store.commit(writes(PutReceipt(ME, ONE, FRIEND, 0, 1, b"a")))
        await store.commit(writes(ForgetReceipts(ME, ONE, 1)))
        assert await store.receipts_after(ME, 0) == []

    async def test_what_is_owed_is_kept_until_it_is_paid(self, store, reopen: Reopen) -> None:
        told = Told(FRIEND, ONE, 1, ME, Outcome.DELIVERED, 1, 9)
        batch = Writes()
        first, second = store.next_owed(), store.next_owed()
        batch.owed = [Owed(first, told), Owed(second, told)]
        await store.commit(batch)
        store = await reopen()
        assert await store.owed(0, 99) == [Owed(first, told), Owed(second, told)]
        batch = Writes()
        batch.paid = [first]
        await store.commit(batch)
        assert await store.owed(0, 99) == [Owed(second, told)]
        assert store.next_owed() > second

    async def test_the_number_of_what_was_owed_is_never_given_again(
        self, store, reopen: Reopen
    ) -> None:
        """Word that it is paid may come twice, and late."""
        batch = Writes()
        number = store.next_owed()
        batch.owed = [Owed(number, Told(FRIEND, ONE, 1, ME, Outcome.DELIVERED, 1, 1))]
        await store.commit(batch)
        batch = Writes()
        batch.paid = [number]
        await store.commit(batch)
        store = await reopen()
        assert store.next_owed() > number

    async def test_a_commit_is_all_or_nothing(self, store) -> None:
        box = await device(store)
        bad = writes(Append(box, InboxNumber(1), frame(1)), PutPeer(ME, None, ONE, 1, 1, b""))
        with pytest.raises(Exception):  # noqa: B017
            await store.commit(bad)
        assert await store.page(box, InboxNumber(0), 99) == []
        await fill(store, box, range(1, 2))

    async def test_an_old_owner_is_fenced_and_changes_nothing(self, store, take_over) -> None:
        box = await device(store)
        new = await take_over()
        with pytest.raises(Fenced):
            await fill(store, box, range(1, 2))
        with pytest.raises(Fenced):
            await store.take_keys(ME)
        assert new.epoch > store.epoch
        await fill(new, box, range(1, 2))
        assert len(await new.page(box, InboxNumber(0), 99)) == 1

    async def test_the_walk_finds_all_that_is_older(self, store) -> None:
        old, new = await device(store), await device(store, FRIEND)
        await fill(store, old, range(1, 4), at=100)
        await fill(store, old, range(4, 6), at=900)
        await fill(store, new, range(1, 3), at=900)
        found, box = [], 0
        for _ in range(3):
            box, some = await store.oldest(box, 1, 500, 99)
            found += [
                (account, number, [row.number for row in rows]) for account, number, rows in some
            ]
            if not box:
                break
        assert found == [(ME, ONE, [1, 2, 3])]

    async def test_a_one_time_key_is_given_once_and_the_last_resort_for_ever(
        self, store, reopen: Reopen
    ) -> None:
        await device(store)
        await store.put_keys(ME, ONE, KEYS, [(1, b"a"), (2, b"b")], [(9, b"k")])
        assert await store.count_keys(ME, ONE) == (2, 1)
        taken = [(await store.take_keys(ME))[0] for _ in range(2)]
        store = await reopen()
        taken.append((await store.take_keys(ME))[0])
        assert sorted(t.pre_key for t in taken) == [b"a", b"b", b"last-ec"]
        assert taken[2].pre_key == b"last-ec"
        assert [t.kyber_pre_key for t in taken] == [b"k", b"last", b"last"]
        assert taken[0][:3] == (ONE, 1, KEYS)
        assert await store.lasting_keys(ME, ONE) == KEYS

    async def test_keys_of_the_named_devices_only_are_taken(self, store) -> None:
        for number in (TWO, ONE):
            await device(store, ME, number)
            await store.put_keys(ME, number, KEYS, [(1, b"a")], [(1, b"k")])
        assert [t.device for t in await store.take_keys(ME, [TWO, DeviceId(9)])] == [TWO]
        assert await store.count_keys(ME, ONE) == (1, 1)
        assert await store.count_keys(ME, TWO) == (0, 0)
        assert await store.take_keys(ME, []) == []
        assert [t.device for t in await store.take_keys(ME)] == [ONE, TWO]

    async def test_one_time_keys_can_be_left_where_they_are(self, store) -> None:
        await device(store)
        await store.put_keys(ME, ONE, KEYS, [(1, b"a")], [(9, b"k")])
        (taken,) = await store.take_keys(ME, None, False)
        assert (taken.pre_key, taken.kyber_pre_key) == (b"last-ec", b"last")
        assert await store.count_keys(ME, ONE) == (1, 1)

    async def test_a_device_of_an_early_version_has_no_last_resort_pre_key(
        self, store, reopen: Reopen
    ) -> None:
        await device(store)
        await store.put_keys(ME, ONE, DeviceKeys(7, b"i", b"s", b"last"), [(1, b"a")], [])
        store = await reopen()
        assert [(await store.take_keys(ME))[0].pre_key for _ in range(2)] == [b"a", None]

    async def test_200_takers_of_100_keys_get_each_of_them_once(self, store) -> None:
        await device(store)
        numbered = [(number, b"%d" % number) for number in range(1, 101)]
        await store.put_keys(ME, ONE, KEYS, numbered, numbered)
        answers = await asyncio.gather(*(store.take_keys(ME) for _ in range(200)))
        for name, last in (("pre_key", b"last-ec"), ("kyber_pre_key", b"last")):
            given = [getattr(taken, name) for (taken,) in answers]
            assert sorted(key for key in given if key != last) == sorted(k for _, k in numbered)
            assert given.count(last) == 100

    async def test_which_one_time_key_is_given_is_left_to_chance(self, store) -> None:
        await device(store)
        await store.put_keys(ME, ONE, KEYS, [(number, b"%d" % number) for number in range(64)], [])
        given = [int((await store.take_keys(ME))[0].pre_key) for _ in range(64)]
        assert sorted(given) == list(range(64))
        assert given != sorted(given)

    async def test_an_upload_repeated_brings_no_key_back(self, store, reopen: Reopen) -> None:
        await device(store)
        for _ in range(2):
            await store.put_keys(ME, ONE, KEYS, [(1, b"a"), (2, b"b")], [(9, b"k")])
            await store.take_keys(ME)
            store = await reopen()
        assert await store.count_keys(ME, ONE) == (0, 0)
        await store.put_keys(ME, ONE, None, [(3, b"c")], [])
        assert await store.count_keys(ME, ONE) == (1, 0)

    async def test_forgotten_keys_are_given_to_nobody(self, store) -> None:
        await device(store)
        await store.put_keys(ME, ONE, KEYS, [(1, b"a")], [])
        await store.forget_keys(ME, ONE)
        assert await store.take_keys(ME) == []
        assert await store.count_keys(ME, ONE) == (0, 0)

    async def test_depth_counts_what_waits(self, store) -> None:
        box = await device(store)
        await fill(store, box, range(1, 6))
        await store.commit(writes(Advance(box, InboxNumber(2), ())))
        assert (await store.depth())[0] == 3
