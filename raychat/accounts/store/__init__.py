"""Where accounts and registrations last."""

from raychat.accounts.store.protocol import AccountStore, Record, Resting
from raychat.accounts.store.sqlite import SqliteAccountStore

__all__ = ["AccountStore", "Record", "Resting", "SqliteAccountStore"]
