"""What the person settles: accepting, blocking, names, read receipts, synced over their devices.

The server keeps the accounts whose messages it is to drop, so that they do not even arrive. It is
told again until it has taken them. Pure, over the device's file.
"""

from __future__ import annotations

from typing import Final

from raychat import limits
from raychat.client.applying import Applier
from raychat.client.signals import Answer, BlocksKept, Choose, Effect, PublishBlocks, Tell
from raychat.client.store import DeviceStore, Own
from raychat.client.syncing import Syncing
from raychat.errors import RaychatError
from raychat.ids import AccountId
from raychat.wire.content import Settings

_OWED: Final = "blocks owed"


def are_owed(store: DeviceStore) -> bool:
    """Whether the server is still to be told of blocked accounts."""
    return bool(store.fact(_OWED))


class Choices:
    """The settings of the account. Methods belong to a transaction."""

    def __init__(self, store: DeviceStore, own: Own, syncing: Syncing) -> None:
        self._store = store
        self._own = own
        self._syncing = syncing
        self._applier = Applier(store)

    def choose(self, item: Choose, now: int) -> list[Effect]:
        """Make settings here, and let the other devices and the server know."""
        own = self._store.history.open_conversation(self._own.account)
        try:
            composed = self._applier.compose(own.id, Settings(now, tuple(item.settings)), now)
        except RaychatError as error:
            return [Answer(item.ticket, error)]
        self._syncing.owe(composed.content)
        if any(setting.name == "blocked" for setting in item.settings):
            self._store.set_fact(_OWED, 1)
        told: list[Effect] = [Tell(event) for event in composed.events]
        return [*told, *self.publish(), Answer(item.ticket, None)]

    def publish(self) -> list[Effect]:
        """Tell the server whom this person has blocked, if this device has changed that."""
        return [PublishBlocks(self._blocked())] if self._store.fact(_OWED) else []

    def blocks_kept(self, item: BlocksKept) -> list[Effect]:
        """The server has taken them."""
        if item.accounts == self._blocked():
            self._store.set_fact(_OWED, 0)
        return []

    def _blocked(self) -> frozenset[AccountId]:
        return frozenset(self._store.history.blocked()[: limits.BLOCKED])
