"""The User's rules, one by one: what it takes, numbers, pushes, lets go of and tells."""

from __future__ import annotations

from hashlib import sha256

import pytest

from raychat import limits
from raychat.ids import AccountId, DeviceId, InboxNumber, MessageId
from raychat.users.events import (
    Acknowledge,
    Admit,
    Advance,
    Append,
    Attach,
    Detach,
    DeviceRecord,
    Dismiss,
    Expire,
    Fetch,
    Incoming,
    Page,
    Push,
    PutReceipt,
    Row,
    Session,
    Tell,
    Told,
    UserRecord,
    Waiting,
)
from raychat.users.user import User
from raychat.wire import frames
from raychat.wire.frames import Close, Outcome

ME = AccountId(b"m" * 16)
FRIEND = AccountId(b"f" * 16)
ONE = DeviceId(1)
TOKEN = sha256(b"token").digest()
SENDER = Session("link", 7)
MINE = Session("link", 8)
NOW = 1_000


def user(*, cursor: int = 0, head: int = 0, devices: int = 1) -> User:
    records = [
        DeviceRecord(DeviceId(n), n, 1, TOKEN, InboxNumber(cursor), InboxNumber(head))
        for n in range(1, devices + 1)
    ]
    me = User(UserRecord(ME, 0, records), NOW)
    me.learn_peer((FRIEND, ONE), None)
    return me


def message(number: int, body: bytes = b"hi", incarnation: int = 1, devices: int = 1) -> Incoming:
    parts = [[n, 1, 2, body] for n in range(1, devices + 1)]
    return Incoming(ME, SENDER, FRIEND, ONE, incarnation, MessageId(number), parts)


def attach(me: User, seen: int = 0, session: Session = MINE, **changes: object) -> list:
    event = Attach(ME, session, ONE, TOKEN, InboxNumber(seen), (), 0, (), ())
    return me.handle(event._replace(**changes), NOW)


def row(number: int) -> Row:
    frame = frames.pack_envelope(number, FRIEND, 1, 1, number, NOW, 2, b"x")
    return Row(InboxNumber(number), NOW, FRIEND, ONE, 1, MessageId(number), frame)


def of(kind: type, effects: list) -> list:
    return [effect for effect in effects if type(effect) is kind]


def said(effects: list, session: Session) -> list:
    data = b"".join(push.frame for push in of(Push, effects) if push.session == session)
    return list(frames.to_device(data))


def refused(effects: list) -> str:
    (refusal,) = said(effects, SENDER)
    assert isinstance(refusal, frames.Refused)
    assert not of(Append, effects)
    return refusal.code


def test_a_message_gets_the_next_number_and_is_durable_before_it_is_sent() -> None:
    me = user(head=4, cursor=4)
    effects = me.handle(message(1), NOW)
    (append,) = of(Append, effects)
    assert append.number == 5
    assert said(effects, SENDER) == [frames.Sent(ME, MessageId(1), NOW)]
    assert effects.index(append) < len(effects) - 1
    assert of(Waiting, effects)


def test_the_same_message_again_is_acknowledged_and_not_stored_again() -> None:
    me = user()
    me.handle(message(1), NOW)
    effects = me.handle(message(1), NOW + 5)
    assert not of(Append, effects)
    assert said(effects, SENDER) == [frames.Sent(ME, MessageId(1), NOW + 5)]


def test_the_same_id_with_another_body_is_a_conflict() -> None:
    me = user()
    me.handle(message(1), NOW)
    assert refused(me.handle(message(1, b"other"), NOW)) == "id-conflict"


def test_an_id_that_skips_one_is_refused_and_may_come_later() -> None:
    me = user()
    assert refused(me.handle(message(2), NOW)) == "id-gap"
    me.handle(message(1), NOW)
    assert of(Append, me.handle(message(2), NOW))


