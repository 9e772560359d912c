"""What is settled about conversations: the later setting counts, on every device."""

from __future__ import annotations

import pytest

from raychat.client.contacts import OWN, Made
from raychat.client.events import SettingChanged
from raychat.ids import AccountId, PhoneNumber
from raychat.wire.content import Setting, Settings, Text
from tests.client.histories import BOB, ME, NOW, Book, bobs, mine

CAROL = AccountId(b"c" * 16)
DAVE = AccountId(b"d" * 16)
NUMBER = PhoneNumber("+15550002222")


def put(book: Book, name: str, value: object, at: int = NOW, conversation: int = 1) -> bool:
    with book.store.transaction():
        return book.store.history.put_setting(conversation, name, Made(at, ME, value))


def test_each_setting_is_on_its_conversation(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    settings = (
        Setting(BOB, "accepted", True),
        Setting(BOB, "archived", True),
        Setting(BOB, "muted", NOW + 1),
        Setting(BOB, "pinned", 2),
        Setting(BOB, "name", "Bobby"),
        Setting(BOB, "verified", b"key"),
        Setting(None, "read_receipts", False),
    )
    done = book.apply(mine(1, 2), Settings(NOW, settings))
    assert done.events == [
        *(SettingChanged(1, setting.name) for setting in settings[:-1]),
        SettingChanged(None, "read_receipts"),
    ]
    (here,) = book.store.history.conversations()
    assert (here.title, here.accepted, here.archived, here.muted, here.pinned, here.verified) == (
        "Bobby",
        True,
        True,
        NOW + 1,
        2,
        b"key",
    )
    own = book.store.history.setting(OWN, "read_receipts")
    assert own is not None
    assert own.value == 0
    assert len(book.store.history.settings()) == len(settings)


def test_the_later_setting_counts_whenever_it_comes(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    assert put(book, "archived", True, NOW + 2)
    assert not put(book, "archived", False, NOW + 1)
    assert not put(book, "archived", True, NOW + 2)
    assert book.messages()[0].conversation.archived


def test_a_setting_of_ones_own_follows_what_it_replaces(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    put(book, "blocked", True, NOW + 50)
    with book.store.transaction():
        own = book.store.history.open_conversation(ME)
        done = book.applier.compose(own.id, Settings(NOW, (Setting(BOB, "blocked", False),)), NOW)
    assert done.content == Settings(NOW + 51, (Setting(BOB, "blocked", False),))
    assert done.events == [SettingChanged(1, "blocked")]
    assert book.store.history.blocked() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mood", True),
        ("muted", "long"),
        ("muted", True),
        ("name", b"x"),
        ("blocked", 2),
        ("id", 5),
        ("account", b"x" * 16),
    ],
)
def test_what_is_no_setting_is_ignored(book: Book, name: str, value: object) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    before = book.store.history.conversations()
    assert not put(book, name, value)
    assert book.store.history.conversations() == before


def test_contacts_are_those_with_a_name_or_accepted(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    book.apply(bobs(1), Text(NOW, "hi"), peer=CAROL)
    assert book.store.history.contacts() == []
    assert len(book.store.history.requests()) == 2
    put(book, "name", "Zoe", conversation=1)
    put(book, "accepted", True, conversation=2)
    book.store.history.number_belongs(NUMBER, CAROL)
    assert [contact.title for contact in book.store.history.contacts()] == [NUMBER, "Zoe"]
    put(book, "name", "", NOW + 1, conversation=1)
    assert [contact.title for contact in book.store.history.contacts()] == [NUMBER]


def test_pinned_conversations_come_first(book: Book) -> None:
    for account in (BOB, CAROL, DAVE):
        with book.store.transaction():
            book.store.history.open_conversation(account)
    put(book, "pinned", 1, conversation=3)
    put(book, "pinned", 2, conversation=2)
    assert [here.id for here in book.store.history.conversations()] == [3, 2, 1]


def test_settings_move_with_a_conversation_that_gets_its_account(book: Book) -> None:
    with book.store.transaction():
        by_number = book.store.history.open_conversation(NUMBER)
        by_account = book.store.history.open_conversation(BOB)
    put(book, "name", "Bobby", NOW + 5, by_number.id)
    put(book, "archived", True, NOW + 5, by_number.id)
    put(book, "archived", False, NOW + 9, by_account.id)
    with book.store.transaction():
        kept = book.store.history.number_belongs(NUMBER, BOB)
    assert (kept.id, kept.name, kept.archived) == (by_account.id, "Bobby", False)
    assert {conversation for conversation, *_ in book.store.history.settings()} == {kept.id}


def test_notes_to_oneself_are_a_conversation_once_there_are_any(book: Book) -> None:
    with book.store.transaction():
        own = book.store.history.open_conversation(ME)
    assert book.store.history.conversations() == []
    book.apply(mine(1, 2), Text(NOW, "note"))
    assert [here.id for here in book.store.history.conversations()] == [own.id]
    assert book.messages()[0].outgoing
