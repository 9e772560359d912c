"""Whom a call is counted against."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat.gateway.api.addresses import UNKNOWN, Addresses

OPEN = Addresses()
BEHIND = Addresses([ip_network("10.0.0.0/8"), ip_network("::1/128")])


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", UNKNOWN),
        ("/run/socket", UNKNOWN),
    ],
)
def test_without_a_proxy_the_peer_is_the_client(peer: str, client: str) -> None:
    assert OPEN.client(peer, []) == client


def test_neighbours_in_one_ipv6_network_are_one_client() -> None:
    assert OPEN.client("2001:db8::1", []) == OPEN.client("2001:db8::ffff:1", [])
    assert OPEN.client("2001:db8::1", []) != OPEN.client("2001:db8:0:1::1", [])


def test_a_stranger_cannot_say_that_it_is_somebody_else() -> None:
    assert OPEN.client("192.0.2.7", ["198.51.100.1"]) == "192.0.2.7"
    assert BEHIND.client("192.0.2.7", ["198.51.100.1"]) == "192.0.2.7"


def test_a_trusted_proxy_says_whom_it_serves() -> None:
    assert BEHIND.client("10.0.0.1", ["192.0.2.7"]) == "192.0.2.7"
    assert BEHIND.client("::1", ["192.0.2.7:4711"]) == "192.0.2.7"
    assert BEHIND.client("10.0.0.1", ["[2001:db8::1]:443"]) == "2001:db8::/64"


def test_what_the_client_wrote_before_the_proxy_is_not_believed() -> None:
    assert BEHIND.client("10.0.0.1", ["198.51.100.1, 192.0.2.7"]) == "192.0.2.7"
    assert BEHIND.client("10.0.0.1", ["198.51.100.1", "192.0.2.7, 10.0.0.2"]) == "192.0.2.7"


@pytest.mark.parametrize("nonsense", ["", "unknown", "_hidden", "1.2.3", ",", "[", "a:b:c"])
def test_a_proxy_that_says_nothing_sensible_is_the_client_itself(nonsense: str) -> None:
    assert BEHIND.client("10.0.0.1", [nonsense]) == "10.0.0.1"


def test_a_chain_of_proxies_only_is_counted_as_its_first() -> None:
    assert BEHIND.client("10.0.0.1", ["10.0.0.3, 10.0.0.2"]) == "10.0.0.3"


@settings(max_examples=200)
@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4))
def test_no_header_makes_it_fail(peer: str, forwarded: list[str]) -> None:
    for addresses in (OPEN, BEHIND):
        assert addresses.client(peer, forwarded)
        assert addresses.client("10.0.0.1", forwarded)
