"""What this device remembers of the key-transparency log, in its file.

The log's key and the latest head it was shown, what it has seen of each account there, which own
device lists it has signed, and the heads that do not fit together, if ever there are any.
Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from typing import NamedTuple

from raychat.client.rows import Rows
from raychat.ids import AccountId
from raychat.transparency.head import SignedHead
from raychat.transparency.watch import Trace

EVIDENCE_KEPT = 16


class Evidence(NamedTuple):
    """Two heads of one key, of which only one can be true, and when (ms) that was found."""

    at: int
    kept: SignedHead
    shown: SignedHead


class KeyLog(Rows):
    """The tables `key_log`, `key_trace`, `signed_list` and `key_log_evidence`."""

    def key(self) -> bytes | None:
        """The log's key, trusted since it was first seen."""
        row = self._row("SELECT key FROM key_log")
        return row[0] if row else None

    def head(self) -> SignedHead | None:
        """The latest head."""
        row = self._row("SELECT head FROM key_log")
        return SignedHead.parse(row[0]) if row and row[0] is not None else None

    def trust(self, key: bytes) -> None:
        """The first key that is seen."""
        self._db.execute("INSERT OR IGNORE INTO key_log VALUES (1, ?, NULL)", (key,))

    def set_head(self, head: SignedHead) -> None:
        self._db.execute("UPDATE key_log SET head = ?", (head.to_bytes(),))

    # -- accounts --------------------------------------------------------------------------

    def trace(self, account: AccountId) -> Trace:
        """What was seen of an account; an empty trace if nothing was."""
        row = self._row(
            "SELECT counter, chain, newest, unlike_since, mine FROM key_trace WHERE account = ?",
            account,
        )
        return Trace(*row) if row else Trace()

    def set_trace(self, account: AccountId, trace: Trace, now: int) -> None:
        """It was looked at now (ms)."""
        self._db.execute(
            "INSERT OR REPLACE INTO key_trace VALUES (?, ?, ?, ?, ?, ?, ?)",
            (account, *trace, now),
        )

    def looked_at(self, account: AccountId) -> int:
        """When (ms) an account was looked at last, 0 if never."""
        row = self._row("SELECT looked FROM key_trace WHERE account = ?", account)
        return row[0] if row else 0

    def others(self, own: AccountId) -> list[tuple[AccountId, bytes]]:
        """The other accounts that have a device list here, with the list."""
        rows = self._rows("SELECT account, list FROM device_list WHERE account <> ?", own)
        return [(AccountId(account), data) for account, data in rows]

    # -- own lists -------------------------------------------------------------------------

    def signed_lists(self, account: AccountId) -> list[bytes]:
        """The hashes of all lists this device has signed for its account, the newest last."""
        rows = self._rows(
            "SELECT digest FROM signed_list WHERE account = ? ORDER BY position", account
        )
        return [digest for (digest,) in rows]

    # -- evidence --------------------------------------------------------------------------

    def add_evidence(self, kept: SignedHead, shown: SignedHead, now: int) -> None:
        """The first ones count; a server that goes on lying fills no disk."""
        if self._row("SELECT count(*) FROM key_log_evidence")[0] < EVIDENCE_KEPT:
            self._db.execute(
                "INSERT OR IGNORE INTO key_log_evidence VALUES (?, ?, ?)",
                (kept.to_bytes(), shown.to_bytes(), now),
            )

    def evidence(self) -> list[Evidence]:
        """Pairs of signed heads that anybody can check with the log's key."""
        rows = self._rows("SELECT at, kept, shown FROM key_log_evidence ORDER BY at")
        return [Evidence(at, SignedHead.parse(k), SignedHead.parse(s)) for at, k, s in rows]
