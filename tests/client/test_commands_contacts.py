"""`contacts` and what can be settled about one."""

from __future__ import annotations

from tests.client.service import CODE, Service
from tests.client.shell import Shell

ALICE, BOB = "+15550001111", "+15550002222"
FIELDS = {
    "account",
    "number",
    "name",
    "profile",
    "accepted",
    "blocked",
    "request",
    "muted",
    "archived",
    "pinned",
    "timer",
    "verified",
    "unread",
}


async def test_a_stranger_is_a_request_until_accepted(talking: Shell) -> None:
    mine = ("--profile", "bob")
    assert await talking.objects("contacts", *mine) == []
    (request,) = await talking.objects("contacts", "--requests", *mine)
    assert set(request) == FIELDS
    assert (request["number"], request["request"], request["accepted"]) == (ALICE, True, False)
    assert "request" in await talking.done("contacts", "--requests", *mine)
    accepted = await talking.object("contacts", "accept", ALICE, *mine)
    assert (accepted["request"], accepted["accepted"]) == (False, True)
    assert await talking.objects("contacts", "--requests", *mine) == []
    assert [each["number"] for each in await talking.objects("contacts", *mine)] == [ALICE]


async def test_a_blocked_person_is_not_heard_and_the_server_is_told(
    talking: Shell, service: Service
) -> None:
    mine = ("--profile", "bob")
    blocked = await talking.object("contacts", "block", ALICE, *mine)
    assert blocked["blocked"]
    bob = next(user for user in service.model.users.values() if user.number == BOB)
    assert len(bob.blocked) == 1
    assert await talking.objects("contacts", *mine) == []
    assert len(await talking.objects("contacts", "--blocked", *mine)) == 1
    assert "blocked" in await talking.done("contacts", "--blocked", *mine)
    freed = await talking.object("contacts", "unblock", ALICE, *mine)
    assert not freed["blocked"]
    assert bob.blocked == frozenset()


async def test_names_and_the_rest_are_settled(talking: Shell) -> None:
    mine = ("--profile", "bob")

    async def settle(*words: str) -> dict[str, object]:
        return await talking.object("contacts", words[0], ALICE, *words[1:], *mine)

    assert (await settle("name", "Alice", "A."))["name"] == "Alice A."
    muted = (await settle("mute", "--hours", "2"))["muted"]
    assert isinstance(muted, int)
    assert (await settle("mute"))["muted"] > muted  # type: ignore[operator]
    assert (await settle("archive"))["archived"] is True
    assert (await settle("pin", "3"))["pinned"] == 3
    out = await talking.done("contacts", *mine)
    assert out == f"Alice A.\t{ALICE}\trequest, archived, muted, pinned\n"
    assert (await settle("mute", "--off"))["muted"] == 0
    assert (await settle("archive", "--off"))["archived"] is False
    assert (await settle("pin", "--off"))["pinned"] == 0
    assert (await settle("name"))["name"] is None


async def test_of_a_number_nobody_has_written_with_nothing_is_settled(shell: Shell) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    assert "[not-found]" in await shell.error("contacts", "accept", BOB)
    assert "[bad-number]" in await shell.error("contacts", "name", "bob", "Bob")
    assert "[not-registered]" in await shell.error("contacts", "--profile", "nobody")
