"""One device of a User, and one device that sends to it, as they are in memory."""

from __future__ import annotations

from collections import deque

from raychat import limits
from raychat.ids import AccountId, DeviceId
from raychat.users.events import DeviceRecord, PeerRecord, PutDevice, Session

DIGEST_BYTES = 4


class Peer:
    """One device that sends to this User: its last id and the digests of its latest."""

    __slots__ = ("incarnation", "last", "recent")

    def __init__(self, record: PeerRecord | None) -> None:
        self.incarnation, self.last, self.recent = record or (0, 0, b"")

    def take(self, message: int, digest: bytes) -> None:
        self.last = message
        self.recent = (self.recent + digest)[-DIGEST_BYTES * limits.ID_WINDOW :]

    def digest(self, message: int) -> bytes | None:
        """The digest of an earlier message, None if it is too long ago."""
        end = len(self.recent) - DIGEST_BYTES * (self.last - message)
        return self.recent[end - DIGEST_BYTES : end] if end > 0 else None


class Device:
    """One device of this User. Numbers: cursor ≤ pushed ≤ head.

    `window` holds (number, size, time, sender, device, incarnation, id) of what was pushed and
    not yet acknowledged; it is empty while no connection is there.
    """

    __slots__ = (
        "box",
        "cursor",
        "head",
        "incarnation",
        "next_hash",
        "pushed",
        "seen",
        "session",
        "token_hash",
        "window",
        "window_bytes",
    )

    def __init__(self, record: DeviceRecord) -> None:
        _, self.box, self.incarnation, self.token_hash = record[:4]
        self.cursor, self.head, self.next_hash, self.seen = record[4:]
        self.session: Session | None = None
        self.pushed = self.cursor
        self.window: deque[tuple[int, int, int, AccountId, DeviceId, int, int]] | None = None
        self.window_bytes = 0

    def put(self, account: AccountId, number: DeviceId) -> PutDevice:
        """What makes it durable as it is."""
        token = (self.incarnation, self.token_hash, self.box, self.next_hash, self.seen)
        return PutDevice(account, number, *token)

    def has_room(self) -> bool:
        return self.window is not None and (
            not self.window
            or (
                len(self.window) < limits.PUSH_WINDOW
                and self.window_bytes < limits.PUSH_WINDOW_BYTES
            )
        )

    def leave(self) -> None:
        self.session = None
        self.window = None
        self.window_bytes = 0
        self.pushed = self.cursor
