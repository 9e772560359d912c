"""A device's history without a device: a file in memory of what it is, and what is said."""

from __future__ import annotations

from pathlib import Path

from raychat.client.applying import Applied, Applier
from raychat.client.model import Message
from raychat.client.schema import MIGRATIONS
from raychat.client.store import DeviceStore
from raychat.database import connect, migrate
from raychat.ids import AccountId, DeviceId, MessageId, PhoneNumber, Secret
from raychat.wire import content
from raychat.wire.content import Content, MessageName

ME = AccountId(b"m" * 16)
BOB = AccountId(b"b" * 16)
NOW = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def mine(id_: int, device: int = 1) -> MessageName:
    return MessageName(ME, DeviceId(device), 1, MessageId(id_))


def bobs(id_: int, device: int = 1) -> MessageName:
    return MessageName(BOB, DeviceId(device), 1, MessageId(id_))


class Book:
    """The history of one device of ME, who writes with BOB."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        store = DeviceStore.__new__(DeviceStore)
        store._lock = None
        store._db = connect(Path(path))
        migrate(store._db, MIGRATIONS)
        store._open()
        self.store = store
        with store.transaction():
            store.prepare(PhoneNumber("+15550001111"), "http://server")
            store.register(ME, DeviceId(1), 1, Secret(bytes(32)))
        self.applier = Applier(store)
        self.now = NOW
        self.sent = 0

    def close(self) -> None:
        self.store.close()

    def apply(
        self,
        name: MessageName,
        said: Content,
        *,
        at: int | None = None,
        peer: AccountId = BOB,
    ) -> Applied:
        """Something arrives: of a peer, or of another device of one's own to one's own account."""
        own = name.account == ME
        to = ME if own else peer
        with self.store.transaction():
            return self.applier.apply(name, to, own, said, said.at if at is None else at, self.now)

    def synced(self, name: MessageName, said: Content, *, at: int | None = None) -> Applied:
        """Another device of one's own has sent this to BOB."""
        when = said.at if at is None else at
        sent = content.Sent(said.at, BOB, name, when, content.encode(said))
        return self.apply(mine(900 + name.id, name.device), sent)

    def say(self, said: Content) -> Content:
        """This device says something to BOB; the server has it at once."""
        with self.store.transaction():
            here = self.store.history.open_conversation(BOB)
            composed = self.applier.compose(here.id, said, self.now)
            self.sent += 1
            if composed.key is not None:
                self.store._db.execute(
                    "UPDATE message SET device = 1, incarnation = 1, id = ?, state = 2, at = ?,"
                    " expires_at = ?2 + timer * 1000 WHERE key = ?",
                    (self.sent, said.at, composed.key),
                )
        return composed.content

    def messages(self) -> list[Message]:
        return self.store.history.history(limit=10_000, now=self.now)

    def message(self, name: MessageName) -> Message:
        (found,) = [message for message in self.messages() if message.name == name]
        return found

    def texts(self) -> list[str | None]:
        return [message.text for message in self.messages()]

    def expire(self, now: int) -> int | None:
        self.now = now
        with self.store.transaction():
            return self.applier.expire(now)[1]
