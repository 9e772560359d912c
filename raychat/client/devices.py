"""Whom a message is addressed to: the rules of device lists, of peers and one's own.

The server says which devices an account has, each with its incarnation; the account's signed
list says which of them are its own. A message goes to the devices of which both is true. What
the server names beyond the list is refused, whatever it takes: nothing is encrypted for it.

The own list is watched too. Each change is told to the person, and the primary signs a new list
when a device has removed itself or the server has lost the list. Pure, over the device's file;
methods belong to a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raychat.client.events import (
    DeviceAdded,
    DeviceRefused,
    DeviceRemoved,
    IdentityChanged,
)
from raychat.client.signals import (
    DeviceBundle,
    DevicesFound,
    Effect,
    KeysFound,
    PublishList,
    Tell,
    WantDevices,
    WantKeys,
)
from raychat.client.store import DeviceStore, Own
from raychat.crypto import PublicKey, SessionCipher
from raychat.crypto.device_list import DeviceList, check_device_signature
from raychat.errors import BadSignature, CryptoError, GhostDevice, NoKeys, RaychatError
from raychat.ids import PRIMARY, AccountId, Address, DeviceId

RETRY_MS: Final = 1_000
RETRY_MAX_MS: Final = 600_000


class Devices:
    """The devices of all accounts, as far as this device knows and believes."""

    def __init__(self, store: DeviceStore, own: Own, cipher: SessionCipher) -> None:
        self._store = store
        self._own = own
        self._cipher = cipher
        self._announced = 0
        self._tries = 0
        self.retry_at = 0
        """When (ms) to ask for the own list again; 0 if it is as new as the server says."""

    def new_connection(self) -> None:
        self._announced = self._tries = self.retry_at = 0

    # -- what is known ---------------------------------------------------------------------

    @property
    def is_primary(self) -> bool:
        return self._own.device == PRIMARY

    @property
    def has_others(self) -> bool:
        """Whether the own account has more devices than this one."""
        listed = self._store.lists.current(self._own.account)
        return listed is not None and len(listed.devices) > 1

    def own_key(self) -> PublicKey | None:
        """The own account's key, which no server can change."""
        if self.is_primary:
            return self._store.keys.identity_key_pair().public
        return self._store.lists.account_key(self._own.account)

    def can_write(self, address: Address, now: int) -> bool:
        """Whether there is a session to write in, with the very device of the list."""
        record = self._store.keys.load_session(address)
        current = record.current if record else None
        return (
            current is not None
            and not current.is_stale(now)
            and current.remote_identity == self._store.lists.identity(address)
        )

    def addressed(self, account: AccountId, now: int) -> tuple[dict[DeviceId, int], list[DeviceId]]:
        """The devices a message is for, with their incarnations, and those that lack a session."""
        devices = {
            device: incarnation
            for device, incarnation in sorted(self._store.peers.devices(account).items())
            if self._store.lists.identity(Address(account, device)) is not None
        }
        return devices, [d for d in devices if not self.can_write(Address(account, d), now)]

    # -- what is learned -------------------------------------------------------------------

    def heard_from(self, address: Address, incarnation: int) -> None:
        """A device has written, so it is there."""
        if address != self._own.address and self._store.lists.identity(address) is not None:
            self._store.peers.put_device(*address, incarnation)

    def take(self, account: AccountId, data: bytes | None, now: int) -> list[Effect]:
        """A list the server gave: what to tell the person of it. Raises what `DeviceLists.take`
        does, for what must not be believed."""
        if data is None:
            raise GhostDevice("The server has no signed list of that account's devices.")
        own = account == self._own.account
        change = self._store.lists.take(account, data, now, self.own_key() if own else None)
        if change is None:
            return []
        if own:
            if change.before is None:
                return []
            added = [Tell(DeviceAdded(each.device)) for each in change.added]
            kept = change.after.numbers()
            gone = [e.device for e in change.removed if e.device not in kept]
            return [*added, *(Tell(DeviceRemoved(device)) for device in gone)]
        if change.is_new_key:
            peer = self._store.history.conversation_with(account)
            return [Tell(IdentityChanged(account, peer.id if peer else None))]
        return []

    def refuse(
        self, account: AccountId, device: DeviceId | None, error: RaychatError
    ) -> list[Effect]:
        return [Tell(DeviceRefused(account, device, error))]

    def keys_found(self, item: KeysFound, now: int) -> tuple[list[Effect], RaychatError | None]:
        """Begin the sessions that are missing. The error is why not all could be."""
        account = item.account
        try:
            effects = self.take(account, item.list, now)
        except RaychatError as error:
            return self.refuse(account, None, error), error
        failure: RaychatError | None = None
        if account == self._own.account and not any(
            found.device != self._own.device for found in item.devices
        ):
            failure = NoKeys("The server has no other device of this account now.")
        peers = self._store.peers
        for found in item.devices:
            address = Address(account, found.device)
            if address == self._own.address:
                continue
            try:
                self._check(address, found)
                known = peers.devices(account).get(found.device)
                if known != found.incarnation or not self.can_write(address, now):
                    self._cipher.process_bundle(address, found.bundle, now)
                peers.put_device(*address, found.incarnation)
            except CryptoError as error:
                failure = error
                effects += self.refuse(account, found.device, error)
        there = {found.device for found in item.devices}
        for device in peers.devices(account).keys() - there:
            if item.asked is None or device in item.asked:  # the server does not have it any more
                peers.remove_device(account, device)
        return effects, failure

    def _check(self, address: Address, found: DeviceBundle) -> None:
        """Raises GhostDevice unless the account has signed the device, and it the account."""
        listed = self._store.lists.current(address.account)
        identity = listed.identity(address.device) if listed else None
        if listed is None or identity != found.bundle.identity_key:
            raise GhostDevice
        if address.device == PRIMARY:
            return
        try:
            check_device_signature(
                found.signature or b"",
                address.account,
                listed.account_key,
                address.device,
                found.bundle.identity_key,
            )
        except BadSignature as error:
            raise GhostDevice(
                "The device has not signed that it belongs to the account."
            ) from error

    def repair(
        self, account: AccountId, devices: Sequence[tuple[DeviceId, int]], version: int, now: int
    ) -> WantKeys | WantDevices | None:
        """The server says whom a message must be addressed to: what has to be fetched for it."""
        peers = self._store.peers
        known, there = peers.devices(account), dict(devices)
        for device in known.keys() - there.keys():
            peers.remove_device(account, device)
        missing = tuple(
            device
            for device, incarnation in sorted(there.items())
            if known.get(device) != incarnation or not self.can_write(Address(account, device), now)
        )
        if missing or not there:
            return WantKeys(account, missing or None)
        if version > self._store.lists.version(account):
            return WantDevices(account)
        return None

    def devices_found(self, item: DevicesFound, now: int) -> list[Effect]:
        """The account's list and the devices the server has; raises what `take` does."""
        effects = self.take(item.account, item.list, now) if item.list else []
        there = dict(item.devices)
        for device in self._store.peers.devices(item.account).keys() - there.keys():
            self._store.peers.remove_device(item.account, device)
        if item.account == self._own.account:
            return [*effects, *self._sign_if_needed(item, now)]
        if item.list is None:
            raise GhostDevice("The server has no signed list of that account's devices.")
        return effects

    # -- the own list ----------------------------------------------------------------------

    def watch(self, version: int, *, changed: bool) -> list[Effect]:
        """The server's own list has this version; `changed`: so have the devices, perhaps."""
        known = self._store.lists.version(self._own.account)
        if version > known or (self.is_primary and (version < known or changed)):
            self._announced = version
            return [WantDevices(self._own.account)]
        return []

    def own_asked(self, now: int, *, failed: bool) -> None:
        """There was an answer about the own devices. If it was none, or older than the server has
        announced, it is asked for again."""
        known = self._store.lists.version(self._own.account)
        if not failed and known >= self._announced:
            self._tries = self.retry_at = 0
            return
        self.retry_at = now + min(RETRY_MS * 2 ** min(self._tries, 10), RETRY_MAX_MS)
        self._tries += 1

    def wake(self, now: int) -> list[Effect]:
        """Ask for the own list again, if it is time."""
        if not 0 < self.retry_at <= now:
            return []
        self.retry_at = 0
        return [WantDevices(self._own.account)]

    def _sign_if_needed(self, item: DevicesFound, now: int) -> list[Effect]:
        """A device that has removed itself leaves the list; a list the server has lost or does
        not have yet is signed anew."""
        if not self.is_primary:
            return []
        identity = self._store.keys.identity_key_pair()
        lists = self._store.lists
        there = {device for device, _ in item.devices} | {PRIMARY}
        listed = lists.current(self._own.account)
        if listed is None:
            return []
        alive = tuple(each for each in listed.devices if each.device in there)
        is_there = item.list is not None and item.list == lists.signed(self._own.account)
        if is_there and alive == listed.devices:
            return []
        if lists.highest_signed() > listed.version and now < (
            self._store.fact("invited until") or 0
        ):
            # A device is being linked by a list the server may have and this device does not
            # know yet: one signed now would remove it again.
            self._announced = lists.highest_signed()
            return []
        newer = DeviceList(listed.account, listed.version + 1, now, alive)
        signed = lists.sign(newer, identity)
        self._announced = lists.highest_signed()  # until the server has it
        return [PublishList(signed)]
