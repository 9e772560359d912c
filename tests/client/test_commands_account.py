"""`register` with its questions, `number`, `lock`, `delete-account`."""

from __future__ import annotations

from pathlib import Path

from tests.client.service import CODE, Service
from tests.client.shell import Shell

ALICE, BOB, OTHER = "+15550001111", "+15550002222", "+15550003333"
PIN = "a long pin"


async def test_a_device_is_printed_as_json(shell: Shell, tmp_path: Path) -> None:
    found = await shell.object("register", ALICE, "--code", CODE, "--profile", "a")
    assert found == {
        "number": ALICE,
        "account": found["account"],
        "device": 1,
        "incarnation": 1,
        "profile": "a",
        "directory": str(tmp_path / "a"),
    }


async def test_a_code_comes_by_message_or_by_a_call(shell: Shell, service: Service) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    await shell.done("register", ALICE, "--code", CODE, "--voice")
    assert service.accounts.channels == ["sms", "voice"]


async def test_a_challenge_says_what_to_do_and_is_answered(shell: Shell, service: Service) -> None:
    service.accounts.answer = "solved"
    err = await shell.error("register", ALICE, "--code", CODE)
    assert "[challenge]" in err
    assert "hcaptcha" in err
    assert "site-1" in err
    assert "--challenge ANSWER" in err
    await shell.error("register", ALICE, "--code", CODE, "--challenge", "wrong")
    await shell.done("register", ALICE, "--code", CODE, "--challenge", "solved")


async def test_who_asks_too_soon_waits_a_little(shell: Shell, service: Service) -> None:
    service.accounts.pause = 1
    await shell.done("register", ALICE, "--code", CODE)
    service.accounts.pause = 600
    assert "[rate-limited]" in await shell.error("register", ALICE, "--code", CODE)


async def test_a_lock_wants_its_pin_from_who_registers_anew(shell: Shell, service: Service) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    assert await shell.object("lock", "--status") == {"locked": False}
    assert "[bad-request]" in await shell.error("lock", stdin=f"{PIN}\nanother pin\n")
    assert "[bad-request]" in await shell.error("lock", RAYCHAT_PIN="123")
    assert "is locked" in await shell.done("lock", stdin=f"{PIN}\n{PIN}\n")
    assert await shell.object("lock", "--status") == {"locked": True}

    again = ("register", ALICE, "--code", CODE, "--profile", "again")
    assert "[locked]" in await shell.error(*again)
    err = await shell.error(*again, stdin="wrong one\n")
    assert "[bad-pin] 4 more tries" in err
    assert "[bad-pin]" in await shell.error(*again, RAYCHAT_PIN="wrong one")
    code, _, err = await shell.run(*again, stdin=f"wrong one\n{PIN}\n")
    assert (code, "[bad-pin]" in err) == (0, True)
    assert PIN not in err
    await shell.done(*again, RAYCHAT_PIN=PIN)

    # The device from before is not one any more.
    assert "[bad-token]" in await shell.error("lock", "--remove")
    removed = await shell.object("lock", "--remove", "--profile", "again")
    assert removed == {"locked": False}
    assert "[bad-request]" in await shell.error("lock", "--remove", "--status")


async def test_the_number_changes_and_the_chats_stay(talking: Shell, service: Service) -> None:
    moved = ("number", OTHER, "--code", CODE, "--profile", "alice")
    before = await talking.objects("history", "--profile", "alice")
    assert await talking.object(*moved) == {"number": OTHER}
    assert "[bad-request]" in await talking.error(*moved)
    assert await talking.objects("history", "--profile", "alice") == before
    assert "[bad-code]" in await talking.error(
        "number", "+15550004444", "--code", "999999", "--profile", "alice"
    )
    await talking.done("send", BOB, "my new number", "--profile", "alice")
    # Whoever writes to the new number writes to the same account.
    await talking.done("send", OTHER, "nice", "--profile", "bob")
    shown = await talking.objects("history", "--profile", "bob")
    assert {each["account"] for each in shown} == {shown[0]["account"]}
    assert {each["number"] for each in shown} == {OTHER}
    assert {each["text"] for each in shown} == {"hello bob", "my new number", "nice"}


async def test_an_account_is_deleted_only_by_who_means_it(
    shell: Shell, service: Service, tmp_path: Path
) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    await shell.done("lock", RAYCHAT_PIN=PIN)
    assert "[denied]" in await shell.error("delete-account", stdin="y\n")
    assert "[locked]" in await shell.error("delete-account", stdin="yes\n")
    assert service.accounts.deleted == []
    out = await shell.done("delete-account", stdin=f"yes\n{PIN}\n")
    assert "deleted" in out
    assert len(service.accounts.deleted) == 1
    assert (tmp_path / "default" / "device.db").exists()


async def test_a_deleted_account_can_leave_nothing_here(
    shell: Shell, service: Service, tmp_path: Path
) -> None:
    await shell.done("register", ALICE, "--code", CODE)
    found = await shell.object("delete-account", "--yes", "--erase")
    assert found == {"deleted": True, "erased": True}
    assert not (tmp_path / "default").exists()
