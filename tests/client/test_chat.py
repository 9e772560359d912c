"""The chat, with keys typed and nothing drawn, and as plain lines."""

from __future__ import annotations

import asyncio
import io
import os

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from raychat.client.chat import Screen, converse, plain
from raychat.client.client import Client
from raychat.client.events import TypingSeen
from raychat.client.model import State
from tests.client.conftest import ALICE, BOB, People, until
from tests.client.service import Service


async def test_a_line_typed_is_sent_and_its_mark_appears(clients: tuple[Client, Client]) -> None:
    alice, bob = clients
    with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
        screen = Screen(alice, BOB, keys, DummyOutput())
        running = asyncio.create_task(screen.run())
        keys.send_text("hello")
        keys.send_text("\r")
        await until(lambda: any(m.state is State.DELIVERED for m in alice.history()))
        shown = "".join(text for _, text, *_ in screen._history())
        assert "you: hello  ✓✓" in shown
        assert "connected" in "".join(text for _, text, *_ in screen._toolbar())

        await bob.send(ALICE, "one\ntwo")
        await until(lambda: alice.unread(BOB) == 0 and len(alice.history()) == 2)
        await until(lambda: bob.history()[-1].state is State.READ)
        shown = "".join(text for _, text, *_ in screen._history())
        assert f"{BOB}: one\n" in shown

        keys.send_text("first\x1b\rsecond\r")
        await until(lambda: alice.history()[-1].text == "first\nsecond")
        keys.send_text("\x1b[5~")  # page up
        await until(lambda: screen._back > 0)
        assert "back" in "".join(text for _, text, *_ in screen._toolbar())
        assert ("[SetCursorPosition]", "") in screen._history()
        keys.send_text("\x1b[6~")  # page down
        await until(lambda: screen._back == 0)
        keys.send_text("\r   \r")
        keys.send_text("\x03")
        await asyncio.wait_for(running, 10)
    assert len(alice.history()) == 3


async def test_what_goes_wrong_is_said_on_the_screen(people: People) -> None:
    alice = await people.register(ALICE, "alice")
    async with alice:
        with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
            screen = Screen(alice, "+15559999999", keys, DummyOutput())
            running = asyncio.create_task(screen.run())
            keys.send_text("anyone?\r")
            await until(lambda: any("[not-found]" in text for text in screen._notices))
            keys.send_text("x" * 40_000 + "\r")
            await until(lambda: any("[too-large]" in text for text in screen._notices))
            assert len(screen._buffer.text) == 40_000
            keys.send_text("\x03")
            await asyncio.wait_for(running, 10)


async def test_commands_are_typed_with_a_slash_and_name_messages(
    clients: tuple[Client, Client],
) -> None:
    alice, bob = clients
    with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
        screen = Screen(alice, BOB, keys, DummyOutput(), colored=False)
        running = asyncio.create_task(screen.run())

        def shown() -> str:
            return "".join(text for _, text, *_ in screen._history())

        keys.send_text("hello\r")
        await until(lambda: any(m.state is State.DELIVERED for m in alice.history()))
        assert "#1" not in shown()
        keys.send_text("/edit #1 ")
        await until(lambda: screen._buffer.text == "/edit #1 ")
        assert "#1 " in shown()
        keys.send_text("hello you\r")
        await until(lambda: bob.history()[-1].text == "hello you")
        assert "(edited)" in shown()
        keys.send_text("/help\r")
        await until(lambda: "/verify" in shown())
        keys.send_text("//etc\r")
        await until(lambda: bob.history()[-1].text == "/etc")
        assert "/verify" not in shown()
        keys.send_text("/nothing\r")
        await until(lambda: "[bad-request]" in shown())
        await until(lambda: screen._buffer.text == "/nothing")
        keys.send_text("\x03")
        await asyncio.wait_for(running, 10)


async def test_a_request_is_shown_as_one_until_it_is_accepted(people: People) -> None:
    alice, bob = await people.register(ALICE, "alice"), await people.register(BOB, "bob")
    async with alice, bob:
        await (await alice.send(BOB, "hello?")).sent(10)
        await until(lambda: len(bob.history()) == 1)
        with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
            screen = Screen(bob, ALICE, keys, DummyOutput())
            running = asyncio.create_task(screen.run())

            def shown() -> str:
                return "".join(text for _, text, *_ in screen._history())

            assert "/accept them, or /block" in shown()
            keys.send_text("/accept\r")
            await until(lambda: "/block them" not in shown())
            keys.send_text("\x03")
            await asyncio.wait_for(running, 10)
        conversation = bob.conversation(ALICE)
        assert conversation is not None
        assert conversation.accepted


async def test_who_writes_is_seen_to(clients: tuple[Client, Client]) -> None:
    alice, bob = clients
    await (await alice.send(BOB, "hello")).delivered(10)
    await (await bob.send(ALICE, "yes")).sent(10)
    await until(lambda: len(alice.history()) == 2)
    with create_pipe_input() as keys, create_app_session(keys, DummyOutput()):
        screen = Screen(alice, BOB, keys, DummyOutput())
        running = asyncio.create_task(screen.run())
        await bob.typing(ALICE)
        await until(lambda: "is writing" in "".join(text for _, text, *_ in screen._toolbar()))
        keys.send_text("I think")
        async with asyncio.timeout(10):
            async for event in bob.events():
                if isinstance(event, TypingSeen):
                    break
        await (await bob.send(ALICE, "so")).sent(10)
        await until(lambda: "is writing" not in "".join(text for _, text, *_ in screen._toolbar()))
        keys.send_text("\x03")
        await asyncio.wait_for(running, 10)


async def test_a_person_at_a_plain_terminal_can_type_commands_too(
    clients: tuple[Client, Client],
) -> None:
    alice, bob = clients

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    target = io.StringIO()
    await plain(alice, BOB, Terminal("/help\n//etc\n"), target)
    assert "— /reply" in target.getvalue()
    await until(lambda: [m.text for m in bob.history()] == ["/etc"])
    await plain(alice, BOB, io.StringIO("/etc/hosts\n"), target)
    await until(lambda: [m.text for m in bob.history()] == ["/etc", "/etc/hosts"])


async def test_lines_of_a_pipe_are_sent_and_what_comes_is_printed(
    clients: tuple[Client, Client],
) -> None:
    alice, bob = clients
    read, write = os.pipe()
    target = io.StringIO()
    with os.fdopen(read) as source:
        talking = asyncio.create_task(plain(alice, BOB, source, target))
        os.write(write, b"hello\n\n")
        await until(lambda: [m.text for m in bob.history()] == ["hello"])
        await bob.send(ALICE, "hi \x1b[31mred")
        await until(lambda: "hi" in target.getvalue())
        os.write(write, b"bye")
        os.close(write)
        await asyncio.wait_for(talking, 10)
    assert [m.text for m in bob.history() if not m.outgoing] == ["hello", "bye"]
    assert f"{BOB}: hi \ufffd[31mred" in target.getvalue()
    await until(lambda: bob.history()[1].state is State.READ)


async def test_without_a_connection_lines_are_kept(
    clients: tuple[Client, Client],
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alice, _ = clients
    await service.stop()
    await until(lambda: not alice.is_connected)
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    await converse(alice, BOB)
    assert [m.state for m in alice.history()] == [State.QUEUED] * 2
    assert "no connection" in capsys.readouterr().err
