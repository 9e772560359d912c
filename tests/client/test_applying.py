"""What contents do to the history: who may change what, until when, and what is left."""

from __future__ import annotations

import msgpack
import pytest

from raychat import limits
from raychat.client.events import (
    MessageChanged,
    MessageGone,
    MessageReceived,
    Read,
    SentElsewhere,
    SettingChanged,
    What,
)
from raychat.client.model import State, ViewOnce
from raychat.errors import Denied, Malformed, NotFound, TooLate
from raychat.ids import AccountId, DeviceId, MessageId, PhoneNumber
from raychat.wire import content
from raychat.wire.content import (
    Contact,
    Delete,
    DeviceMessage,
    Devices,
    Edit,
    Erase,
    Mark,
    Marks,
    Mention,
    PeerMarks,
    Poll,
    Preview,
    Profile,
    Reaction,
    Reply,
    Resend,
    Sent,
    Setting,
    Settings,
    Text,
    Timer,
    Typing,
    Unknown,
    Vote,
)
from tests.client.histories import BOB, DAY, HOUR, ME, MINUTE, NOW, Book, bobs, mine

CAROL = AccountId(b"c" * 16)
ONE = DeviceId(1)


# -- messages ------------------------------------------------------------------------------


def test_a_message_is_shown_once(book: Book) -> None:
    first = book.apply(bobs(1), Text(NOW, "hi"))
    again = book.apply(bobs(1), Text(NOW, "hi"))
    assert [type(event) for event in first.events] == [MessageReceived]
    assert first[1:] == (True, True)
    assert again == ([], False, True)
    assert book.texts() == ["hi"]


def test_everything_a_message_says_is_kept(book: Book) -> None:
    said = Text(
        NOW,
        "hi @me",
        reply=Reply(mine(9), "before"),
        forwarded=2,
        expires=60,
        mentions=(Mention(3, 3, ME),),
        preview=Preview("https://example.org", "E"),
    )
    card = Contact(NOW, "Carol", (PhoneNumber("+15550003333"),), CAROL)
    later = content.decode(msgpack.packb([3, 7, NOW, {"mood": 1}]))
    assert isinstance(later, Unknown)
    for id_, body in enumerate((said, card, later), start=1):
        book.apply(bobs(id_), body)
        assert book.message(bobs(id_)).body == body
    assert book.message(bobs(1)).author == BOB
    assert book.message(bobs(1)).timer == 60


def test_a_reply_knows_the_message_it_answers(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "question"))
    book.say(Text(NOW, "answer", reply=Reply(bobs(1), "question")))
    question, answer = book.messages()
    assert answer.reply == Reply(bobs(1), "question")
    assert answer.reply_key == question.key


def test_someone_blocked_is_not_heard(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    book.apply(mine(1, 2), Settings(NOW, (Setting(BOB, "blocked", True),)))
    for id_, said in enumerate((Text(NOW, "no"), Delete(NOW, bobs(1)), Timer(NOW, 9)), start=2):
        assert book.apply(bobs(id_), said) == ([], False, False)
    assert book.texts() == ["hi"]
    assert book.store.history.blocked() == [BOB]


def test_a_stranger_asks_first_and_an_answer_accepts(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    assert [found.account for found in book.store.history.requests()] == [BOB]
    assert book.messages()[0].conversation.is_request
    book.say(Text(NOW, "hello"))
    assert not book.messages()[0].conversation.is_request
    assert book.store.history.requests() == []


def test_what_concerns_no_history_changes_none(book: Book) -> None:
    for id_, said in enumerate((Typing(NOW, True), Devices(NOW, 2)), start=1):
        assert book.apply(bobs(id_), said) == ([], False, True)
    assert book.messages() == []
    assert book.store.history.conversations() == []


# -- edits ---------------------------------------------------------------------------------


def test_only_its_author_edits_a_message(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "mine"))
    book.say(Text(NOW, "yours"))
    done = book.apply(bobs(2, device=2), Edit(NOW + 1, bobs(1), "mine!", (Mention(0, 4, ME),)))
    assert done.events == [MessageChanged(1, 1, What.EDITED, BOB)]
    assert done[1:] == (False, True)
    assert book.apply(bobs(3), Edit(NOW + 1, mine(1), "hacked")) == ([], False, False)
    with pytest.raises(Denied):
        book.say(Edit(NOW + 2, bobs(1), "hacked"))
    assert book.texts() == ["mine!", "yours"]
    message = book.message(bobs(1))
    assert message.edited_at == NOW + 1
    assert message.body == Text(NOW, "mine!", mentions=(Mention(0, 4, ME),))


def test_the_newest_edit_counts_whenever_it_comes(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "one"))
    book.apply(bobs(3), Edit(NOW + 20, bobs(1), "three"))
    assert book.apply(bobs(2), Edit(NOW + 10, bobs(1), "two")) == ([], False, True)
    assert book.texts() == ["three"]


