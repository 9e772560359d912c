"""Export: all of the history, in order, and nothing that is gone."""

from __future__ import annotations

import json

import pytest

from raychat.client import export
from raychat.ids import AccountId
from raychat.wire.content import Delete, Reaction, Text
from tests.client.histories import NOW, Book, bobs

CAROL = AccountId(b"c" * 16)


def test_every_message_is_one_line_of_json(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE", 3)
    for id_ in range(1, 9):
        book.apply(bobs(id_), Text(NOW, f"line\n{id_}"))
    book.apply(bobs(20), Reaction(NOW, bobs(2), "👍"))
    lines = list(export.json_lines(book.store.history, None, NOW))
    read = [json.loads(line) for line in lines]
    assert [message["text"] for message in read] == [f"line\n{id_}" for id_ in range(1, 9)]
    assert read[1]["reactions"][0]["emoji"] == "👍"
    assert all(line.count("\n") == 1 for line in lines)


def test_text_has_full_dates_and_names_several_conversations(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "hi"))
    book.apply(bobs(1), Text(NOW, "hello"), peer=CAROL)
    (one,) = export.text_lines(book.store.history, 1, NOW)
    assert one.startswith("2023-11-1")
    assert one.endswith(": hi\n")
    both = list(export.text_lines(book.store.history, None, NOW))
    assert [line[0] for line in both] == ["[", "["]


def test_what_is_gone_is_not_exported(book: Book) -> None:
    book.apply(bobs(1), Text(NOW, "regret"))
    book.apply(bobs(2), Delete(NOW, bobs(1)))
    book.apply(bobs(3), Text(NOW, "soon", expires=60))
    book.apply(bobs(4), Text(NOW, "secret", view_once=True))
    with book.store.transaction():
        book.store.history.mark_incoming_read(1, None, NOW)
    now = NOW + 60_000
    whole = "".join(
        [
            *export.json_lines(book.store.history, 1, now),
            *export.text_lines(book.store.history, 1, now),
        ]
    )
    assert not any(words in whole for words in ("regret", "soon", "secret"))
    assert "deleted" in whole
