"""The HTTP API answers what is wrong with a typed error, and noise too."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raychat.config import Placement
from raychat.errors import BY_CODE
from raychat.ids import account_text
from raychat.wire import frames
from raychat.wire.frames import Close
from tests.gateway.talk import ANN, BOB, works
from tests.people import Person
from tests.stack import Stack, hello, send, until


def bearer(account: str, device: object, token: bytes) -> dict[str, str]:
    encoded = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    return {"Authorization": f"Bearer {account}.{device}.{encoded}"}


def own(person: Person) -> dict[str, str]:
    return bearer(account_text(person.account), 1, person.token)


async def typed(response: aiohttp.ClientResponse) -> str:
    """The code of a typed error."""
    body = await response.json()
    assert body.keys() == {"error", "detail", "retryable"}, body
    assert body["error"] in BY_CODE
    assert isinstance(body["detail"], str)
    assert isinstance(body["retryable"], bool)
    return str(body["error"])


CODE, HALF = b'{"code":"1"}', b'{"code":"\\ud800"}'
WRONG_CALLS = {
    "an unknown path": ("GET", "/v1/nothing", None, 404, "not-found"),
    "a wrong method": ("DELETE", "/v1/keys", None, 404, "not-found"),
    "no JSON": ("POST", "/v1/registrations", b"{", 400, "malformed"),
    "JSON nested for ever": ("POST", "/v1/registrations", b"[" * 100_000, 400, "malformed"),
    "JSON that is a list": ("POST", "/v1/registrations", b"[]", 400, "malformed"),
    "no number": ("POST", "/v1/registrations", b"{}", 400, "malformed"),
    "half a character": ("POST", "/v1/registrations", b'{"number":"\\ud800"}', 400, "bad-number"),
    "no phone number": ("POST", "/v1/registrations", b'{"number":"123"}', 400, "bad-number"),
    "too much": ("POST", "/v1/registrations", bytes(1024 * 1024 + 1), 413, "too-large"),
    "no registration": ("POST", "/v1/registrations/x/code", CODE, 410, "code-expired"),
    "half a digit": ("POST", "/v1/registrations/x/code", HALF, 410, "code-expired"),
    "no keys": ("POST", "/v1/registrations/x/device", b"{}", 400, "malformed"),
    "no token": ("GET", "/v1/keys", None, 401, "bad-token"),
    "no token for a lookup": ("POST", "/v1/lookup", b"{}", 401, "bad-token"),
    "no token for a list": ("PUT", "/v1/devices", b"{}", 401, "bad-token"),
    "no token to leave": ("DELETE", "/v1/devices/self", None, 401, "bad-token"),
    "no token for blocks": ("PUT", "/v1/blocks", b"{}", 401, "bad-token"),
    "no token for another": ("POST", "/v1/token", None, 401, "bad-token"),
    "no token for a link": ("GET", "/v1/links/0011223344", None, 401, "bad-token"),
    "no link token": ("GET", "/v1/links/0011223344/message", None, 401, "bad-token"),
    "no id of a link": ("POST", "/v1/links", b'{"request":""}', 400, "malformed"),
    "no link request": ("POST", "/v1/links", b'{"id":"0011223344"}', 400, "malformed"),
}


@pytest.mark.parametrize("wrong", WRONG_CALLS)
async def test_a_wrong_call_gets_a_typed_error(stack: Stack, wrong: str) -> None:
    method, path, body, status, code = WRONG_CALLS[wrong]
    data = io.BytesIO(body) if body else None
    async with stack.http.request(method, stack.url + path, data=data) as response:
        assert (response.status, await typed(response)) == (status, code)


async def test_a_socket_that_is_no_websocket_is_a_bad_request(stack: Stack) -> None:
    async with stack.http.get(f"{stack.url}/v1/socket") as response:
        assert response.status == 400


async def test_an_unknown_character_set_is_malformed(stack: Stack) -> None:
    headers = {"Content-Type": "application/json; charset=klingon"}
    url = f"{stack.url}/v1/registrations"
    async with stack.http.post(url, data=b"{}", headers=headers) as response:
        assert (response.status, await typed(response)) == (400, "malformed")


@pytest.mark.parametrize("device", ["0", "128", "-1", "9" * 30, "1.1", "x", ""])
async def test_a_device_that_cannot_be_is_a_bad_token_and_harms_no_link(
    stack: Stack, device: str
) -> None:
    headers = bearer(account_text(ANN.account), device, ANN.token)
    async with stack.http.get(f"{stack.url}/v1/keys", headers=headers) as response:
        assert (response.status, await typed(response)) == (401, "bad-token")
    await works(stack)


async def test_health_says_whether_the_hosts_can_be_reached(stack: Stack) -> None:
    async with stack.http.get(f"{stack.url}/health") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "ok"
    await stack.kill_host("host-1")
    link = stack.gateway._links.get("host-1")
    assert link is not None
    await until(lambda: not link.connected)
    async with stack.http.get(f"{stack.url}/health") as response:
        assert response.status == 503
        assert await response.json() | {"status": "degraded", "hosts_connected": 1} == (
            await response.json()
        )


async def test_with_dedicated_placement_a_stranger_leaves_no_trace(tmp_path: Path) -> None:
    """Whoever asks for an account that has no host makes no link and spoils no health."""
    async with Stack(tmp_path, placement=Placement.DEDICATED) as stack:
        wire = await stack.wire()
        await wire.say(hello(ANN))
        assert await wire.end() == (Close.OVERLOADED, "unavailable")
        async with stack.http.get(f"{stack.url}/v1/keys", headers=own(ANN)) as response:
            assert (response.status, await typed(response)) == (503, "unavailable")
        assert stack.gateway._links.all() == []
        async with stack.http.get(f"{stack.url}/health") as response:
            assert response.status == 200


# -- noise -----------------------------------------------------------------------------------

BOUNDED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
    | st.floats(allow_nan=False)
)
flat = scalars | st.lists(scalars, max_size=5) | st.dictionaries(st.text(max_size=3), scalars)
values = flat | st.lists(flat, max_size=5)
almost_frames = st.lists(values, min_size=1, max_size=9).map(
    lambda fields: msgpack.packb([fields[0] if fields else 1, *fields[1:]])
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good message in which something is changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from([hello(ANN), send(BOB, 1), frames.pack_ack(0)])))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


noise = st.binary(max_size=300) | almost_frames | spoiled()


@BOUNDED
@given(first=st.lists(noise, max_size=3), later=st.lists(noise, max_size=4))
async def test_noise_on_the_socket_gets_typed_errors_only(
    stack: Stack, first: list[bytes], later: list[bytes]
) -> None:
    strange = await stack.wire()
    known = await stack.welcomed(ANN)
    for wire, said in ((strange, first), (known, later)):
        for data in (*said, b"\xc1"):
            try:
                await wire.say(data)
            except (ConnectionError, aiohttp.ClientError):
                break
        close, code = await wire.end()
        assert close in set(Close)
        assert code in BY_CODE
    welcome = await stack.welcomed(ANN)
    await welcome.hang_up()


@BOUNDED
@given(
    call=st.sampled_from(sorted({(method, path) for method, path, *_ in WRONG_CALLS.values()})),
    body=st.binary(max_size=100)
    | values.map(lambda value: json.dumps(value, default=str).encode()),
    authorization=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
)
@example(call=("GET", "/v1/keys"), body=b"", authorization="Bearer ..")
async def test_noise_on_the_api_gets_typed_errors_only(
    stack: Stack, call: tuple[str, str], body: bytes, authorization: str
) -> None:
    method, path = call
    headers = {"Authorization": authorization}
    async with stack.http.request(method, stack.url + path, data=body, headers=headers) as answer:
        assert 400 <= answer.status < 500
        await typed(answer)
