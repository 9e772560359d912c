"""Who the devices of an account are: only what the primary has signed, and every request twice."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from raychat.errors import BadToken, Denied, ListStale
from raychat.ids import PRIMARY, AccountId, DeviceId, InboxNumber, MessageId
from raychat.users.events import (
    Acknowledge,
    Admit,
    Advance,
    Answer,
    Append,
    Attach,
    Block,
    Delete,
    Dismiss,
    ForgetAccount,
    ForgetReceipts,
    Incoming,
    ListRecord,
    NewList,
    Push,
    PutBlocked,
    PutDevice,
    PutKeys,
    PutList,
    PutPeer,
    PutReceipt,
    ReceiptRecord,
    Register,
    Remove,
    Rotate,
    Session,
    Tell,
    Told,
    UserRecord,
    UseToken,
)
from raychat.users.registry import DAY_MS
from raychat.users.user import User
from raychat.wire import frames
from raychat.wire.frames import Close, Outcome

ME = AccountId(b"m" * 16)
FRIEND = AccountId(b"f" * 16)
TWO, THREE = DeviceId(2), DeviceId(3)
KEY = b"\x05" + b"k" * 32
REPLY = Session("link", 99)
NOW = 100 * DAY_MS
KEYS = "the keys"


def token(device: int, which: str = "token") -> bytes:
    return sha256(f"{which} {device}".encode()).digest()


def listed(version: int, *devices: int, key: bytes = KEY) -> ListRecord:
    data = b"list %d of %r" % (version, devices)
    return ListRecord(version, key, [DeviceId(n) for n in devices], data)


class Account:
    """A User, what it has answered, and a connection for each device."""

    def __init__(self, *devices: int) -> None:
        self.user = User(UserRecord(ME, 0, ()), NOW)
        self.answers: list[Any] = []
        if devices:
            self.register(1)
            for number in devices[1:]:
                version = self.user.list_version + 1
                self.register(number, listed(version, *sorted({*self.user.devices, number})))

    def do(self, event: Any, now: int = NOW) -> list[Any]:
        effects = self.user.handle(event, now)
        for effect in effects:
            if type(effect) is Answer:
                effect.ticket(effect.result)
        return effects

    def ask(self, kind: type, *fields: Any) -> Any:
        """Returns what is answered."""
        self.do(kind(ME, *fields, self.answers.append))
        return self.answers.pop()

    def register(self, device: int, by: ListRecord | None = None, which: str = "token") -> Any:
        by = by or listed(1, device)
        return self.ask(Register, DeviceId(device), token(device, which), by, KEYS, 70 + device)

    def attach(self, device: int, **changes: Any) -> list[Any]:
        event = Attach(
            ME, self.session(device), DeviceId(device), token(device), InboxNumber(0), (), 0, (), ()
        )
        return self.do(event._replace(**changes), changes.pop("now", NOW))

    def session(self, device: int) -> Session:
        return Session("link", device)

    def message(
        self,
        number: int = 1,
        to: Any = (1,),
        sender: AccountId = FRIEND,
        device: int = 1,
        incarnation: int = 1,
    ) -> list[Any]:
        if not self.user.knows_peer((sender, DeviceId(device))):
            self.user.learn_peer((sender, DeviceId(device)), None)
        parts = [[n, self.user.incarnation(DeviceId(n)) or 1, 2, b"hi"] for n in to]
        name = (sender, DeviceId(device), incarnation, MessageId(number))
        return self.do(Incoming(ME, REPLY, *name, parts))


def of(kind: type, effects: list[Any]) -> list[Any]:
    return [effect for effect in effects if type(effect) is kind]


def said(effects: list[Any], session: Session) -> list[Any]:
    data = b"".join(push.frame for push in of(Push, effects) if push.session == session)
    return list(frames.to_device(data))


def refusal(effects: list[Any]) -> frames.Refused:
    (refused,) = said(effects, REPLY)
    assert isinstance(refused, frames.Refused)
    return refused


# -- registering -----------------------------------------------------------------------------


def test_a_primary_registers_with_its_list_and_keys_in_one_turn() -> None:
    me = Account()
    effects = me.do(Register(ME, PRIMARY, token(1), listed(1, 1), KEYS, 71, me.answers.append))
    assert of(PutDevice, effects) == [PutDevice(ME, PRIMARY, 1, token(1), 71, b"", 100)]
    assert of(PutKeys, effects) == [PutKeys(ME, PRIMARY, KEYS)]
    assert of(PutList, effects) == [PutList(ME, 1, KEY, listed(1, 1).data)]
    assert me.answers == [1]
    assert me.user.is_token(PRIMARY, token(1))


def test_a_registration_that_comes_again_counts_on_and_its_old_token_is_void() -> None:
    me = Account(1)
    me.attach(1)
    effects = me.do(
        Register(ME, PRIMARY, token(1, "new"), listed(1, 1), KEYS, 9, me.answers.append)
    )
    assert me.answers == [2]
    assert of(PutDevice, effects)[0].box == 71, "the inbox stays"
    assert not of(PutList, effects), "the list is there already"
    assert of(Dismiss, effects)[0].close == Close.BAD_TOKEN
    assert of(ForgetReceipts, effects) == [ForgetReceipts(ME, PRIMARY, 0)]
    assert not me.user.is_token(PRIMARY, token(1))


def test_with_a_new_account_key_all_other_devices_are_removed() -> None:
    me = Account(1, 2, 3)
    me.attach(2)
    fresh = listed(1, 1, key=b"\x05" + b"n" * 32)
    effects = me.do(Register(ME, PRIMARY, token(1, "new"), fresh, KEYS, 9, me.answers.append))
    assert set(me.user.devices) == {PRIMARY}
    assert (me.user.list_version, me.user.list_key) == (1, fresh.key)
    assert {d.device for d in of(PutDevice, effects) if not d.token_hash} == {TWO, THREE}
    assert of(Dismiss, effects)[0][:3] == (me.session(2), Close.BAD_TOKEN, "bad-token")


def test_with_the_same_account_key_the_list_must_be_newer() -> None:
    me = Account(1, 2)
    assert isinstance(me.register(1, listed(2, 1)), ListStale)
    assert isinstance(me.register(1, listed(1, 1)), ListStale)
    assert set(me.user.devices) == {PRIMARY, TWO}
    assert me.register(1, listed(3, 1)) == 2
    assert set(me.user.devices) == {PRIMARY}


def test_a_linked_device_comes_with_the_list_that_names_it_and_the_others_are_told() -> None:
    me = Account(1)
    me.attach(1)
    effects = me.do(Register(ME, TWO, token(2), listed(2, 1, 2), KEYS, 72, me.answers.append))
    assert me.answers == [1]
    assert said(effects, me.session(1)) == [frames.Devices(2)]
    assert not of(Dismiss, effects)
    (admit,) = of(Admit, me.attach(2))
    (welcome,) = frames.to_device(admit.frame)
    assert welcome.list_version == 2


def test_a_linked_device_needs_a_list_that_is_newer_and_by_the_same_primary() -> None:
    me = Account(1, 2)
    assert isinstance(me.register(3, listed(2, 1, 3)), ListStale)
    assert isinstance(me.register(3, listed(3, 1, 3, key=b"\x05" + b"x" * 32)), Denied)
    assert isinstance(me.register(3, listed(3, 1, 2, 3, 4)), ListStale), "device 4 is unknown"
    assert set(me.user.devices) == {PRIMARY, TWO}


def test_a_linking_that_comes_again_is_another_incarnation() -> None:
    me = Account(1)
    assert me.register(2, listed(2, 1, 2)) == 1
    assert me.register(2, listed(2, 1, 2), "another") == 2
    assert me.user.is_token(TWO, token(2, "another"))


# -- removing --------------------------------------------------------------------------------


def test_a_device_that_is_not_in_the_newer_list_is_removed_at_once() -> None:
    me = Account(1, 2)
    me.message(to=(1, 2))
    me.attach(1)
    me.attach(2)
    effects = me.do(NewList(ME, listed(3, 1), me.answers.append))
    assert me.answers == [None]
    assert of(Dismiss, effects)[0][:3] == (me.session(2), Close.BAD_TOKEN, "bad-token")
    assert of(PutDevice, effects) == [PutDevice(ME, TWO, 1, b"", 72, b"", 100)]
    assert of(Advance, effects) == [Advance(72, InboxNumber(1), ())]
    assert of(PutKeys, effects) == [PutKeys(ME, TWO, None)]
    assert said(effects, me.session(1)) == [frames.Devices(3)]
    assert of(Dismiss, me.attach(2))[0].code == "bad-token"


def test_nobody_is_told_of_messages_a_removed_device_had_not_fetched() -> None:
    me = Account(1, 2)
    me.message(to=(1, 2))
    assert not of(Tell, me.do(NewList(ME, listed(3, 1), me.answers.append)))


def test_a_removed_device_acknowledges_nothing_any_more() -> None:
    me = Account(1, 2)
    me.attach(2)
    me.message(to=(1, 2))
    me.do(Remove(ME, TWO))
    assert me.do(Acknowledge(ME, me.session(2), TWO, InboxNumber(1), ())) == []


def test_a_list_must_be_newer_but_the_same_one_may_come_again() -> None:
    me = Account(1, 2)
    assert me.ask(NewList, listed(3, 1)) is None
    assert me.do(NewList(ME, listed(3, 1), me.answers.append))[:-1] == []
    assert me.answers.pop() is None
    other = listed(3, 1)._replace(data=b"another")
    assert isinstance(me.ask(NewList, other), ListStale)
    assert isinstance(me.ask(NewList, listed(2, 1, 2)), ListStale)
    assert isinstance(me.ask(NewList, listed(4, 1, 2)), ListStale), "device 2 is gone"
    assert isinstance(me.ask(NewList, listed(9, 1, key=b"\x05" + b"x" * 32)), Denied)


def test_a_number_that_is_used_again_counts_on() -> None:
    me = Account(1, 2)
    me.message(to=(1, 2))
    me.ask(NewList, listed(3, 1))
    assert me.register(2, listed(4, 1, 2)) == 2
    device = me.user.devices[TWO]
    assert (device.box, device.cursor, device.head) == (72, 1, 1)
    effects = me.message(2, to=(1, 2))
    assert [append.number for append in of(Append, effects)] == [2, 2]


def test_a_linked_device_may_leave_and_the_primary_learns_that_its_list_is_out_of_date() -> None:
    me = Account(1, 2)
    me.attach(1)
    effects = me.do(Remove(ME, TWO, me.answers.append))
    assert said(effects, me.session(1)) == [frames.Devices(2)]
    assert me.answers.pop() is None
    assert me.ask(Remove, TWO) is None, "it is gone already"
    assert isinstance(me.ask(Remove, PRIMARY), Denied)


def test_a_linked_device_that_was_not_there_for_long_is_removed_and_a_connected_one_never() -> None:
    me = Account(1, 2)
    unseen = 101
    later = NOW + 60 * DAY_MS
    me.attach(2)
    (put,) = me.do(Remove(ME, TWO, unseen=unseen), later)
    assert put.seen == 160
    me.user.devices[TWO].leave()
    assert me.do(Remove(ME, TWO, unseen=unseen), later) == []
    assert me.do(Remove(ME, PRIMARY, unseen=unseen + 99), later) == []
    me.do(Remove(ME, TWO, unseen=161), later)
    assert set(me.user.devices) == {PRIMARY}


def test_the_day_a_device_was_seen_is_written_once_a_day() -> None:
    me = Account(1)
    assert not of(PutDevice, me.attach(1))
    event = Attach(ME, me.session(1), PRIMARY, token(1), InboxNumber(0), (), 0, (), ())
    assert of(PutDevice, me.do(event, NOW + DAY_MS))[0].seen == 101
    assert not of(PutDevice, me.do(event, NOW + DAY_MS + 1))


# -- what is sent to an account of several devices ---------------------------------------------


def test_a_wrong_device_list_is_answered_with_the_right_one() -> None:
    me = Account(1, 2, 3)
    me.ask(NewList, listed(4, 1, 3))
    refused = refusal(me.message(to=(1, 2)))
    assert (refused.code, refused.devices, refused.list_version) == (
        "device-list",
        ((1, 1), (3, 1)),
        4,
    )
    assert refusal(me.message(7, to=(1, 3))).devices == ()


def test_an_account_writes_to_its_other_devices_and_not_to_the_one_that_sends() -> None:
    me = Account(1, 2, 3)
    effects = me.message(to=(2, 3), sender=ME)
    assert [append.box for append in of(Append, effects)] == [72, 73]
    assert refusal(me.message(2, to=(1, 2, 3), sender=ME)).devices == ((2, 1), (3, 1))
    assert of(Append, me.message(1, to=(1, 3), sender=ME, device=2))
    assert of(Append, me.message(2, to=(2, 3), sender=ME)), "ids count for each sending device"


def test_an_account_of_one_device_has_nobody_to_write_to_itself() -> None:
    me = Account(1)
    refused = refusal(me.message(sender=ME))
    assert (refused.code, refused.devices) == ("device-list", ())


def test_a_removed_device_writes_no_more_to_its_account() -> None:
    me = Account(1, 2)
    me.do(Remove(ME, TWO))
    assert refusal(me.message(to=(1,), sender=ME, device=2)).code == "denied"


def test_every_device_of_the_sender_gets_the_receipt() -> None:
    me = Account(1, 2)
    me.attach(1)
    me.attach(2)
    me.user.learn_receipts((TWO, FRIEND, 0), None)
    effects = me.do(Told(ME, TWO, 1, FRIEND, Outcome.DELIVERED, 1, 3))
    receipt = frames.Receipt(1, FRIEND, Outcome.DELIVERED, [1, 3], TWO, 1)
    assert said(effects, me.session(1)) == said(effects, me.session(2)) == [receipt]


def test_a_device_that_comes_back_gets_the_receipts_of_all() -> None:
    me = Account(1, 2)
    waiting = [
        ReceiptRecord(device, FRIEND, 0, n, b"\x92\x01\x02") for n, device in ((4, 2), (5, 1))
    ]
    receipts = of(Push, me.attach(1, receipts=waiting))
    assert [next(frames.to_device(p.frame))[4:] for p in receipts] == [(2, 1), (1, 1)]
    assert [p.revision for p in receipts] == [4, 5]


def test_the_messages_of_a_removed_device_still_get_their_marks_until_it_is_registered_anew() -> (
    None
):
    me = Account(1, 2)
    me.attach(1)
    me.do(Remove(ME, TWO))
    me.user.learn_receipts((TWO, FRIEND, 0), None)
    news = Told(ME, TWO, 1, FRIEND, Outcome.DELIVERED, 1, 1)
    assert said(me.do(news), me.session(1)) == [
        frames.Receipt(1, FRIEND, Outcome.DELIVERED, [1, 1], TWO, 1)
    ]
    me.register(2, listed(3, 1, 2))
    assert me.do(news._replace(lo=2, hi=2)) == []
    assert me.user.receipts is not None
    assert not me.user.receipts[TWO, FRIEND, 0].flat


# -- tokens, blocks, deletion ------------------------------------------------------------------


def test_both_tokens_work_until_the_new_one_is_used() -> None:
    me = Account(1)
    assert me.ask(Rotate, PRIMARY, token(1, "new")) is None
    assert of(Admit, me.attach(1))
    effects = me.attach(1, token_hash=token(1, "new"))
    assert of(PutDevice, effects) == [PutDevice(ME, PRIMARY, 1, token(1, "new"), 71, b"", 100)]
    assert of(Dismiss, me.attach(1))[0].close == Close.BAD_TOKEN


def test_a_new_token_may_be_used_beside_the_connection_first() -> None:
    me = Account(1)
    me.ask(Rotate, PRIMARY, token(1, "new"))
    assert me.user.is_new_token(PRIMARY, token(1, "new"))
    assert me.ask(UseToken, PRIMARY, token(1, "new")) is None
    assert not me.user.is_token(PRIMARY, token(1))
    assert isinstance(me.ask(UseToken, PRIMARY, token(1)), BadToken)


def test_a_connection_with_a_token_of_before_is_only_sent_round_by_a_restarted_host() -> None:
    me = Account(1)
    me.ask(Rotate, PRIMARY, token(1, "new"))
    me.ask(UseToken, PRIMARY, token(1, "new"))
    (dismiss,) = me.attach(1, again=True)
    assert dismiss.close == Close.GOING_AWAY


def test_a_blocked_sender_gets_its_mark_and_nothing_is_stored() -> None:
    me = Account(1)
    effects = me.do(Block(ME, [FRIEND], me.answers.append))
    assert of(PutBlocked, effects) == [PutBlocked(ME, FRIEND)]
    for number in (1, 2):
        effects = me.message(number)
        assert said(effects, REPLY) == [frames.Sent(ME, MessageId(number), NOW)]
        assert [type(effect) for effect in effects] == [PutPeer, Push]
    assert refusal(me.message(2, to=(1, 2))).code == "id-conflict"
    assert me.ask(Block, []) is None
    assert of(Append, me.message(3))


def test_a_blocked_sender_is_refused_like_everybody_else() -> None:
    me = Account(1, 2)
    me.ask(Block, [FRIEND])
    assert refusal(me.message(to=(1,))).code == "device-list"


def test_a_deleted_account_is_not_found_and_only_its_counters_are_left() -> None:
    me = Account(1, 2)
    me.ask(Block, [FRIEND])
    me.user.learn_receipts((PRIMARY, FRIEND, 0), None)
    me.attach(1)
    effects = me.do(Delete(ME, me.answers.append))
    assert me.answers == [None]
    assert of(ForgetAccount, effects) == [ForgetAccount(ME, 0)]
    assert [put.token_hash for put in of(PutDevice, effects)] == [b"", b""]
    assert of(Dismiss, effects)[0].close == Close.BAD_TOKEN
    assert refusal(me.message()).code == "not-found"
    assert me.do(Told(ME, PRIMARY, 1, FRIEND, Outcome.DELIVERED, 1, 1)) == []
    assert me.ask(Delete) is None
    assert me.register(1) == 2


@pytest.mark.parametrize("blocked", [b"", FRIEND, FRIEND + ME])
def test_what_is_loaded_is_what_was_put(blocked: bytes) -> None:
    before = Account(1, 2, 3)
    before.ask(NewList, listed(4, 1, 2))
    before.ask(Block, [AccountId(blocked[at : at + 16]) for at in range(0, len(blocked), 16)])
    before.ask(Rotate, TWO, token(2, "new"))
    records = [before.user.removed[THREE]] if before.user.removed else []
    for number, device in before.user.devices.items():
        put = device.put(ME, number)
        record = (put.box, put.incarnation, put.token_hash, device.cursor, device.head)
        records.append(type(records[0])(number, *record, put.next_hash, put.seen))
    digest = sha256(listed(4, 1, 2).data).digest()
    packed = b"".join(sorted(before.user.blocked or ()))
    after = User(UserRecord(ME, 0, records, 4, KEY, digest, packed), NOW)
    assert set(after.devices) == {PRIMARY, TWO}
    assert after.incarnation(THREE) == 1
    assert after.is_new_token(TWO, token(2, "new"))
    assert after.blocked == before.user.blocked
    assert after.list_digest == before.user.list_digest


def test_receipts_are_remembered_by_revision_over_a_registration() -> None:
    me = Account(1, 2)
    me.user.learn_receipts((TWO, FRIEND, 0), None)
    effects = me.do(Told(ME, TWO, 1, FRIEND, Outcome.DELIVERED, 1, 1))
    assert of(PutReceipt, effects)[0].revision == 1
    register = Register(ME, TWO, token(2), listed(2, 1, 2), KEYS, 9, me.answers.append)
    assert of(ForgetReceipts, me.do(register)) == [ForgetReceipts(ME, TWO, 1)]
