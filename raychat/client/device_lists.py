"""The signed device lists of accounts, as this device has verified them, in its file.

Of each account the newest list is kept, with the account key it is signed by. The first key of
an account is trusted; another one later means that it was registered anew, of which the person
is told once. A list of the same key is only ever replaced by one of a higher version.

A device's identity key is what the list says it is: this is all the trust there is in it. What
has left a list lately is still listened to, for messages that were under way, and never written
to. Methods that write are called inside `DeviceStore.transaction()`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import apsw

from raychat import limits
from raychat.client.rows import Rows
from raychat.crypto import IdentityKeyPair, PublicKey
from raychat.crypto.device_list import DeviceList, ListedDevice, SignedDeviceList
from raychat.errors import GhostDevice, ListRolledBack, Malformed
from raychat.ids import AccountId, Address, DeviceId

HELD: Final = 1_024
_FORMER_MS: Final = limits.FORMER_DEVICE_MINUTES * 60_000


class ListChange(NamedTuple):
    """An account has another list than before (None: there was none)."""

    account: AccountId
    before: DeviceList | None
    after: DeviceList

    @property
    def is_new_key(self) -> bool:
        """Whether the account was registered anew, or someone stands in its place."""
        return self.before is not None and self.before.account_key != self.after.account_key

    @property
    def added(self) -> list[ListedDevice]:
        """Devices, or identities of them, that were not there before."""
        before = _identities(self.before)
        return [each for each in self.after.devices if before.get(each.device) != each.identity]

    @property
    def removed(self) -> list[ListedDevice]:
        """Devices, or identities of them, that are not there any more."""
        if self.before is None:
            return []
        after = _identities(self.after)
        return [each for each in self.before.devices if after.get(each.device) != each.identity]


class DeviceLists(Rows):
    """The tables `device_list` and `former_device`."""

    __slots__ = ("_held",)

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(db)
        self._held: OrderedDict[AccountId, DeviceList | None] = OrderedDict()

    def forget(self) -> None:
        """The transaction was rolled back: what is held may not be what is in the file."""
        self._held.clear()

    def current(self, account: AccountId) -> DeviceList | None:
        """The newest list of an account that was verified."""
        if account in self._held:
            self._held.move_to_end(account)
            return self._held[account]
        row = self._row("SELECT list FROM device_list WHERE account = ?", account)
        listed = SignedDeviceList.parse(row[0]).unverified if row else None
        self._held[account] = listed
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return listed

    def signed(self, account: AccountId) -> bytes | None:
        """The same with its signature, as it came."""
        row = self._row("SELECT list FROM device_list WHERE account = ?", account)
        return row[0] if row else None

    def version(self, account: AccountId) -> int:
        """Its version; 0 if there is none."""
        listed = self.current(account)
        return listed.version if listed else 0

    def account_key(self, account: AccountId) -> PublicKey | None:
        """What the safety number of the account is of."""
        listed = self.current(account)
        return listed.account_key if listed else None

    def identity(self, address: Address) -> PublicKey | None:
        """The identity key of a device; None if it is not in its account's list."""
        listed = self.current(address.account)
        return listed.identity(address.device) if listed else None

    def is_former(self, address: Address, key: PublicKey | None = None) -> bool:
        """Whether the device was in the list until lately, as this key if one is given."""
        row = self._row(
            "SELECT 1 FROM former_device WHERE account = ? AND device = ?"
            " AND (?3 IS NULL OR identity = ?3)",
            *address,
            key.data if key else None,
        )
        return row is not None

    def take(
        self, account: AccountId, data: bytes, now: int, key: PublicKey | None = None
    ) -> ListChange | None:
        """Take a list the server gave, if it is newer. `key` is the account's if it may not be
        another one. Raises BadSignature, GhostDevice, ListRolledBack, Malformed, InvalidKey.
        """
        signed = SignedDeviceList.parse(data)
        listed = signed.verify(key or signed.account_key)
        if listed.account != account:
            raise Malformed("The device list is of another account.")
        before = self.current(account)
        if before is not None and before.account_key == listed.account_key:
            if listed == before:
                return None
            if listed.version < before.version:
                raise ListRolledBack
            if listed.version == before.version:
                raise GhostDevice("There are two device lists of the same version.")
        self._db.execute(
            "INSERT INTO device_list VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " key = excluded.key, version = excluded.version, list = excluded.list",
            (account, listed.account_key.data, listed.version, data),
        )
        self._held[account] = listed
        change = ListChange(account, before, listed)
        for entry in change.added:  # what it sent before was not believed: it is asked for now
            self._db.execute(
                "UPDATE healing SET due = max(next, ?) WHERE account = ? AND device = ?",
                (now, account, entry.device),
            )
        for entry in change.removed:
            self._db.execute(
                "INSERT INTO former_device VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET until = excluded.until",
                (account, entry.device, entry.identity.data, now + _FORMER_MS),
            )
            self._db.execute(
                "DELETE FROM peer_device WHERE account = ? AND device = ?", (account, entry.device)
            )
        return change

    def expire(self, now: int) -> int | None:
        """Forget what has left a list long ago. When (ms) there is more to forget."""
        self._db.execute("DELETE FROM former_device WHERE until <= ?", (now,))
        row = self._row("SELECT min(until) FROM former_device")
        due: int | None = row[0] if row else None
        return due

    # -- the own list ----------------------------------------------------------------------

    def sign(self, listed: DeviceList, identity: IdentityKeyPair) -> bytes:
        """Sign the own list with the primary's key pair; no version is ever signed twice.

        Commit before the list leaves the device.
        """
        version = max(listed.version, self.highest_signed() + 1)
        signed = SignedDeviceList.sign(
            DeviceList(listed.account, version, listed.at, listed.devices), identity
        )
        self._db.execute(
            "INSERT INTO fact VALUES ('signed list', ?1) ON CONFLICT DO UPDATE SET value = ?1",
            (version,),
        )
        # The key log may have these lists of the account, and no others: see `transparency`.
        self._db.execute(
            "INSERT INTO signed_list (account, digest) VALUES (?, ?)",
            (listed.account, signed.digest()),
        )
        return signed.to_bytes()

    def highest_signed(self) -> int:
        """The highest version of the own list this device has ever signed."""
        row = self._row("SELECT value FROM fact WHERE name = 'signed list'")
        return int(row[0]) if row else 0


def _identities(listed: DeviceList | None) -> dict[DeviceId, PublicKey]:
    return {each.device: each.identity for each in listed.devices} if listed else {}
