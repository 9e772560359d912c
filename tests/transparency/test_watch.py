"""What devices find out about a server that cheats, and what they let an honest one do."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raychat import limits
from raychat.errors import BadProof
from raychat.ids import AccountId
from raychat.transparency import watch
from raychat.transparency.head import SignedHead
from raychat.transparency.watch import HOUR_MS, SENTENCES, Reason, Trace, Verdict
from tests.transparency.keeper import NOW, Keeper

ANN = AccountId(b"a" * 16)
OTHERS = [AccountId(bytes([number]) * 16) for number in range(3)]


def digest(name: str) -> bytes:
    return name.encode().ljust(32, b".")


class Owner:
    """Ann's primary device: it signs lists, and looks after her entry."""

    def __init__(self) -> None:
        self.made: list[bytes] = []
        self.trace = Trace()
        self.head: SignedHead | None = None

    def sign(self, name: str) -> bytes:
        self.made.append(digest(name))
        return self.made[-1]

    def look(self, keeper: Keeper, now: int = NOW) -> Verdict:
        answer = keeper.answer(ANN, self.head.size if self.head else 0, self.trace.counter)
        answer.check(ANN, self.head, keeper.public, self.trace.counter)
        verdict = watch.own(self.trace, answer.lists, self.made, now)
        self.head, self.trace = answer.head, verdict.trace
        return verdict


class Contact:
    """A device that talks to Ann; `given` is the list the server has given it for her."""

    def __init__(self, given: bytes | None = None) -> None:
        self.given = given
        self.trace = Trace()
        self.head: SignedHead | None = None

    def look(self, keeper: Keeper, now: int = NOW) -> Verdict:
        answer = keeper.answer(ANN, self.head.size if self.head else 0, self.trace.counter)
        answer.check(ANN, self.head, keeper.public, self.trace.counter)
        verdict = watch.peer(self.trace, answer.lists, self.given, now)
        self.head, self.trace = answer.head, verdict.trace
        return verdict


@pytest.fixture
def keeper() -> Keeper:
    keeper = Keeper()
    keeper.publish(*((account, digest("x")) for account in OTHERS))
    return keeper


@pytest.fixture
def owner(keeper: Keeper) -> Owner:
    owner = Owner()
    keeper.publish((ANN, owner.sign("one")))
    assert owner.look(keeper) == Verdict(owner.trace)
    return owner


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["sign", "other", "own", "bob", "cay"]), max_size=40))
def test_an_honest_server_is_never_accused(steps: list[str]) -> None:
    keeper, owner = Keeper(), Owner()
    contacts = {"bob": Contact(), "cay": Contact()}
    for number, step in enumerate(steps):
        if step == "sign":
            keeper.publish((ANN, owner.sign(str(number))))
        elif step == "other":
            keeper.publish((OTHERS[0], digest(str(number))))
        elif step == "own":
            verdict = owner.look(keeper)
            assert (verdict.reason, verdict.unlike) == (None, False)
        else:
            contacts[step].given = owner.made[-1] if owner.made else None
            verdict = contacts[step].look(keeper)
            assert (verdict.reason, verdict.unlike) == (None, False)


def test_a_ghost_list_that_stays_is_seen_by_its_owner(keeper: Keeper, owner: Owner) -> None:
    contact = Contact(owner.made[-1])
    contact.look(keeper)
    keeper.publish((ANN, digest("ghost")))
    contact.given = digest("ghost")
    assert contact.look(keeper).reason is None, "to a contact it looks as any other change"
    assert owner.look(keeper).reason is Reason.GHOST


def test_a_ghost_list_that_is_replaced_by_the_true_one_is_seen_by_its_owner(
    keeper: Keeper, owner: Owner
) -> None:
    keeper.publish((ANN, digest("ghost")))
    keeper.publish((ANN, owner.made[-1]))
    assert owner.look(keeper).reason is Reason.GHOST


