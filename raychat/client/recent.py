"""What was sent lately, kept to send it once more to a device that could not open it.

Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgpack

from raychat import limits
from raychat.client.rows import Rows
from raychat.errors import BadRequest
from raychat.ids import AccountId, Address
from raychat.wire import content
from raychat.wire.content import Edit, MessageName, Resend, Sent

_DAY_MS = 86_400_000


class Kept(NamedTuple):
    """A content that was sent: to which devices, and under which key of their account."""

    content: bytes
    key: bytes
    devices: frozenset[tuple[int, int]]
    tries: int

    def __repr__(self) -> str:
        return f"Kept({len(self.content)} bytes)"


class Recent(Rows):
    """The table `recent`. `name` is (account it was sent to, own incarnation, id)."""

    def keep(
        self,
        name: tuple[AccountId, int, int],
        content: bytes,
        key: bytes,
        devices: Sequence[tuple[int, int]],
        at: int,
    ) -> None:
        """Keep what the server has acknowledged; the oldest to that account gives way."""
        self._db.execute(
            "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (*name, content, key, msgpack.packb(devices), at),
        )
        account, incarnation, id_ = name
        self._db.execute(
            "DELETE FROM recent WHERE account = ? AND incarnation = ? AND id <= ?",
            (account, incarnation, id_ - limits.RETRY_MESSAGES),
        )

    def find(self, name: tuple[AccountId, int, int]) -> Kept | None:
        row = self._row(
            "SELECT content, key, devices, tries FROM recent"
            " WHERE account = ? AND incarnation = ? AND id = ?",
            *name,
        )
        if row is None:
            return None
        content, key, devices, tries = row
        return Kept(content, key, frozenset((d, i) for d, i in msgpack.unpackb(devices)), tries)

    def tried(self, name: tuple[AccountId, int, int]) -> None:
        """It was sent once more."""
        self._db.execute(
            "UPDATE recent SET tries = tries + 1 WHERE account = ? AND incarnation = ? AND id = ?",
            name,
        )

    def forget(self, name: tuple[AccountId, int, int]) -> None:
        """It is not to be sent any more: it was deleted for everyone."""
        self._db.execute(
            "DELETE FROM recent WHERE account = ? AND incarnation = ? AND id = ?", name
        )

    def forget_words(self, own: Address, peer: AccountId, names: Collection[MessageName]) -> None:
        """Messages of this account to a peer are gone from the history: so are their words,
        wherever they are kept: by themselves, in an edit, or for one's own other devices."""
        gone = set(names)
        for account in {peer, own.account}:
            for incarnation, id_, data in self._rows(
                "SELECT incarnation, id, content FROM recent WHERE account = ?", account
            ):
                name = MessageName(own.account, own.device, incarnation, id_)
                said = name in gone and account == peer
                if said or not gone.isdisjoint(_words_of(data, own.account, peer)):
                    self.forget((account, incarnation, id_))

    def expire(self, now: int) -> None:
        """Forget what is older than what waits in any inbox."""
        self._db.execute(
            "DELETE FROM recent WHERE at < ?", (now - limits.RETENTION_DAYS * _DAY_MS,)
        )


def _words_of(data: bytes, own: AccountId, peer: AccountId) -> set[MessageName]:
    """The messages to a peer whose words are in a content, besides its own."""
    try:
        said = content.decode(data)
        match said:
            case Edit(target=target):
                return {target}
            case Resend(message=message):
                return {message.of(own)}
            case Sent(peer=to, name=name, content=inner) if to == peer:
                return {name} | _words_of(inner, own, peer)
    except BadRequest:  # kept by a later version
        pass
    return set()
