"""`verify`: safety numbers by digits and code, and the key log."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from raychat.client.client import Client
from raychat.client.commands.verify import log_sentence
from tests.client.service import CODE, Service
from tests.client.shell import Shell

ALICE, BOB = "+15550001111", "+15550002222"
AS_BOB, AS_ALICE = ("--profile", "bob"), ("--profile", "alice")


@pytest.fixture
async def accepted(talking: Shell) -> Shell:
    await talking.done("contacts", "accept", ALICE, *AS_BOB)
    return talking


async def test_both_sides_see_the_same_number(accepted: Shell) -> None:
    mine = await accepted.object("verify", BOB, *AS_ALICE)
    theirs = await accepted.object("verify", ALICE, *AS_BOB)
    assert set(mine) == {
        "account",
        "number",
        "safety_number",
        "groups",
        "code",
        "same",
        "verified",
        "changed",
        "log",
    }
    assert mine["safety_number"] == theirs["safety_number"]
    assert len(mine["groups"]) == 12
    assert all(len(group) == 5 for group in mine["groups"])
    assert (mine["same"], mine["verified"], mine["changed"]) == (None, False, False)
    assert mine["log"]["alarm"] is None
    assert mine["log"]["error"] is None
    assert mine["log"]["lists"] == 1
    out = await accepted.done("verify", BOB, *AS_ALICE)
    assert " ".join(mine["groups"][:4]) in out
    assert "Not compared yet" in out
    assert "agrees (1 device list" in out


async def test_what_is_scanned_is_compared_and_remembered(accepted: Shell) -> None:
    theirs = await accepted.object("verify", ALICE, *AS_BOB)
    code = base64.b64decode(theirs["code"])
    scan = ("verify", BOB, *AS_ALICE, "--scan")
    for seen in (theirs["code"], code.hex(), " ".join(theirs["groups"])):
        found = await accepted.object(*scan, seen)
        assert (found["same"], found["verified"]) == (True, True)
        await accepted.done("verify", BOB, "--unmark", *AS_ALICE)
    code_out, out, _ = await accepted.run(*scan, "-", stdin=code)
    assert (code_out, "Verified" in out) == (0, True)
    (contact,) = await accepted.objects("contacts", *AS_ALICE)
    assert contact["verified"]

    one, out, _ = await accepted.run(*scan, "1" * 60)
    assert (one, "NOT the same" in out) == (1, True)
    assert not (await accepted.object("verify", BOB, *AS_ALICE))["verified"]
    assert "[invalid-message]" in await accepted.error(*scan, "hello")


async def test_another_key_is_no_longer_verified(accepted: Shell) -> None:
    assert (await accepted.object("verify", BOB, "--mark", *AS_ALICE))["verified"]
    await accepted.done("register", BOB, "--code", CODE, "--profile", "new-phone")
    await accepted.done("send", BOB, "hello?", *AS_ALICE)
    found = await accepted.object("verify", BOB, *AS_ALICE)
    assert (found["verified"], found["changed"]) == (False, True)
    assert "CHANGED" in await accepted.done("verify", BOB, *AS_ALICE)


async def test_it_can_be_seen_while_a_chat_is_open(accepted: Shell, tmp_path: Path) -> None:
    async with Client("alice", home=tmp_path):
        found = await accepted.object("verify", BOB, *AS_ALICE)
        assert found["log"]["error"] == "store-in-use"
        assert "[store-in-use]" in await accepted.error("verify", BOB, "--mark", *AS_ALICE)


async def test_of_whom_nothing_is_known_there_is_no_number(accepted: Shell) -> None:
    assert "[not-found]" in await accepted.error("verify", "+15559999999", *AS_ALICE)
    assert "[bad-request]" in await accepted.error("verify", *AS_ALICE)
    words = ("verify", BOB, "--mark", "--unmark", *AS_ALICE)
    assert "[bad-request]" in await accepted.error(*words)


async def test_the_log_is_one_for_all(accepted: Shell) -> None:
    mine = await accepted.object("verify", "--log", *AS_ALICE)
    theirs = await accepted.object("verify", "--log", *AS_BOB)
    assert mine["key"] == theirs["key"]
    assert (mine["size"], mine["digest"]) == (theirs["size"], theirs["digest"])
    assert mine["evidence"] == []
    assert mine["agrees"] is None
    compared = await accepted.object("verify", "--compare", theirs["head"], *AS_ALICE)
    assert compared["agrees"] is True
    assert "Head of 2 epochs" in await accepted.done("verify", "--log", *AS_ALICE)
    assert "[bad-request]" in await accepted.error("verify", "--compare", "?", *AS_ALICE)


async def test_a_log_that_says_different_things_is_an_alarm_with_evidence(
    accepted: Shell, service: Service
) -> None:
    honest = service.accounts.log
    fork = honest.fork()
    account = next(iter(service.model.users))
    fork.publish((account, b"g" * 32))
    honest.publish((account, b"h" * 32))
    _, out, _ = await accepted.run("verify", "--log", "--json", *AS_BOB)
    theirs = json.loads(out)
    service.accounts.log = fork
    code, out, _ = await accepted.run("verify", "--compare", theirs["head"], *AS_ALICE)
    assert (code, "ANOTHER log" in out) == (1, True)
    assert "ALARM" in out
    code, out, _ = await accepted.run("verify", "--log", *AS_ALICE)
    assert "Contradiction found" in out


def test_what_the_log_says_is_a_sentence() -> None:
    calm = {"alarm": None, "looked": None, "lists": 0, "error": "timeout", "evidence": 2}
    said = log_sentence(calm)
    assert "not been looked at" in said
    assert "[timeout]" in said
    assert "2 contradictions" in said
    assert "ALARM" in log_sentence({**calm, "alarm": "fork"})