def test_a_ghost_list_that_is_taken_back_is_seen_by_the_contact_who_saw_it(
    keeper: Keeper, owner: Owner
) -> None:
    contact = Contact(owner.made[-1])
    contact.look(keeper)
    keeper.publish((ANN, digest("ghost")))
    contact.given = digest("ghost")
    assert contact.look(keeper).reason is None
    keeper.set_lists(ANN, [*owner.made])
    keeper.close_epoch()
    assert owner.look(keeper).reason is None, "its owner has not looked in between"
    contact.given = owner.made[-1]
    assert contact.look(keeper).reason is Reason.ROLLBACK


def test_a_ghost_list_that_is_written_over_is_seen_by_the_contact_who_saw_it(
    keeper: Keeper, owner: Owner
) -> None:
    contact = Contact(digest("ghost"))
    keeper.publish((ANN, digest("ghost")))
    assert contact.look(keeper).reason is None
    keeper.set_lists(ANN, [*owner.made, owner.sign("two"), owner.sign("three")])
    keeper.close_epoch()
    assert owner.look(keeper).reason is None
    contact.given = owner.made[-1]
    assert contact.look(keeper).reason is Reason.ROLLBACK


def test_a_ghost_list_in_a_log_of_its_own_needs_a_fork(keeper: Keeper, owner: Owner) -> None:
    """Contact and owner are shown two logs. Neither can ever be shown the other's, and the heads,
    once compared, are the evidence."""
    contact = Contact(owner.made[-1])
    contact.look(keeper)
    other = keeper.fork()
    other.publish((ANN, digest("ghost")))
    contact.given = digest("ghost")
    assert contact.look(other).reason is None
    keeper.publish((OTHERS[0], digest("y")))
    assert owner.look(keeper).reason is None
    assert owner.head is not None and contact.head is not None
    assert owner.head.size == contact.head.size
    assert owner.head.digest() != contact.head.digest()
    for viewer, log in ((owner, other), (contact, keeper)):
        log.publish((OTHERS[1], digest("z")))
        with pytest.raises(BadProof):
            viewer.look(log)


def test_a_list_that_was_given_and_never_logged_is_an_alarm_after_a_while(
    keeper: Keeper, owner: Owner
) -> None:
    contact = Contact(digest("ghost"))
    late = limits.LOG_GRACE_HOURS * HOUR_MS
    assert contact.look(keeper) == Verdict(contact.trace, None, unlike=True)
    assert contact.look(keeper, NOW + late - 1).reason is None
    assert contact.look(keeper, NOW + late).reason is Reason.MISSING


def test_a_list_that_is_logged_in_time_is_none(keeper: Keeper, owner: Owner) -> None:
    contact = Contact(owner.sign("two"))
    assert contact.look(keeper).unlike
    keeper.publish((ANN, owner.made[-1]))
    late = NOW + limits.LOG_GRACE_HOURS * HOUR_MS
    assert contact.look(keeper, late) == Verdict(contact.trace)
    contact.given = owner.sign("three")
    assert contact.look(keeper, late).reason is None, "the days of the next one are counted anew"


def test_a_clock_set_back_gives_no_alarm_too_early(keeper: Keeper, owner: Owner) -> None:
    contact = Contact(digest("two"))
    contact.look(keeper, NOW)
    assert contact.look(keeper, NOW - 9 * HOUR_MS).reason is None
    late = limits.LOG_GRACE_HOURS * HOUR_MS
    assert contact.look(keeper, NOW - 9 * HOUR_MS + late).reason is Reason.MISSING


def test_an_owner_whose_list_is_not_logged_puts_it_again(keeper: Keeper, owner: Owner) -> None:
    owner.sign("two")
    assert owner.look(keeper).unlike
    keeper.publish((ANN, owner.made[-1]))
    assert owner.look(keeper) == Verdict(owner.trace)


def test_an_old_list_that_is_put_back_is_seen_by_its_owner(keeper: Keeper, owner: Owner) -> None:
    keeper.publish((ANN, owner.sign("two")))
    keeper.publish((ANN, owner.sign("three")))
    assert owner.look(keeper).reason is None
    keeper.publish((ANN, owner.made[1]))
    assert owner.look(keeper).reason is Reason.GHOST