def test_an_id_older_than_the_window_is_stale() -> None:
    me = user()
    for number in range(1, limits.ID_WINDOW + 2):
        me.handle(message(number), NOW)
    assert refused(me.handle(message(1), NOW)) == "id-stale"
    assert said(me.handle(message(2), NOW), SENDER) == [frames.Sent(ME, MessageId(2), NOW)]


def test_a_device_registered_anew_counts_from_one_and_its_old_self_is_denied() -> None:
    me = user()
    me.handle(message(1), NOW)
    assert of(Append, me.handle(message(1, incarnation=2), NOW))
    assert refused(me.handle(message(2, incarnation=1), NOW)) == "denied"


def test_a_message_must_be_addressed_to_just_the_devices_there_are() -> None:
    me = user(devices=2)
    assert refused(me.handle(message(1), NOW)) == "device-list"
    assert refused(me.handle(message(1, devices=3), NOW)) == "device-list"
    old = message(1, devices=2)._replace(parts=[[1, 1, 2, b""], [2, 9, 2, b""]])
    assert refused(me.handle(old, NOW)) == "device-list"
    twice = message(1)._replace(parts=[[1, 1, 2, b""], [1, 1, 2, b""]])
    assert refused(me.handle(twice, NOW)) == "device-list"
    assert len(of(Append, me.handle(message(1, devices=2), NOW))) == 2


def test_an_account_without_devices_is_not_found() -> None:
    me = user(devices=0)
    assert refused(me.handle(message(1), NOW)) == "not-found"


def test_a_full_inbox_refuses_and_the_id_stays_free() -> None:
    me = user(head=limits.INBOX_ENVELOPES)
    assert refused(me.handle(message(1), NOW)) == "inbox-full"


def test_who_knows_the_token_is_admitted_and_gets_what_waits() -> None:
    me = user(head=3)
    effects = attach(me, waiting=[row(1), row(2), row(3)])
    (admit,) = of(Admit, effects)
    (welcome,) = frames.to_device(admit.frame)
    assert (welcome.cursor, welcome.head) == (0, 3)
    assert [envelope.number for envelope in said(effects, MINE)] == [1, 2, 3]


def test_a_wrong_token_or_device_is_dismissed() -> None:
    me = user()
    for change in ({"token_hash": b"x" * 32}, {"device": DeviceId(9)}):
        (dismiss,) = attach(me, **change)
        assert dismiss == Dismiss(MINE, Close.BAD_TOKEN, "bad-token", dismiss.detail)


def test_a_second_connection_replaces_the_first() -> None:
    me = user()
    attach(me)
    effects = attach(me, session=Session("link", 9))
    assert of(Dismiss, effects)[0][:3] == (MINE, Close.REPLACED, "replaced")
    assert me.handle(Acknowledge(ME, MINE, ONE, InboxNumber(0), ()), NOW) == []


def test_an_old_connection_that_is_attached_again_sends_no_other_away_for_good() -> None:
    me = user()
    attach(me)
    effects = attach(me, session=Session("link", 9), again=True)
    assert of(Dismiss, effects)[0][:3] == (MINE, Close.GOING_AWAY, "replaced")


def test_what_the_device_has_seen_is_settled_and_not_pushed_again() -> None:
    me = user(head=3)
    effects = attach(me, seen=2, waiting=[row(1), row(2), row(3)])
    assert of(Advance, effects) == [Advance(1, InboxNumber(2), [NOW, NOW])]
    assert [envelope.number for envelope in said(effects, MINE)] == [3]
    assert of(Tell, effects) == [Tell(Told(FRIEND, ONE, 1, ME, Outcome.DELIVERED, 1, 2))]


def test_only_acknowledged_envelopes_leave_and_their_senders_are_told() -> None:
    me = user()
    attach(me)
    for number in (1, 2, 3):
        me.handle(message(number), NOW)
    effects = me.handle(Acknowledge(ME, MINE, ONE, InboxNumber(2), ()), NOW + 9)
    assert of(Advance, effects) == [Advance(1, InboxNumber(2), [NOW, NOW])]
    assert of(Tell, effects) == [Tell(Told(FRIEND, ONE, 1, ME, Outcome.DELIVERED, 1, 2))]


