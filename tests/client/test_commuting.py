"""Whatever order things arrive in, and however often, the history comes to the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.wire.content import (
    Content,
    Delete,
    Edit,
    Erase,
    Mark,
    Marks,
    MessageName,
    PeerMarks,
    Poll,
    Reaction,
    Reply,
    Setting,
    Settings,
    Text,
    Timer,
    Vote,
)
from tests.client.histories import BOB, ME, MINUTE, NOW, Book, bobs, mine

Said = tuple[MessageName, Content]

targets = st.builds(
    lambda own, id_, device: mine(id_, device + 1) if own else bobs(id_, device),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 2),
)
# Close to each other and to the limits, so that ties and late ones happen.
moments = st.sampled_from([NOW + n for n in (0, 1, 2)] + [NOW + 15 * MINUTE, NOW + 16 * MINUTE])
words = st.sampled_from(["alpha", "beta", "gamma delta"])


@st.composite
def bodies(draw: st.DrawFn) -> Content:
    """What the message of a name is, in one example always the same."""
    reply = draw(st.none() | st.builds(Reply, targets, words))
    expires = draw(st.sampled_from([None, 60]))
    if draw(st.booleans()):
        multiple = draw(st.booleans())
        return Poll(NOW, draw(words), ("a", "b", "c"), multiple, reply=reply, expires=expires)
    once = draw(st.integers(0, 4)) == 0
    return Text(NOW, draw(words), reply=reply, expires=expires, view_once=once)


changes = st.one_of(
    st.builds(Edit, moments, targets, words, st.just(()), st.none()),
    st.builds(Reaction, moments, targets, st.sampled_from(["", "👍", "👎"])),
    st.builds(Vote, moments, targets, st.sampled_from([(), (0,), (1,), (0, 2), (5,)])),
    st.builds(Delete, moments, targets),
    st.builds(Timer, moments, st.sampled_from([0, 60, 3_600])),
)
read = st.builds(
    lambda at, device, lo, more: Marks(at, (PeerMarks(BOB, [Mark(device, 1, [lo, lo + more])]),)),
    moments,
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(0, 2),
)
choices = st.builds(
    lambda at, name, value: Settings(at, (Setting(BOB, name, value),)),
    moments,
    st.sampled_from(["archived", "accepted"]),
    st.booleans(),
)
erasures = st.builds(lambda at, target: Erase(at, BOB, (target,)), moments, targets)


@st.composite
def stories(draw: st.DrawFn) -> list[Said]:
    """What two people say to each other, from two devices each; changes also of what never is."""
    names = draw(st.sets(targets, max_size=5).map(sorted))
    said: list[Said] = [(name, draw(bodies())) for name in names]
    for id_, change in enumerate(draw(st.lists(changes, max_size=8)), start=10):
        said.append((draw(st.sampled_from([bobs(id_), mine(id_, 2)])), change))
    for id_, sync in enumerate(draw(st.lists(read | choices | erasures, max_size=4)), start=700):
        said.append((mine(id_, 2), sync))
    return said


def facts(book: Book) -> Any:
    """All that a person sees of the history, in no order."""
    messages = {
        message.name: (
            message.text,
            message.body,
            message.edited_at,
            message.deleted_at is not None,
            message.view_once,
            message.reply_key is None,
            message.reactions,
            message.votes,
            message.state,
            message.read_at,
            message.expires_at,
        )
        for message in book.messages()
    }
    here = book.store.history.conversation_with(BOB)
    assert here is None or here.id == 1
    index = book.store._rows("SELECT text FROM message_text ORDER BY text")
    waiting = book.store._rows("SELECT account, device, id, author, content FROM pending")
    gone = book.store._rows("SELECT account, device, incarnation, id FROM gone")
    return messages, here, index, sorted(waiting), gone


def told(story: list[Said]) -> Any:
    book = Book()
    book.now = NOW + 60 * MINUTE
    for name, said in story:
        if name.account == ME and not isinstance(said, Marks | Settings | Erase):
            book.synced(name, said)
        else:
            book.apply(name, said)
    book.store._db.execute(
        "INSERT INTO message_text (message_text, rank) VALUES ('integrity-check', 1)"
    )
    found = facts(book)
    book.close()
    return found


@settings(max_examples=120, deadline=None)
@given(stories(), st.data())
def test_any_order_and_repetition_comes_to_the_same(story: list[Said], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(story))
    again = data.draw(st.lists(st.sampled_from(story), max_size=4)) if story else []
    places = [data.draw(st.integers(0, len(shuffled))) for _ in again]
    repeated = list(shuffled)
    for place, said in zip(places, again, strict=True):
        repeated.insert(place, said)
    assert told(story) == told(shuffled) == told(repeated)
