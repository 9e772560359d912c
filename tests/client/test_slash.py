"""What lines with a slash do in the chat."""

from __future__ import annotations

import pytest

from raychat.client.client import Client
from raychat.client.model import State
from raychat.client.slash import USAGES, Slash, is_slash, numbered, seconds_of, unescaped
from raychat.errors import BadRequest, Denied, Malformed, NotFound, TooLarge
from tests.client.conftest import ALICE, BOB, until


async def exchange(alice: Client, bob: Client) -> None:
    """Two messages of alice's and one of bob's, seen by both."""
    for text in ("one", "two"):
        await (await alice.send(BOB, text)).sent(10)
    await until(lambda: len(bob.history()) == 2)
    await (await bob.send(ALICE, "three")).sent(10)
    await until(lambda: len(alice.history()) == 3)


async def test_messages_are_answered_edited_deleted_and_reacted_to(
    clients: tuple[Client, Client],
) -> None:
    alice, bob = clients
    await exchange(alice, bob)
    slash = Slash(alice, BOB)
    assert [m.text for m in slash.messages()] == ["three", "two", "one"]

    assert await slash.run("/reply to three") == []
    await until(lambda: bob.history()[-1].text == "to three")
    answered = bob.history()[-1].reply
    assert answered is not None
    assert answered.snippet == "three"
    await slash.run("/reply #4 to one")
    await until(lambda: bob.history()[-1].text == "to one")
    await alice.wait(alice.history()[-1], State.SENT, 10)

    await slash.run("/edit to the one")
    await until(lambda: bob.history()[-1].text == "to the one")
    await slash.run("/react 👍")
    await until(lambda: [r.emoji for r in bob.history()[2].reactions] == ["👍"])
    await slash.run("/react -")
    await until(lambda: not bob.history()[2].reactions)
    await slash.run("/delete #5")
    await until(lambda: bob.history()[0].deleted_at is not None)
    await slash.run("/delete")
    await until(lambda: bob.history()[-1].deleted_at is not None)

    with pytest.raises(Denied):
        await slash.run("/edit #3 not mine")
    with pytest.raises(NotFound):
        await slash.run("/delete #99")
    with pytest.raises(BadRequest):
        await slash.run("/react")


async def test_polls_are_made_and_voted_on(clients: tuple[Client, Client]) -> None:
    alice, bob = clients
    await Slash(alice, BOB).run("/poll Where? | here | there")
    await until(lambda: len(bob.history()) == 1)
    voter = Slash(bob, alice.account)
    await voter.run("/vote 2")
    await until(lambda: [v.choices for v in alice.history()[0].votes] == [(1,)])
    for line in ("/poll", "/poll Where? | here", "/poll Where? | here | "):
        with pytest.raises(BadRequest):
            await voter.run(line)
    with pytest.raises(BadRequest):
        await voter.run("/vote here")
    with pytest.raises(Malformed):
        await voter.run("/vote 7")


async def test_a_message_is_viewed_once(clients: tuple[Client, Client]) -> None:
    alice, bob = clients
    await Slash(alice, BOB).run("/once the code is 7")
    await until(lambda: len(bob.history()) == 1)
    reader = Slash(bob, alice.account)
    assert await reader.run("/open") == ["It says (once): the code is 7"]
    with pytest.raises(NotFound):
        await reader.run("/open")
    with pytest.raises(NotFound):
        await reader.run("/open #1")


async def test_the_timer_is_set_and_shown(clients: tuple[Client, Client]) -> None:
    alice, _ = clients
    slash = Slash(alice, BOB)
    assert await slash.run("/timer") == ["New messages stay."]
    await slash.run("/timer 1d")
    assert await slash.run("/timer") == ["New messages disappear after 1 day."]
    await slash.run("/timer off")
    assert await slash.run("/timer") == ["New messages stay."]


async def test_a_person_is_accepted_blocked_and_verified(clients: tuple[Client, Client]) -> None:
    alice, bob = clients
    with pytest.raises(NotFound):
        await Slash(bob, "+15559999999").run("/accept")
    slash = Slash(bob, alice.account)
    await exchange(alice, bob)
    here = bob.conversation(ALICE)
    assert here is not None
    await slash.run("/block")
    assert bob.conversation(ALICE).blocked  # type: ignore[union-attr]
    await slash.run("/unblock")
    await slash.run("/accept")
    now = bob.conversation(ALICE)
    assert now is not None
    assert (now.blocked, now.accepted) == (False, True)

    number = alice.safety_number(BOB)
    said = "\n".join(await slash.run("/verify"))
    assert all(group in said for group in number.groups)
    assert "Not compared" in said
    assert "are the same" in "".join(await slash.run("/verify yes"))
    assert bob.is_verified(ALICE)
    assert "Not compared" in "".join(await slash.run("/verify no"))
    await slash.run(f"/verify {' '.join(number.groups)}")
    assert bob.is_verified(ALICE)
    assert "NOT the same" in "".join(await slash.run(f"/verify {'1' * 60}"))
    assert not bob.is_verified(ALICE)


async def test_help_names_all_and_what_is_unknown_is_said(clients: tuple[Client, Client]) -> None:
    slash = Slash(clients[0], BOB)
    said = await slash.run("/help")
    assert len(said) == len(USAGES)
    assert all(f"/{name}" in line for name, line in zip(USAGES, said, strict=True))
    assert set(slash._run) == set(USAGES)
    with pytest.raises(BadRequest, match="/help"):
        await slash.run("/sing")
    with pytest.raises(NotFound):
        await slash.run("/edit x")
    with pytest.raises(TooLarge):
        await slash.run("/once " + "x" * 40_000)


def test_two_slashes_begin_a_message() -> None:
    assert is_slash("/help")
    assert not is_slash("//etc")
    assert not is_slash("a /help")
    assert unescaped("//etc/hosts") == "/etc/hosts"
    assert unescaped("hello") == "hello"


def test_times_are_written_with_their_unit() -> None:
    written = {"30s": 30, "5 m": 300, "1h": 3_600, "2d": 172_800, "1W": 604_800, "off": 0, "0": 0}
    assert {text: seconds_of(text) for text in written} == written
    for text in ("", "5", "m", "-1h", "1y", "1.5h"):
        with pytest.raises(BadRequest):
            seconds_of(text)


def test_no_message_has_no_number() -> None:
    assert numbered([]) == {}
