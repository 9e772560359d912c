"""Search: parts of words, whatever their case and accents, and nothing that is gone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.client.search import Query, folded
from raychat.ids import PhoneNumber
from raychat.wire.content import Contact, Delete, Edit, Erase, Kind, Location, Poll, Text
from tests.client.histories import BOB, ME, NOW, Book, bobs, mine


def found(book: Book, text: str = "", **filters: object) -> list[str | None]:
    query = Query(text)._replace(**filters)
    return [message.text for message in book.store.search.find(query, book.now)]


@pytest.fixture
def filled(book: Book) -> Book:
    book.apply(bobs(1), Text(NOW, "The quick brown fox"))
    book.say(Text(NOW + 10, "jumps over the lazy dog"))
    book.apply(bobs(2), Text(NOW + 20, "Café au lait, s'il vous plaît"))
    book.apply(bobs(3), Text(NOW + 30, "Привет, МИР"))
    return book


@pytest.mark.parametrize(
    ("looked_for", "text"),
    [
        ("quick", "The quick brown fox"),
        ("uic", "The quick brown fox"),
        ("FOX brown", "The quick brown fox"),
        ("cafe", "Café au lait, s'il vous plaît"),
        ("CAFÉ", "Café au lait, s'il vous plaît"),
        ("plait", "Café au lait, s'il vous plaît"),
        ("мир", "Привет, МИР"),
        ("s'il", "Café au lait, s'il vous plaît"),
        ("fo", "The quick brown fox"),
        ("É", "Café au lait, s'il vous plaît"),
        ("qu br own", "The quick brown fox"),
    ],
)
def test_a_part_of_a_word_is_enough(filled: Book, looked_for: str, text: str) -> None:
    assert text in found(filled, looked_for)


@pytest.mark.parametrize(
    "looked_for",
    ["quick dog", "cat", "xz", '"', '""', "OR", "NOT the", "*", "the*", "text:fox", "(("],
)
def test_all_words_must_be_there_and_none_is_a_command(filled: Book, looked_for: str) -> None:
    assert found(filled, looked_for) == []


def test_the_latest_come_first_page_by_page(book: Book) -> None:
    for id_ in range(1, 8):
        book.apply(bobs(id_), Text(NOW, f"message {id_}"))
    first = book.store.search.find(Query("message"), NOW, limit=3)
    assert [message.text for message in first] == ["message 7", "message 6", "message 5"]
    after = Query("message", before=first[-1].key)
    assert [m.text for m in book.store.search.find(after, NOW, limit=2)] == [
        "message 4",
        "message 3",
    ]


def test_it_can_be_narrowed_by_sender_date_kind_and_conversation(filled: Book) -> None:
    filled.apply(bobs(4), Poll(NOW + 40, "Which fox?", ("red", "arctic")))
    assert found(filled, "the", sender=ME) == ["jumps over the lazy dog"]
    assert found(filled, "fox", kinds=(Kind.POLL,)) == ["Which fox?\nred\narctic"]
    assert found(filled, "", since=NOW + 10, until=NOW + 20) == [
        "Café au lait, s'il vous plaît",
        "jumps over the lazy dog",
    ]
    assert found(filled, "fox", conversation=2) == []
    assert len(found(filled, "fox", conversation=1, sender=BOB)) == 2


def test_every_kind_is_found_by_its_words(book: Book) -> None:
    book.apply(bobs(1), Contact(NOW, "Carol Smith", (PhoneNumber("+15550003333"),)))
    book.apply(bobs(2), Location(NOW, 1.0, 2.0, 0.0, "Alexanderplatz"))
    book.apply(bobs(3), Poll(NOW, "Dinner when?", ("Friday", "Saturday")))
    for words in ("smith", "0003333", "xanderpl", "saturday"):
        assert len(found(book, words)) == 1


def test_what_is_edited_is_found_by_its_new_words_only(filled: Book) -> None:
    filled.apply(bobs(9), Edit(NOW + 1, bobs(1), "a slow fox"))
    assert found(filled, "quick") == []
    assert found(filled, "slow") == ["a slow fox"]


def test_what_is_viewed_once_is_never_found(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "a secret", view_once=True))
    book.say(Text(NOW, "a secret", view_once=True))
    for words in ("secret", "ec"):
        assert found(book, words) == []


def test_so_many_words_are_looked_for_and_no_more(filled: Book) -> None:
    assert found(filled, "fox " * limits.SEARCH_WORDS + "nothing") == ["The quick brown fox"]


letters = st.text("aàbB é'\"*-\0", min_size=1, max_size=8)
fates = st.sampled_from(["kept", "edited", "deleted", "erased", "expired"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(letters, letters, fates), max_size=6), letters)
def test_the_index_finds_what_a_look_at_every_message_does(
    messages: list[tuple[str, str, str]], looked_for: str
) -> None:
    book = Book()
    kept = []
    for id_, (text, edited, fate) in enumerate(messages, start=1):
        expires = 60 if fate == "expired" else None
        book.apply(bobs(id_), Text(NOW, text, expires=expires))
        if fate == "kept":
            kept.append(text)
        elif fate == "edited":
            book.apply(bobs(100 + id_), Edit(NOW, bobs(id_), edited))
            kept.append(edited)
        elif fate == "deleted":
            book.apply(bobs(100 + id_), Delete(NOW, bobs(id_)))
        elif fate == "erased":
            book.apply(mine(id_, 2), Erase(NOW, BOB, (bobs(id_),)))
    with book.store.transaction():
        book.store.history.mark_incoming_read(1, None, NOW)
    book.now = NOW + 60_000
    wanted = looked_for.replace("\0", " ").split()
    expected = [text for text in kept[::-1] if all(folded(word) in folded(text) for word in wanted)]
    assert found(book, looked_for) == expected
    book.expire(book.now)
    assert found(book, looked_for) == expected
    book.close()
