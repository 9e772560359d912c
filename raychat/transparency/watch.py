"""What a device makes of what the log says: its own account must have just the lists it has
signed, another's must have the list it was given, and nothing may ever be taken back.

The server must put a list into the log before others are to believe it. A list that only some see
(a ghost device, a key in somebody's place) then stands in the log for its owner to find. To hide
it from the owner the server would have to take it back, and whoever has seen it notices that: an
entry's counter never goes down, and its chain only grows at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from raychat import limits
from raychat.transparency.answer import Lists
from raychat.transparency.head import NO_LISTS, SignedHead, chained

HOUR_MS: Final = 3_600_000


class Reason(StrEnum):
    """Why a device raises an alarm. The values are stable; `SENTENCES` says them to people."""

    SIGNER = "signer"
    FORK = "fork"
    PROOF = "proof"
    STALE = "stale"
    ROLLBACK = "rollback"
    GHOST = "ghost"
    MISSING = "missing"


SENTENCES: Final = {
    Reason.SIGNER: "The key log is signed by another key than before.",
    Reason.FORK: "The key log is not the one this device saw before: its past was rewritten.",
    Reason.PROOF: "The server cannot prove what its key log says.",
    Reason.STALE: "The server shows an old state of its key log.",
    Reason.ROLLBACK: "A list of devices that was in the key log was taken back.",
    Reason.GHOST: "A list of devices that this device has not signed was published for it.",
    Reason.MISSING: "The list of devices that the server gave is not the one in its key log.",
}


class Trace(NamedTuple):
    """What a device remembers of an account in the log: the counter and chain hash it saw, the
    newest list's hash, since when (ms; 0 if not) that is another one than it was given, and how
    many of the lists that it has itself made it saw there."""

    counter: int = 0
    chain: bytes = NO_LISTS
    newest: bytes = b""
    unlike_since: int = 0
    mine: int = 0


class Verdict(NamedTuple):
    """What to remember, what is wrong, and whether the account's list should be fetched anew, or
    (of the own account) put again: the log has another one."""

    trace: Trace
    reason: Reason | None = None
    unlike: bool = False


def is_stale(head: SignedHead, now: int) -> bool:
    """Whether a head was signed too long ago to be the log's latest, by this device's clock."""
    return now - head.time > limits.LOG_HEAD_HOURS * HOUR_MS


def peer(trace: Trace, lists: Lists | None, given: bytes | None, now: int) -> Verdict:
    """Judge a proven answer about another account (or, on a linked device, the own one).

    `given` is the hash of the device list the server has given for it, None without one.
    """
    after = _continued(trace, lists)
    if after is None:
        return Verdict(trace, Reason.ROLLBACK)
    return _compared(trace, after, given, now)


def own(trace: Trace, lists: Lists | None, made: Sequence[bytes], now: int) -> Verdict:
    """Judge a proven answer about the account of this primary device.

    `made` are the hashes of all lists it has ever signed, the newest last. What was there before
    the first of them was another installation's.
    """
    after = _continued(trace, lists)
    if after is None:
        return Verdict(trace, Reason.ROLLBACK)
    mine, ghost = _own_lists(trace, lists, made)
    after = after._replace(mine=mine)
    if ghost:
        return Verdict(after, Reason.GHOST, unlike=True)
    return _compared(trace, after, made[-1] if made else None, now)


def _continued(trace: Trace, lists: Lists | None) -> Trace | None:
    """The trace after a proven answer, None if that does not continue it."""
    if lists is None:
        return trace if trace.counter == 0 else None
    entry, base, latest = lists
    after = Trace(entry.counter, entry.chain, latest[-1], trace.unlike_since, trace.mine)
    known = trace.counter - lists.before
    if known < 0:  # more has happened than an answer holds: nothing to compare
        return after
    if known > len(latest) or chained(base, latest[:known]) != trace.chain:
        return None
    return after


def _own_lists(trace: Trace, lists: Lists | None, made: Sequence[bytes]) -> tuple[int, bool]:
    """How many of the lists it has made the log has had, and whether a list came that it has not
    made, or one that it had replaced already."""
    mine, ghost = trace.mine, False
    if lists is None:
        return mine, ghost
    if mine and lists.before - trace.counter > len(made) - mine:
        ghost = True  # more lists than an answer holds, and more than it has made
    places = {digest: number for number, digest in enumerate(made, start=1)}
    for digest in lists.latest[max(0, trace.counter - lists.before) :]:
        number = places.get(digest)
        if number is not None and number >= mine:
            mine = number
        elif number is not None or mine:  # else it is of an installation before this one
            ghost = True
    return mine, ghost


def _compared(before: Trace, after: Trace, given: bytes | None, now: int) -> Verdict:
    """The log and the server's word may differ for a while: a list is first given, then logged."""
    if given is None or after.newest == given:
        return Verdict(after._replace(unlike_since=0))
    since = min(before.unlike_since or now, now)  # the clock may have been set back
    late = now - since >= limits.LOG_GRACE_HOURS * HOUR_MS
    reason = Reason.MISSING if late else None
    return Verdict(after._replace(unlike_since=since), reason, unlike=True)