def test_what_could_not_be_decrypted_leaves_without_being_told_as_delivered() -> None:
    me = user()
    attach(me)
    for number in (1, 2, 3):
        me.handle(message(number), NOW)
    effects = me.handle(Acknowledge(ME, MINE, ONE, InboxNumber(3), [2]), NOW)
    assert [tell.told[5:] for tell in of(Tell, effects)] == [(1, 1), (3, 3)]


def test_an_acknowledgement_of_what_was_never_sent_ends_the_connection() -> None:
    me = user()
    attach(me)
    me.handle(message(1), NOW)
    (dismiss,) = me.handle(Acknowledge(ME, MINE, ONE, InboxNumber(2), ()), NOW)
    assert dismiss[:3] == (MINE, Close.MALFORMED, "ack-ahead")
    (dismiss,) = attach(me, seen=2)
    assert dismiss.code == "ack-ahead"


def test_no_more_than_a_window_is_pushed_and_the_rest_follows_in_order() -> None:
    me = user()
    attach(me)
    pushed = []
    for number in range(1, limits.PUSH_WINDOW + 11):
        pushed += said(me.handle(message(number), NOW), MINE)
    assert len(pushed) == limits.PUSH_WINDOW
    effects = me.handle(Acknowledge(ME, MINE, ONE, InboxNumber(20), ()), NOW)
    (fetch,) = of(Fetch, effects)
    assert (fetch.after, fetch.most) == (limits.PUSH_WINDOW, 20)
    rows = [row(number) for number in range(129, 139)]
    effects = me.handle(Page(ME, ONE, rows), NOW)
    assert [envelope.number for envelope in said(effects, MINE)] == list(range(129, 139))
    assert me.handle(Page(ME, ONE, rows), NOW) == []


def test_a_page_for_nobody_is_dropped() -> None:
    me = user(head=1)
    assert me.handle(Page(ME, ONE, [row(1)]), NOW) == []
    attach(me)
    me.handle(Detach(ME, MINE, ONE), NOW)
    assert me.handle(Page(ME, ONE, [row(1)]), NOW) == []


def test_a_detach_of_an_older_connection_changes_nothing() -> None:
    me = user()
    attach(me, session=Session("link", 9))
    me.handle(Detach(ME, MINE, ONE), NOW)
    assert not me.is_idle(NOW + 1)
    me.handle(Detach(ME, Session("link", 9), ONE), NOW)
    assert me.is_idle(NOW + 1)


def test_news_is_told_once_and_only_grows() -> None:
    me = user()
    me.learn_receipts((ONE, FRIEND, 0), None)
    attach(me)
    news = Told(ME, ONE, 1, FRIEND, Outcome.DELIVERED, 1, 3)
    effects = me.handle(news, NOW)
    (put,) = of(PutReceipt, effects)
    assert put.revision == 1
    assert said(effects, MINE) == [frames.Receipt(1, FRIEND, Outcome.DELIVERED, [1, 3], ONE, 1)]
    assert me.handle(news, NOW) == []
    assert me.handle(news._replace(incarnation=9), NOW) == []


def test_expired_envelopes_leave_from_the_front_and_their_senders_are_told() -> None:
    me = user(head=3)
    effects = me.handle(Expire(ME, ONE, [row(1), row(2)]), NOW)
    assert of(Advance, effects) == [Advance(1, InboxNumber(2), ())]
    assert of(Tell, effects) == [Tell(Told(FRIEND, ONE, 1, ME, Outcome.EXPIRED, 1, 2))]
    assert me.handle(Expire(ME, ONE, [row(1), row(2)]), NOW) == []


@pytest.mark.parametrize("quiet", [True, False])
def test_a_user_is_idle_when_nobody_is_connected_and_nothing_happens(quiet: bool) -> None:
    me = user()
    me.handle(message(1), NOW)
    assert me.is_idle(NOW + 1 if quiet else NOW) == quiet