def test_each_ghost_is_an_alarm_and_each_only_once(keeper: Keeper, owner: Owner) -> None:
    for name in ("ghost", "spectre"):
        keeper.publish((ANN, digest(name)))
        assert owner.look(keeper).reason is Reason.GHOST
        assert owner.look(keeper).reason is None
    keeper.publish((ANN, owner.sign("two")))
    assert owner.look(keeper) == Verdict(owner.trace)


def test_lists_of_an_installation_before_this_one_are_no_ghosts(keeper: Keeper) -> None:
    for name in ("old", "older"):
        keeper.publish((ANN, digest(name)))
    owner = Owner()
    owner.sign("new")
    assert owner.look(keeper).reason is None, "not logged yet"
    keeper.publish((ANN, owner.made[0]))
    assert owner.look(keeper) == Verdict(owner.trace)
    keeper.publish((ANN, digest("old")))
    assert owner.look(keeper).reason is Reason.GHOST


def test_an_account_that_was_there_cannot_vanish(keeper: Keeper, owner: Owner) -> None:
    assert watch.own(owner.trace, None, owner.made, NOW).reason is Reason.ROLLBACK
    assert watch.peer(Trace(1, bytes(32)), None, None, NOW).reason is Reason.ROLLBACK
    assert watch.peer(Trace(), None, None, NOW) == Verdict(Trace())


def test_who_was_away_for_very_many_lists_begins_anew(keeper: Keeper, owner: Owner) -> None:
    contact = Contact(owner.made[-1])
    contact.look(keeper)
    names = [digest(str(number)) for number in range(limits.LOG_HISTORY + 5)]
    keeper.set_lists(ANN, [digest("one"), *names])
    keeper.close_epoch()
    contact.given = names[-1]
    assert contact.look(keeper) == Verdict(contact.trace)
    assert contact.trace.counter == len(names) + 1


def test_a_ghost_list_is_not_hidden_behind_many_true_ones(keeper: Keeper, owner: Owner) -> None:
    true = [owner.made[-1]] * limits.LOG_HISTORY
    keeper.set_lists(ANN, [*owner.made, digest("ghost"), *true])
    keeper.close_epoch()
    assert owner.look(keeper).reason is Reason.GHOST


@settings(max_examples=120, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(3, 25))
def test_whatever_a_server_does_to_a_list_that_was_seen_somebody_sees(
    chance: random.Random, steps: int
) -> None:
    """The server shows a contact a list that Ann has not made, and then does as it likes with her
    entry, in one log. At the end the owner or the contact has raised an alarm."""
    keeper, owner, contact = Keeper(), Owner(), Contact()
    keeper.publish((ANN, owner.sign("one")))
    owner.look(keeper)
    seen, ghost = set(), digest("ghost")
    keeper.publish((ANN, ghost))
    contact.given = ghost
    seen.add(contact.look(keeper).reason)
    for number in range(steps):
        match chance.choice(["take back", "cover", "true", "shuffle", "own", "contact"]):
            case "take back":
                keeper.set_lists(ANN, [each for each in keeper.lists[ANN] if each != ghost])
                keeper.close_epoch()
            case "cover":
                lists = [owner.made[0] if each == ghost else each for each in keeper.lists[ANN]]
                keeper.set_lists(ANN, lists)
                keeper.close_epoch()
            case "true":
                keeper.publish((ANN, owner.sign(str(number))))
            case "shuffle":
                lists = list(keeper.lists[ANN])
                chance.shuffle(lists)
                keeper.set_lists(ANN, lists)
                keeper.close_epoch()
            case "own":
                seen.add(owner.look(keeper).reason)
            case "contact":
                contact.given = keeper.lists[ANN][-1]
                seen.add(contact.look(keeper).reason)
    contact.given = keeper.lists[ANN][-1]
    seen |= {owner.look(keeper).reason, contact.look(keeper).reason}
    assert seen & {Reason.GHOST, Reason.ROLLBACK}


def test_a_head_gets_old() -> None:
    head = Keeper().head()
    assert not watch.is_stale(head, NOW + limits.LOG_HEAD_HOURS * HOUR_MS)
    assert watch.is_stale(head, NOW + limits.LOG_HEAD_HOURS * HOUR_MS + 1)
    assert not watch.is_stale(head, NOW - HOUR_MS)


def test_every_reason_has_its_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
