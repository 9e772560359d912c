"""Calls to services of others: bounded, and never a reason to show a secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.accounts.web import Answer, Web
from raychat.errors import Unavailable
from tests.accounts.webserver import Service


@pytest.fixture
async def caller() -> AsyncIterator[Web]:
    web = Web("It does not answer.")
    yield web
    await web.close()


async def test_an_answer_is_a_status_and_fields(caller: Web, service: Service) -> None:
    service.status, service.answer = 201, {"sid": "x"}
    answer = await caller.post(service.url, {"a": "b"})
    assert (answer.status, answer.fields()) == (201, {"sid": "x"})
    assert service.asked[0].form == {"a": "b"}


async def test_nobody_listening_is_unavailable_and_names_no_url(caller: Web) -> None:
    with pytest.raises(Unavailable) as error:
        await caller.post("http://user:hush@127.0.0.1:1/", b"")
    assert "hush" not in f"{error.value!r} {error.value.__cause__!r}"


async def test_a_url_that_is_none_is_unavailable(caller: Web) -> None:
    with pytest.raises(Unavailable):
        await caller.post("nonsense", b"")


async def test_an_endless_answer_is_cut_off(caller: Web, service: Service) -> None:
    service.answer = bytes(limits.PROVIDER_ANSWER_BYTES + 1)
    with pytest.raises(Unavailable):
        await caller.post(service.url, b"")


async def test_a_service_that_hangs_is_given_up(
    caller: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_SECONDS", 0.1)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable):
        await caller.post(f"http://127.0.0.1:{port}/", b"")
    await caller.close()
    silent.close()
    await silent.wait_closed()


async def test_a_cookie_of_one_call_does_not_come_back_with_the_next(
    caller: Web, service: Service
) -> None:
    service.headers = {"Set-Cookie": "who=me; Path=/"}
    await caller.post(service.url, b"")
    await caller.post(service.url, b"")
    assert "Cookie" not in service.asked[1].headers


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_answer_of_a_service_makes_it_fail(body: bytes) -> None:
    assert isinstance(Answer(200, body).fields(), dict)


def test_nested_nonsense_is_no_fields() -> None:
    assert Answer(200, b"[" * 50_000).fields() == {}
