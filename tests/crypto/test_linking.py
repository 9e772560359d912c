from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat import limits
from raychat.crypto.curve import KeyPair
from raychat.crypto.linking import PREFIX, LinkCode, LinkRequest, Provision
from raychat.errors import (
    BadCode,
    BadMac,
    CodeExpired,
    InvalidKey,
    Malformed,
    RaychatError,
    TooLarge,
)
from raychat.ids import PhoneNumber, Secret, new_account_id

NOW = 1_700_000_000_000
EPHEMERAL, IDENTITY = KeyPair.generate(), KeyPair.generate()
CODE = LinkCode.generate()
REQUEST = LinkRequest(EPHEMERAL.public, IDENTITY.public, "Alice's laptop", "Linux", NOW)
PROVISION = Provision(
    new_account_id(),
    PhoneNumber("+15550001111"),
    b"the signed list",
    "https://chat.example",
    "Alice",
    b"settings",
    Secret(b"h" * 32),
)
SEALED = PROVISION.seal(CODE, REQUEST)


def test_a_code_is_eight_groups_of_four() -> None:
    text = CODE.text
    assert text.startswith(PREFIX)
    groups = text[len(PREFIX) :].split("-")
    assert [len(group) for group in groups] == [4] * 8
    assert (len(CODE.id), len(CODE.key)) == (5, 15)


@given(st.binary(min_size=20, max_size=20))
def test_every_code_comes_back_from_its_text(data: bytes) -> None:
    code = LinkCode(data[:5], Secret(data[5:]))
    assert LinkCode.parse(code.text) == code


def test_a_code_may_be_typed_as_people_type() -> None:
    code = LinkCode(bytes(5), Secret(bytes(14) + b"\x21"))
    assert code.text.endswith("0011")
    typed = code.text[len(PREFIX) :].lower().replace("0", "o").replace("1", "l")
    assert LinkCode.parse(f"  {typed.replace('-', ' ')} ") == code
    assert LinkCode.parse(f"RAYCHAT-LINK:{typed}") == code


@pytest.mark.parametrize(
    "text",
    ["", "raychat-link:", "https://example.org/" + CODE.text, "raychat-group:" + CODE.text[13:],
     CODE.text[:-1], CODE.text + "0", CODE.text[:-1] + "U", CODE.text[:-1] + "\u0660"],
)  # fmt: skip
def test_what_is_no_link_code_is_never_taken_for_one(text: str) -> None:
    with pytest.raises(BadCode):
        LinkCode.parse(text)


def test_a_request_is_opened_with_its_code() -> None:
    assert LinkRequest.open(CODE, REQUEST.seal(CODE)) == REQUEST


def test_a_request_under_another_code_or_another_id_is_refused() -> None:
    for other in (LinkCode(CODE.id, LinkCode.generate().key), LinkCode(b"other", CODE.key)):
        with pytest.raises(BadMac):
            LinkRequest.open(other, REQUEST.seal(CODE))


def test_a_request_is_taken_while_it_is_fresh() -> None:
    REQUEST.check_age(NOW + limits.LINK_REQUEST_SECONDS * 1000)
    for late in (1, -1):
        with pytest.raises(CodeExpired):
            REQUEST.check_age(NOW + late * (limits.LINK_REQUEST_SECONDS * 1000 + 1))


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", "\u202eltr", "\x1b[2J"])
def test_a_name_that_could_deceive_who_reads_it_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        REQUEST._replace(name=name).seal(CODE)
    with pytest.raises(Malformed):
        LinkRequest.open(CODE, sealed_request(platform=name))


def sealed_request(**changes: object) -> bytes:
    import hashlib
    import hmac

    fields: dict[str, object] = {
        "form": 1,
        "ephemeral": EPHEMERAL.public.data,
        "identity": IDENTITY.public.data,
        "name": "n",
        "platform": "p",
        "at": NOW,
    }
    payload = msgpack.packb(list((fields | changes).values()))
    mac = hmac.new(CODE.key, b"raychat link request\0" + CODE.id + payload, hashlib.sha256)
    return msgpack.packb((payload, mac.digest()))


def test_the_form_of_a_request_is_as_documented() -> None:
    assert LinkRequest.open(CODE, sealed_request()) == REQUEST._replace(name="n", platform="p")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"form": 2}, Malformed),
        ({"at": -1}, Malformed),
        ({"at": True}, Malformed),
        ({"name": b"n"}, Malformed),
        ({"more": 1}, Malformed),
        ({"identity": bytes(33)}, InvalidKey),
    ],
)
def test_a_request_that_is_not_in_order_is_refused(changes: dict, error: type) -> None:
    with pytest.raises(error):
        LinkRequest.open(CODE, sealed_request(**changes))


def test_the_new_device_opens_what_the_primary_sealed() -> None:
    assert Provision.open(CODE, EPHEMERAL, IDENTITY, SEALED) == PROVISION


def test_only_the_device_that_asked_opens_it() -> None:
    other = KeyPair.generate()
    for ephemeral, identity in ((other, IDENTITY), (EPHEMERAL, other)):
        with pytest.raises(BadMac):
            Provision.open(CODE, ephemeral, identity, SEALED)


def test_only_who_knows_the_code_seals_it() -> None:
    forged = PROVISION.seal(LinkCode(CODE.id, LinkCode.generate().key), REQUEST)
    with pytest.raises(BadMac):
        Provision.open(CODE, EPHEMERAL, IDENTITY, forged)


def test_no_two_messages_are_the_same() -> None:
    assert PROVISION.seal(CODE, REQUEST) != SEALED


def test_messages_over_the_limit_are_neither_made_nor_opened() -> None:
    with pytest.raises(TooLarge):
        PROVISION._replace(settings=bytes(limits.LINK_MESSAGE_BYTES)).seal(CODE, REQUEST)
    with pytest.raises(TooLarge):
        Provision.open(CODE, EPHEMERAL, IDENTITY, bytes(limits.LINK_MESSAGE_BYTES + 1))
    with pytest.raises(TooLarge):
        LinkRequest.open(CODE, bytes(1025))


@pytest.mark.parametrize(
    "wrong",
    [
        PROVISION._replace(number=PhoneNumber("15550001111")),
        PROVISION._replace(number=PhoneNumber("+" + "1" * 20)),
        PROVISION._replace(account=b"short"),
        PROVISION._replace(history_key=Secret(b"short")),
    ],
)
def test_a_provision_that_is_not_in_order_is_refused(wrong: Provision) -> None:
    with pytest.raises(Malformed):
        Provision.open(CODE, EPHEMERAL, IDENTITY, wrong.seal(CODE, REQUEST))


def test_nothing_secret_is_shown() -> None:
    for shown in (repr(CODE), repr(PROVISION), repr(REQUEST)):
        assert "5550001111" not in shown
        assert "laptop" not in shown
        assert bytes(CODE.key).hex() not in shown
        assert "Alice" not in shown


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(RaychatError):
        LinkRequest.open(CODE, data)
    with pytest.raises(RaychatError):
        Provision.open(CODE, EPHEMERAL, IDENTITY, data)
    with pytest.raises(RaychatError):
        Provision.open(CODE, EPHEMERAL, IDENTITY, msgpack.packb((IDENTITY.public.data, data)))


@given(st.text(max_size=60))
def test_hostile_text_raises_only_our_errors(text: str) -> None:
    try:
        LinkCode.parse(text)
    except RaychatError:
        return
    assert len(text) >= 32
