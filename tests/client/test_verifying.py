"""What another person's screen shows, as text or as a code, belongs to the same keys or not."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raychat.client.verifying import is_same, is_verified, safety_number
from raychat.crypto import IdentityKeyPair
from raychat.crypto.fingerprint import SafetyNumber
from raychat.errors import CryptoError, InvalidMessage, NotFound
from raychat.ids import AccountId
from tests.client.world import Device, World

ME, YOU = AccountId(b"m" * 16), AccountId(b"y" * 16)
KEYS = IdentityKeyPair.generate().public, IdentityKeyPair.generate().public
MINE = SafetyNumber.of(ME, KEYS[0], YOU, KEYS[1])
YOURS = SafetyNumber.of(YOU, KEYS[1], ME, KEYS[0])
OTHERS = SafetyNumber.of(YOU, KEYS[0], ME, KEYS[1])


def forms(number: SafetyNumber) -> list[str | bytes]:
    code = number.code
    return [
        number.text,
        " ".join(number.groups),
        "\n".join(number.groups),
        code,
        code.hex(),
        code.hex(" ").upper(),
        base64.b64encode(code).decode(),
        base64.urlsafe_b64encode(code).rstrip(b"=").decode(),
    ]


def test_digits_and_codes_are_compared_in_every_form() -> None:
    assert all(is_same(MINE, seen) for seen in forms(YOURS))
    assert not any(is_same(MINE, seen) for seen in forms(OTHERS))


def test_ones_own_code_is_not_the_others() -> None:
    assert is_same(MINE, MINE.text)
    assert not is_same(MINE, MINE.code)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_anything_else_is_refused(seen: str | bytes) -> None:
    with suppress(CryptoError):
        assert not is_same(MINE, seen)


def test_what_is_no_number_is_said_to_be_none() -> None:
    for seen in ("", "hello", "1" * 59, "é" * 60, "٣" * 60):
        with pytest.raises(InvalidMessage):
            is_same(MINE, seen)


def test_the_number_is_there_once_the_keys_are(world: World, alice: Device, bob: Device) -> None:
    with pytest.raises(NotFound):
        safety_number(alice.store, bob.account)
    with pytest.raises(NotFound):
        safety_number(alice.store, None)
    with pytest.raises(NotFound):
        safety_number(alice.store, alice.account)
    alice.say(bob, "hello")
    world.settle()
    one, other = (safety_number(a.store, b.account) for a, b in ((alice, bob), (bob, alice)))
    assert one.text == other.text
    assert is_same(one, other.code)


def test_verified_is_who_has_the_key_that_was_compared(
    world: World, alice: Device, bob: Device
) -> None:
    alice.say(bob, "hello")
    world.settle()
    found = alice.store.history.conversation_with(bob.account)
    key = alice.store.lists.account_key(bob.account)
    assert found is not None
    assert key is not None
    assert not is_verified(found, alice.store)
    assert is_verified(replace(found, verified=key.data), alice.store)
    assert not is_verified(replace(found, verified=b"another"), alice.store)
    assert not is_verified(replace(found, verified=key.data, account=None), alice.store)
