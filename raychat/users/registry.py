"""The devices of an account: who they are, their tokens, and the list its primary has signed.

The rules of what changes them; `user` has those of messages. The server keeps the signed list
and holds its devices to it: a device that is not in the newest list is removed, and none comes
to be that its primary has not signed. It cannot sign one itself, and clients check that.

Every request can come again: it may have been carried out although its answer was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from raychat.errors import BadToken, Denied, ListStale, RaychatError
from raychat.ids import PRIMARY, AccountId, DeviceId, InboxNumber
from raychat.users.device import Device
from raychat.users.events import (
    Advance,
    Answer,
    Block,
    Box,
    Delete,
    DeviceRecord,
    Dismiss,
    Effect,
    ForgetAccount,
    ForgetReceipts,
    ListRecord,
    NewList,
    Push,
    PutBlocked,
    PutKeys,
    PutList,
    Register,
    Remove,
    Request,
    Rotate,
    UserRecord,
    UseToken,
)
from raychat.wire.frames import Close, pack_devices

ACCOUNT_BYTES = 16
DAY_MS = 86_400_000


class Registry:
    """What a User knows of its account. Its rules change it and return effects, as a User's."""

    __slots__ = (
        "account",
        "blocked",
        "devices",
        "list_digest",
        "list_key",
        "list_version",
        "removed",
        "revision",
    )

    def __init__(self, record: UserRecord) -> None:
        self.account = record.account
        self.revision = record.revision
        self.devices: dict[DeviceId, Device] = {}
        self.removed: dict[DeviceId, DeviceRecord] | None = None
        for device in record.devices:
            if device.token_hash:
                self.devices[device.device] = Device(device)
            else:
                self._keep_removed(device)
        self.list_version = record.list_version
        self.list_key = record.list_key
        self.list_digest = record.list_digest
        self.blocked = _accounts(record.blocked)

    def _keep_removed(self, record: DeviceRecord) -> None:
        if self.removed is None:
            self.removed = {}
        self.removed[record.device] = record

    def incarnation(self, device: DeviceId) -> int:
        """How often a device has been registered, 0 for never. It may have been removed since."""
        known = self.devices.get(device)
        if known is not None:
            return known.incarnation
        removed = self.removed.get(device) if self.removed else None
        return removed.incarnation if removed else 0

    def is_token(self, device: DeviceId, token_hash: bytes) -> bool:
        """Whether that is the device's token, or its next one."""
        known = self.devices.get(device)
        return known is not None and (
            compare_digest(known.token_hash, token_hash) or self.is_new_token(device, token_hash)
        )

    def is_new_token(self, device: DeviceId, token_hash: bytes) -> bool:
        """Whether that is the device's next token, which nobody has used yet."""
        known = self.devices.get(device)
        return (
            known is not None
            and known.next_hash != b""
            and compare_digest(known.next_hash, token_hash)
        )

    def request(self, event: Request, now: int) -> list[Effect]:
        """Do what somebody asks for who may."""
        match event:
            case Register():
                return self._register(event, now)
            case NewList():
                return self._new_list(event)
            case Remove():
                return self._remove(event, now)
            case Rotate():
                return self._rotate(event)
            case UseToken():
                return self._use_token(event)
            case Block():
                return self._block(event)
            case Delete():
                return self._delete(event)

    # -- registering -----------------------------------------------------------------------

    def _register(self, event: Register, now: int) -> list[Effect]:
        number, listed = event.device, event.list
        error = self._cannot_list(listed, number)
        if error is not None:
            return [Answer(event.ticket, error)]
        effects = self._take_list(listed)
        effects += self._drop(other for other in list(self.devices) if other not in listed.devices)
        device = self.devices.get(number)
        if device is None:
            device = self._make(number, event.box)
        elif device.session is not None:
            effects += self._dismiss(device, Close.BAD_TOKEN, BadToken())
        device.incarnation += 1
        device.token_hash, device.next_hash = event.token_hash, b""
        device.seen = now // DAY_MS
        if device.incarnation > 1:
            self._forget_receipts(number)
            effects.append(ForgetReceipts(self.account, number, self.revision))
        effects += [
            device.put(self.account, number),
            PutKeys(self.account, number, event.keys),
            *self._announce(),
            Answer(event.ticket, device.incarnation),
        ]
        return effects

    def _make(self, number: DeviceId, box: Box) -> Device:
        """A device that is not there: one that was removed counts on."""
        zero = InboxNumber(0)
        record = DeviceRecord(number, box, 0, b"", zero, zero)
        if self.removed is not None:
            record = self.removed.pop(number, record)
        device = self.devices[number] = Device(record)
        return device

    def _forget_receipts(self, device: DeviceId) -> None:
        """A device starts anew: what is known of its messages goes."""
        raise NotImplementedError

    def _forget_account(self) -> None:
        """The account is deleted: what is known of its messages and its peers' goes."""
        raise NotImplementedError

    # -- the list --------------------------------------------------------------------------

    def _new_list(self, event: NewList) -> list[Effect]:
        error = self._cannot_list(event.list, None)
        if error is not None:
            return [Answer(event.ticket, error)]
        effects = self._take_list(event.list)
        if effects:
            gone = [number for number in self.devices if number not in event.list.devices]
            effects += [*self._drop(gone), *self._announce()]
        return [*effects, Answer(event.ticket, None)]

    def _is_ours(self, listed: ListRecord) -> bool:
        """Whether that is just the list which is there already."""
        same = (listed.version, listed.key) == (self.list_version, self.list_key)
        return same and sha256(listed.data).digest() == self.list_digest

    def _cannot_list(self, listed: ListRecord, registering: DeviceId | None) -> RaychatError | None:
        if listed.key != self.list_key and self.list_version:
            # With a new account key whoever has the number begins anew, at any version.
            if registering != PRIMARY:
                return Denied("The primary has been registered anew, with another account key.")
        elif listed.version <= self.list_version and not self._is_ours(listed):
            return ListStale()
        for number in listed.devices:
            if number not in self.devices and number != registering:
                return ListStale(
                    f"Device {number} is no longer there; sign a newer list without it."
                )
        return None

    def _take_list(self, listed: ListRecord) -> list[Effect]:
        if self._is_ours(listed):
            return []
        self.list_version, self.list_key = listed.version, listed.key
        self.list_digest = sha256(listed.data).digest()
        return [PutList(self.account, listed.version, listed.key, listed.data)]

    def _announce(self) -> list[Effect]:
        """Tell the devices that are connected that something has changed among them."""
        frame = pack_devices(self.list_version)
        return [Push(d.session, frame) for d in self.devices.values() if d.session is not None]

    # -- removing --------------------------------------------------------------------------

    def _remove(self, event: Remove, now: int) -> list[Effect]:
        _, number, ticket, unseen = event
        device = self.devices.get(number)
        effects: list[Effect] = []
        result: RaychatError | None = None
        if number == PRIMARY:
            result = Denied("The primary cannot be removed; delete the account instead.")
        elif device is None:
            pass  # removed already
        elif unseen is not None and device.session is not None:
            device.seen = now // DAY_MS
            effects.append(device.put(self.account, number))
        elif unseen is None or device.seen < unseen:
            effects = [*self._drop([number]), *self._announce()]
        return effects if ticket is None else [*effects, Answer(ticket, result)]

    def _drop(self, numbers: Iterable[DeviceId]) -> list[Effect]:
        """Remove devices: their connections, inboxes and keys go, and their tokens are void."""
        effects: list[Effect] = []
        for number in numbers:
            device = self.devices.pop(number)
            if device.session is not None:
                error = BadToken("This device was removed from its account; link it again.")
                effects += self._dismiss(device, Close.BAD_TOKEN, error)
            device.token_hash = device.next_hash = b""
            if device.head > device.cursor:
                device.cursor = device.head
                effects.append(Advance(device.box, device.head, ()))
            effects.append(device.put(self.account, number))
            effects.append(PutKeys(self.account, number, None))
            inbox = (device.cursor, device.head)
            self._keep_removed(DeviceRecord(number, device.box, device.incarnation, b"", *inbox))
        return effects

    def _delete(self, event: Delete) -> list[Effect]:
        effects = self._drop(list(self.devices))
        self._forget_account()
        self.list_version, self.list_key, self.list_digest = 0, b"", b""
        self.blocked = None
        return [*effects, ForgetAccount(self.account, self.revision), Answer(event.ticket, None)]

    def _dismiss(self, device: Device, close: Close, error: RaychatError) -> list[Effect]:
        session = device.session
        assert session is not None
        device.leave()
        return [Dismiss(session, close, error.code, error.detail)]

    # -- tokens, blocks --------------------------------------------------------------------

    def _rotate(self, event: Rotate) -> list[Effect]:
        device = self.devices.get(event.device)
        if device is None:
            return [Answer(event.ticket, BadToken())]
        device.next_hash = event.token_hash
        return [device.put(self.account, event.device), Answer(event.ticket, None)]

    def _use_token(self, event: UseToken) -> list[Effect]:
        if not self.is_token(event.device, event.token_hash):
            return [Answer(event.ticket, BadToken())]
        return [*self._settle_token(event.device, event.token_hash), Answer(event.ticket, None)]

    def _settle_token(self, number: DeviceId, token_hash: bytes) -> list[Effect]:
        """A token has been shown: if it is the next one, the one before stops working."""
        if not self.is_new_token(number, token_hash):
            return []
        device = self.devices[number]
        device.token_hash, device.next_hash = device.next_hash, b""
        return [device.put(self.account, number)]

    def _block(self, event: Block) -> list[Effect]:
        packed = b"".join(sorted(set(event.blocked)))
        self.blocked = _accounts(packed)
        return [PutBlocked(self.account, packed), Answer(event.ticket, None)]


def _accounts(packed: bytes) -> frozenset[AccountId] | None:
    """None for no account, as with most: a set of its own would cost each User 200 bytes."""
    places = range(0, len(packed), ACCOUNT_BYTES)
    return frozenset(AccountId(packed[at : at + ACCOUNT_BYTES]) for at in places) or None
