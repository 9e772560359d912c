"""What disappears: when its time begins, when it ends, and that nothing is left in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raychat.client.events import MessageGone
from raychat.client.expiry import SWEPT
from raychat.client.model import State
from raychat.client.recent import Recent
from raychat.client.search import Query
from raychat.ids import AccountId, DeviceId
from raychat.wire.content import (
    Delete,
    DeviceMessage,
    Edit,
    Erase,
    Mark,
    Marks,
    PeerMarks,
    Poll,
    Reaction,
    Reply,
    Resend,
    Sent,
    Text,
    Vote,
    encode,
)
from tests.client.histories import BOB, DAY, ME, NOW, Book, bobs, mine

CAROL = AccountId(b"c" * 16)
ONE = DeviceId(1)


def read(book: Book, at: int) -> None:
    with book.store.transaction():
        book.store.history.mark_incoming_read(1, None, at)


def test_the_time_of_what_was_received_begins_when_it_is_read(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "soon gone", expires=60))
    assert book.expire(NOW + 9 * DAY) is None
    read(book, NOW + 9 * DAY)
    assert book.message(bobs(1)).expires_at == NOW + 9 * DAY + 60_000
    assert book.expire(NOW + 9 * DAY) == NOW + 9 * DAY + 60_000
    assert book.expire(NOW + 9 * DAY + 59_999) is not None
    assert book.expire(NOW + 9 * DAY + 60_000) is None
    assert book.messages() == []


def test_the_time_of_what_was_sent_begins_when_the_server_has_it(book: Book) -> None:
    with book.store.transaction():
        here = book.store.history.open_conversation(BOB)
        key = book.applier.compose(here.id, Text(NOW, "soon gone", expires=60), NOW).key
        book.store._db.execute(
            "UPDATE message SET device = 1, incarnation = 1, id = 1 WHERE key = ?", (key,)
        )
    assert book.expire(NOW + DAY) is None
    with book.store.transaction():
        book.store.history.mark_outgoing(here.id, 1, 1, 1, 1, State.SENT, NOW + DAY)
    assert book.expire(NOW + DAY) == NOW + DAY + 60_000


def test_what_another_own_device_has_sent_goes_with_it(book: Book) -> None:
    book.synced(mine(1, device=2), Text(NOW, "soon gone", expires=60), at=NOW + 5)
    assert book.messages()[0].expires_at == NOW + 60_005


def test_the_first_own_device_that_reads_it_begins_its_time(book: Book) -> None:
    marks = PeerMarks(BOB, [Mark(ONE, 1, [1, 1])])
    book.now = NOW + 1_000
    book.apply(bobs(1), Text(NOW, "soon gone", expires=60))
    read(book, NOW + 900)
    book.apply(mine(1, 2), Marks(NOW + 500, (marks,)))
    book.apply(mine(2, 2), Marks(NOW + 800, (marks,)))
    assert book.messages()[0].expires_at == NOW + 60_500


def test_nothing_of_it_comes_back_or_is_shown_meanwhile(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "soon gone", expires=60))
    read(book, NOW)
    book.now = NOW + 60_000
    assert book.messages() == []  # though nobody has removed it yet
    assert book.store.search.find(Query("gone"), book.now) == []
    with book.store.transaction():
        events, _ = book.applier.expire(book.now)
    assert events == [MessageGone(1, 1)]
    assert not book.apply(bobs(1), Text(NOW, "soon gone", expires=60)).shown
    assert book.store._row("SELECT count(*) FROM message") == (0,)


def test_what_is_still_to_be_sent_does_not_go(book: Book) -> None:
    book.say(Text(NOW, "soon gone", expires=60))
    with book.store.transaction():
        book.store.outbox.owe(1, b"x", 1)
    assert book.expire(NOW + DAY) is None
    assert book.store._row("SELECT count(*) FROM message") == (1,)


def test_many_go_in_several_steps(book: Book) -> None:
    with book.store.transaction():
        for id_ in range(1, SWEPT + 3):
            book.applier.apply(bobs(id_), BOB, False, Text(NOW, "x", expires=1), NOW, NOW)
        book.store.history.mark_incoming_read(1, None, NOW)
    assert book.expire(NOW + 1_000) is not None
    assert book.expire(NOW + 1_000) is None


def test_its_reactions_votes_and_quotations_go_with_it(book: Book) -> None:
    book.apply(bobs(1), Poll(NOW, "when?", ("a", "b"), expires=60))
    book.apply(bobs(2), Reaction(NOW, bobs(1), "👍"))
    book.apply(bobs(3), Vote(NOW, bobs(1), (1,)))
    book.apply(bobs(4), Text(NOW, "why?", reply=Reply(bobs(1), "when?")))
    read(book, NOW)
    book.expire(NOW + 60_000)
    (reply,) = book.messages()
    assert reply.reply == Reply(bobs(1), "")
    assert reply.reply_key is None
    for table in ("reaction", "vote"):
        assert book.store._row(f"SELECT count(*) FROM {table}") == (0,)


@pytest.mark.parametrize("going", ["deleted", "erased", "expired"])
def test_it_is_not_kept_to_be_sent_once_more_either(book: Book, going: str) -> None:
    recent = Recent(book.store.connection)
    first, other = Text(NOW, "soon gone", expires=60), Text(NOW, "stays")
    edit = Edit(NOW + 1, mine(1), "soon gone!")
    sent = [
        (BOB, 1, first),
        (BOB, 2, edit),
        (BOB, 3, Resend(NOW, DeviceMessage(*mine(1)[1:]), encode(first))),
        (BOB, 4, other),
        (ME, 1, Sent(NOW, BOB, mine(1), NOW, encode(first))),
        (ME, 2, Sent(NOW, BOB, mine(2), NOW, encode(edit))),
        (ME, 3, Sent(NOW, BOB, mine(4), NOW, encode(other))),
        (CAROL, 1, other),
    ]
    book.say(first)
    book.say(edit)
    with book.store.transaction():
        for account, id_, said in sent:
            recent.keep((account, 1, id_), encode(said), b"key", [], NOW)
    if going == "deleted":
        book.say(Delete(NOW + 2, mine(1)))
    elif going == "erased":
        book.apply(mine(9, 2), Erase(NOW, BOB, (mine(1),)))
    else:
        book.expire(NOW + 60_000)
    kept = [name for account, id_, _ in sent if recent.find(name := (account, 1, id_))]
    assert kept == [(BOB, 1, 4), (ME, 1, 3), (CAROL, 1, 1)]


def by_deletion(book: Book) -> None:
    book.apply(bobs(9), Delete(NOW, bobs(1)))


def by_erasure(book: Book) -> None:
    book.apply(mine(9, 2), Erase(NOW, BOB, (bobs(1),)))


def by_time(book: Book) -> None:
    read(book, NOW)
    book.expire(NOW + 60_000)


def by_opening(book: Book) -> None:
    with book.store.transaction():
        book.applier.open_once(1)


@pytest.mark.parametrize("going", [by_deletion, by_erasure, by_time, by_opening])
def test_nothing_is_left_of_it_in_the_file(tmp_path: Path, going: Callable[[Book], None]) -> None:
    """The same tables without encryption, to look for the words in their bytes."""
    book = Book(tmp_path / "device.db")
    once = going is by_opening
    for id_ in range(2, 60):
        book.apply(bobs(id_ + 100), Text(NOW, f"filler words number {id_}"))
    book.apply(bobs(1), Text(NOW, "zebrafish XYLOPHONE", expires=60, view_once=once))
    if not once:
        book.apply(bobs(2), Edit(NOW, bobs(1), "zebrafish XYLOPHONE quagga"))
    book.apply(bobs(3), Text(NOW, "what?", reply=Reply(bobs(1), "XYLOPHONE")))

    def shown() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir()).lower()

    key = book.message(bobs(1)).key
    assert b"xylophone" in shown()
    if once:
        with book.store.transaction():
            book.applier.open_once(key)
            book.store._db.execute("UPDATE message SET reply_text = NULL")
    else:
        going(book)
    book.store.scrub()
    # The index has one entry for each three letters.
    assert (
        book.store._rows("SELECT rowid FROM message_text WHERE message_text MATCH ?", '"xyl"') == []
    )
    left = shown()
    for words in (b"zebrafish", b"xylophone", b"quagga", b"xyl", b"ebraf"):
        assert words not in left
    assert b"filler words" in left
    book.close()