def test_an_edit_of_ones_own_follows_what_was_said_before(book: Book) -> None:
    book.say(Text(NOW, "one"))
    book.say(Edit(NOW + 50, mine(1), "two"))
    later = book.say(Edit(NOW + 50, mine(1), "a last word"))
    assert later.at == NOW + 51
    assert book.texts() == ["a last word"]


@pytest.mark.parametrize("late", [limits.EDIT_MINUTES * MINUTE + 1, 90 * DAY])
def test_what_was_read_long_ago_is_not_edited(book: Book, late: int) -> None:
    book.apply(bobs(1), Text(NOW, "read"))
    book.say(Text(NOW, "sent"))
    assert not book.apply(bobs(2), Edit(NOW + late, bobs(1), "changed")).known
    with pytest.raises(TooLate):
        book.say(Edit(NOW + late, mine(1), "changed"))
    assert book.texts() == ["read", "sent"]


def test_a_clock_that_lies_does_not_edit_what_was_read_long_ago(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "read"))
    slack = (limits.EDIT_MINUTES * MINUTE) + limits.CHANGE_LATE_HOURS * HOUR
    assert not book.apply(bobs(2), Edit(NOW + 1, bobs(1), "no"), at=NOW + slack + 1).known
    assert book.apply(bobs(3), Edit(NOW + 1, bobs(1), "was offline"), at=NOW + slack).known
    assert book.texts() == ["was offline"]


def test_only_texts_are_edited_and_not_those_viewed_once(book: Book) -> None:
    book.apply(bobs(1), Poll(NOW, "when?", ("a", "b")))
    book.apply(bobs(2), Text(NOW, "secret", view_once=True))
    for id_ in (1, 2):
        assert not book.apply(bobs(5 + id_), Edit(NOW + 1, bobs(id_), "x")).known
    book.say(Poll(NOW, "when?", ("a", "b")))
    with pytest.raises(Malformed):
        book.say(Edit(NOW, mine(1), "x"))
    with pytest.raises(NotFound):
        book.say(Edit(NOW, mine(7), "x"))


# -- deletions -----------------------------------------------------------------------------


def test_a_deletion_leaves_only_that_there_was_a_message(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "regret", forwarded=1, mentions=(Mention(0, 1, ME),)))
    book.apply(bobs(2), Reaction(NOW, bobs(1), "👍"))
    book.say(Text(NOW, "why?", reply=Reply(bobs(1), "regret")))
    done = book.apply(bobs(3), Delete(NOW + 5, bobs(1)))
    assert done.events == [MessageChanged(1, 1, What.DELETED, BOB)]
    message, reply = book.messages()
    assert (message.text, message.body, message.reactions) == (None, None, ())
    assert (message.deleted_at, message.forwarded) == (NOW + 5, 0)
    assert reply.reply == Reply(bobs(1), "")


def test_only_its_author_deletes_a_message_and_not_for_ever(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "his"))
    book.say(Text(NOW, "mine"))
    late = NOW + limits.DELETE_HOURS * HOUR + 1
    assert not book.apply(bobs(2), Delete(NOW, mine(1))).known
    assert not book.apply(bobs(3), Delete(late, bobs(1))).known
    with pytest.raises(Denied):
        book.say(Delete(NOW, bobs(1)))
    with pytest.raises(TooLate):
        book.say(Delete(late, mine(1)))
    assert book.texts() == ["his", "mine"]
    book.say(Delete(late - 1, mine(1)))
    assert book.texts() == ["his", None]


