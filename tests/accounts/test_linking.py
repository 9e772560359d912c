"""Link sessions: one request, one answer, in time, and only for who began."""

from __future__ import annotations

import pytest

from raychat import limits
from raychat.accounts.linking import Grant, LinkSessions
from raychat.errors import BadToken, LinkExpired, LinkTaken, Malformed, Overloaded, TooLarge
from raychat.ids import AccountId, DeviceId

LINK = b"12345"
TOKEN = b"t" * 32
GRANT = Grant(AccountId(b"a" * 16), DeviceId(2), b"list")
NOW = 1_000_000
SECOND = 1_000


@pytest.fixture
def links() -> LinkSessions:
    links = LinkSessions()
    assert links.open(LINK, b"request", TOKEN, NOW) == limits.LINK_SECONDS
    return links


def test_the_primary_finds_the_request_and_the_new_device_the_answer(links: LinkSessions) -> None:
    assert links.request(LINK, NOW + 20 * SECOND) == (b"request", 40)
    assert links.message(LINK, TOKEN, NOW) is None
    links.answer(LINK, GRANT, b"message", NOW + SECOND)
    assert links.message(LINK, TOKEN, NOW + SECOND) == b"message"
    assert links.grant(LINK, TOKEN, NOW + SECOND) == GRANT


def test_a_code_is_good_for_a_minute(links: LinkSessions) -> None:
    late = NOW + limits.LINK_SECONDS * SECOND
    assert links.request(LINK, late - 1)
    with pytest.raises(LinkExpired):
        links.request(LINK, late)
    with pytest.raises(LinkExpired):
        links.answer(LINK, GRANT, b"message", late)
    with pytest.raises(LinkExpired):
        links.message(LINK, TOKEN, late)


def test_once_answered_the_new_device_has_some_minutes_and_may_try_again(
    links: LinkSessions,
) -> None:
    links.answer(LINK, GRANT, b"message", NOW)
    end = NOW + limits.LINK_FINISH_SECONDS * SECOND
    for _ in range(2):
        assert links.grant(LINK, TOKEN, end - 1) == GRANT
    with pytest.raises(LinkExpired):
        links.grant(LINK, TOKEN, end)


def test_a_code_is_used_once_but_an_answer_may_come_again(links: LinkSessions) -> None:
    links.answer(LINK, GRANT, b"message", NOW)
    links.answer(LINK, GRANT, b"message", NOW)
    with pytest.raises(LinkExpired):
        links.request(LINK, NOW)
    with pytest.raises(LinkExpired):
        links.answer(LINK, GRANT._replace(list=b"other"), b"message", NOW)
    assert links.grant(LINK, TOKEN, NOW) == GRANT


def test_only_who_began_gets_the_answer(links: LinkSessions) -> None:
    links.answer(LINK, GRANT, b"message", NOW)
    for ask in (links.message, links.grant):
        with pytest.raises(BadToken):
            ask(LINK, b"x" * 32, NOW)


def test_a_device_is_not_registered_before_the_primary_has_answered(links: LinkSessions) -> None:
    with pytest.raises(Malformed):
        links.grant(LINK, TOKEN, NOW)


def test_an_id_that_is_in_use_is_taken_until_it_ends(links: LinkSessions) -> None:
    with pytest.raises(LinkTaken):
        links.open(LINK, b"another", TOKEN, NOW)
    late = NOW + limits.LINK_SECONDS * SECOND
    links.open(LINK, b"another", TOKEN, late)
    assert links.request(LINK, late)[0] == b"another"


def test_the_table_of_links_is_bounded(links: LinkSessions, monkeypatch) -> None:
    monkeypatch.setattr(limits, "LINKS", 2)
    links.open(b"other", b"", TOKEN, NOW)
    with pytest.raises(Overloaded):
        links.open(b"third", b"", TOKEN, NOW)
    links.open(b"third", b"", TOKEN, NOW + limits.LINK_SECONDS * SECOND)
    assert len(links) == 1


def test_what_is_too_large_or_misnamed_is_refused(links: LinkSessions) -> None:
    with pytest.raises(TooLarge):
        links.open(b"other", bytes(limits.LINK_REQUEST_BYTES + 1), TOKEN, NOW)
    with pytest.raises(TooLarge):
        links.answer(LINK, GRANT, bytes(limits.LINK_MESSAGE_BYTES + 1), NOW)
    with pytest.raises(Malformed):
        links.open(b"four", b"", TOKEN, NOW)