def test_what_is_deleted_stays_so(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "gone"))
    book.apply(bobs(2), Delete(NOW, bobs(1)))
    book.apply(bobs(1), Text(NOW, "gone"))
    book.apply(bobs(3), Edit(NOW + 9, bobs(1), "back"))
    book.apply(bobs(4), Reaction(NOW + 9, bobs(1), "👍"))
    (message,) = book.messages()
    assert (message.text, message.edited_at, message.reactions) == (None, None, ())


def test_a_reply_to_what_is_deleted_repeats_nothing_of_it(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "gone"))
    book.apply(bobs(2), Delete(NOW, bobs(1)))
    book.apply(bobs(3), Text(NOW, "about that", reply=Reply(bobs(1), "gone")))
    assert book.message(bobs(3)).reply == Reply(bobs(1), "")


# -- reactions and votes -------------------------------------------------------------------


def test_each_person_has_one_reaction_and_may_take_it_back(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    book.apply(bobs(2), Reaction(NOW + 1, bobs(1), "👍"))
    book.apply(bobs(4, device=2), Reaction(NOW + 3, bobs(1), "🎉"))
    book.apply(bobs(3), Reaction(NOW + 2, bobs(1), "👎"))
    book.say(Reaction(NOW + 2, bobs(1), "👍"))
    found = book.message(bobs(1)).reactions
    assert [(account, emoji) for account, emoji, _ in found] == [(ME, "👍"), (BOB, "🎉")]
    book.say(Reaction(NOW + 2, bobs(1), ""))
    assert [each.account for each in book.message(bobs(1)).reactions] == [BOB]


def test_the_last_vote_counts(book: Book) -> None:
    book.say(Poll(NOW, "which?", ("a", "b", "c"), multiple=True))
    book.apply(bobs(2), Vote(NOW + 2, mine(1), (0, 2)))
    book.apply(bobs(1), Vote(NOW + 1, mine(1), (1,)))
    book.say(Vote(NOW, mine(1), (1,)))
    assert {vote.account: vote.choices for vote in book.messages()[0].votes} == {
        BOB: (0, 2),
        ME: (1,),
    }
    book.apply(bobs(3), Vote(NOW + 3, mine(1), ()))
    assert [vote.account for vote in book.messages()[0].votes] == [ME]


@pytest.mark.parametrize("choices", [(0, 1), (2,)])
def test_a_vote_that_the_poll_does_not_have_counts_not(book: Book, choices: tuple[int]) -> None:
    book.say(Poll(NOW, "which?", ("a", "b")))
    book.apply(bobs(1), Vote(NOW, mine(1), (1,)))
    assert not book.apply(bobs(2), Vote(NOW + 1, mine(1), choices)).known
    assert book.messages()[0].votes[0].choices == (1,)


def test_a_vote_in_what_is_no_poll_makes_no_sense(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    with pytest.raises(Malformed):
        book.say(Vote(NOW, bobs(1), (0,)))


# -- what comes too early --------------------------------------------------------------------


def test_what_refers_to_nothing_is_told_to_nobody_and_waits(book: Book) -> None:
    for id_, said in enumerate(
        (Edit(NOW + 1, bobs(9), "edited"), Reaction(NOW + 1, bobs(9), "👍")), start=1
    ):
        assert book.apply(bobs(id_), said) == ([], False, False)
    assert book.messages() == []
    arrived = book.apply(bobs(9), Text(NOW, "at last"))
    (event,) = arrived.events
    assert isinstance(event, MessageReceived)
    assert event.message.text == "edited"
    assert [each.emoji for each in event.message.reactions] == ["👍"]


def test_a_change_that_waits_has_no_more_rights(book: Book) -> None:
    book.apply(bobs(1), Edit(NOW, mine(9, device=2), "hacked"))
    book.apply(bobs(2), Delete(NOW, mine(9, device=2)))
    book.synced(mine(9, device=2), Text(NOW, "mine"))
    assert book.texts() == ["mine"]


def test_few_changes_wait_and_not_for_ever(book: Book) -> None:
    most = limits.PENDING_CHANGES
    for id_ in range(1, most + 3):
        book.apply(bobs(id_), Reaction(NOW + id_, bobs(5_000 + id_), "👍"))
    assert book.store._row("SELECT count(*) FROM pending") == (most,)
    book.apply(bobs(5_001), Text(NOW, "first"))
    book.apply(bobs(5_000 + most), Text(NOW, "last"))
    assert [len(message.reactions) for message in book.messages()] == [0, 1]
    book.expire(NOW + limits.PENDING_DAYS * DAY + 1)
    assert book.store._row("SELECT count(*) FROM pending") == (0,)


# -- timers and view once ----------------------------------------------------------------------


def test_either_sets_the_timer_and_the_later_one_counts(book: Book) -> None:
    done = book.apply(bobs(2), Timer(NOW + 2, 60))
    assert SettingChanged(1, "timer") in done.events
    assert not done.shown
    book.apply(bobs(1), Timer(NOW + 1, 3_600))
    assert book.messages()[0].conversation.timer == 60
    assert [type(message.body) for message in book.messages()] == [Timer, Timer]
    assert book.store.history.unread(1) == 0
    set_here = book.say(Timer(NOW, 0))
    assert set_here.at == NOW + 3
    assert book.messages()[0].conversation.timer == 0


def test_a_wrong_clock_does_not_hold_the_timer_for_ever(book: Book) -> None:
    book.apply(bobs(1), Timer(2**52, 60), at=NOW)
    ahead = limits.CLOCK_AHEAD_HOURS * HOUR
    book.apply(bobs(2), Timer(NOW + ahead + 1, 0), at=NOW + ahead + 1)
    assert book.messages()[0].conversation.timer == 0


def test_what_is_viewed_once_is_wiped_when_it_is_opened(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "look", view_once=True))
    message = book.message(bobs(1))
    assert (message.text, message.body, message.view_once) == (None, None, ViewOnce.CLOSED)
    with book.store.transaction():
        text, events = book.applier.open_once(message.key)
    assert text is not None
    assert text.text == "look"
    assert events == [MessageChanged(message.key, 1, What.OPENED, ME)]
    with book.store.transaction():
        assert book.applier.open_once(message.key) == (None, [])
    assert book.message(bobs(1)).view_once is ViewOnce.OPENED


def test_who_sends_what_is_viewed_once_does_not_keep_it(book: Book) -> None:
    book.say(Text(NOW, "look", view_once=True))
    book.synced(mine(3, device=2), Text(NOW, "look", view_once=True))
    here, elsewhere = book.messages()
    with book.store.transaction():
        assert book.applier.open_once(here.key) == (None, [])
        book.store.history.mark_outgoing(1, 1, 1, 1, 1, State.DELIVERED, NOW)
    assert book.store._rows("SELECT text, data FROM message") == [(None, None)] * 2
    assert [m.view_once for m in book.messages()] == [ViewOnce.OPENED] * 2
    assert elsewhere.view_once is ViewOnce.OPENED


# -- one's own other devices ---------------------------------------------------------------------


def test_what_another_own_device_sends_is_in_the_history(book: Book) -> None:
    done = book.synced(mine(1, device=2), Text(NOW, "from my phone"), at=NOW + 7)
    assert [type(event) for event in done.events] == [SettingChanged, SentElsewhere]
    assert not done.shown
    (message,) = book.messages()
    assert message.outgoing
    assert (message.state, message.at, message.author) == (State.SENT, NOW + 7, ME)
    assert message.conversation.accepted
    book.synced(mine(2, device=2), Edit(NOW + 1, mine(1, device=2), "edited on my phone"))
    assert book.texts() == ["edited on my phone"]


def test_only_own_devices_say_what_one_has_done(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    inner = content.encode(Text(NOW, "forged"))
    for id_, said in enumerate(
        (
            Sent(NOW, CAROL, mine(5, device=2), NOW, inner),
            Marks(NOW, (PeerMarks(BOB, [Mark(ONE, 1, [1, 1])]),)),
            Settings(NOW, (Setting(CAROL, "blocked", True),)),
            Erase(NOW, BOB, (bobs(1),)),
        ),
        start=2,
    ):
        assert book.apply(bobs(id_), said) == ([], False, False)
    assert book.apply(mine(9, device=2), Sent(NOW, CAROL, bobs(7), NOW, inner)).events == []
    assert book.texts() == ["hi"]
    assert book.store.history.unread(1) == 1
    assert book.store.history.blocked() == []


def test_marks_of_another_own_device_wait_for_the_message(book: Book) -> None:
    with book.store.transaction():
        here = book.store.history.open_conversation(BOB)
        history = book.store.history
        assert history.mark_outgoing(here.id, 2, 1, 1, 5, State.DELIVERED, NOW + 3) == []
    book.synced(mine(4, device=2), Text(NOW, "delivered before it came"))
    (message,) = book.messages()
    assert (message.state, message.delivered_at) == (State.DELIVERED, NOW + 3)


def test_what_was_read_elsewhere_is_read_here(book: Book) -> None:
    marks = Marks(NOW + 1, (PeerMarks(BOB, [Mark(ONE, 1, [1, 2])]),))
    book.now = NOW + 5
    book.apply(bobs(1), Text(NOW, "one"))
    assert book.apply(mine(1, 2), marks).events == [Read(1, 1, NOW + 1)]
    book.apply(bobs(2), Text(NOW, "two, late"))
    assert [message.read_at for message in book.messages()] == [NOW + 1] * 2
    assert book.store.history.unread(1) == 0


def test_the_peer_reads_what_was_sent(book: Book) -> None:
    book.say(Text(NOW, "hi"))
    book.now = NOW + 9
    done = book.apply(bobs(1), content.Read(NOW + 99, [Mark(ONE, 1, [1, 1])]))
    assert done.events == [Read(1, 1, NOW + 9)]
    assert book.messages()[0].state is State.READ


def test_what_is_erased_elsewhere_goes_here_and_does_not_come_back(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "one"))
    book.say(Text(NOW, "about it", reply=Reply(bobs(1), "one")))
    done = book.apply(mine(1, 2), Erase(NOW, BOB, (bobs(1), bobs(2))))
    assert done.events == [MessageGone(1, 1)]
    for id_ in (1, 2):
        assert book.apply(bobs(id_), Text(NOW, "one")) == ([], False, True)
    assert book.apply(bobs(3), Edit(NOW, bobs(1), "one!")) == ([], False, False)
    assert book.texts() == ["about it"]
    assert book.messages()[0].reply == Reply(bobs(1), "")
    assert book.store._row("SELECT count(*) FROM pending") == (0,)


def test_what_is_sent_again_is_the_message_it_was(book: Book) -> None:
    again = Resend(NOW, DeviceMessage(ONE, 1, MessageId(1)), content.encode(Text(NOW, "hi")))
    book.apply(bobs(5), Reaction(NOW, bobs(1), "👍"))
    assert book.apply(bobs(7), again).shown
    assert not book.apply(bobs(8), again).shown
    assert not book.apply(bobs(1), Text(NOW, "hi")).shown
    (message,) = book.messages()
    assert message.name == bobs(1)
    assert len(message.reactions) == 1


def test_what_is_said_of_a_message_sent_again_is_of_it(book: Book) -> None:
    book.synced(mine(1, device=2), Text(NOW, "hi"))
    inner = content.encode(Text(NOW, "hi"))
    book.synced(mine(7, device=2), Resend(NOW, DeviceMessage(DeviceId(2), 1, MessageId(1)), inner))
    with book.store.transaction():
        keys = book.store.history.mark_outgoing(1, 2, 1, 7, 7, State.DELIVERED, NOW)
    assert keys == [1]
    assert book.messages()[0].state is State.DELIVERED


def test_nothing_is_wrapped_twice(book: Book) -> None:
    inner = content.encode(Resend(NOW, DeviceMessage(ONE, 1, MessageId(1)), b"x"))
    sent = content.encode(Sent(NOW, BOB, mine(1, 2), NOW, inner))
    with pytest.raises(Malformed):
        book.apply(bobs(1), Resend(NOW, DeviceMessage(ONE, 1, MessageId(1)), inner))
    with pytest.raises(Malformed):
        book.apply(mine(1, 2), Sent(NOW, BOB, mine(1, 2), NOW, sent))


def test_a_profile_is_what_someone_calls_themselves(book: Book) -> None:
    assert not book.apply(bobs(1), Profile(NOW, "Bob")).known
    book.apply(bobs(2), Text(NOW, "hi"))
    book.apply(bobs(3), Profile(NOW, "Bob"))
    assert book.messages()[0].conversation.title == "~Bob"
    book.apply(mine(1, 2), Settings(NOW, (Setting(BOB, "profile", "Eve"),)))
    assert book.messages()[0].conversation.profile == "Bob"
