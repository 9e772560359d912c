"""What a host needs of its store. Every implementation passes tests/store/contract.py.

`commit` is the heart: all that one turn of a host makes durable, in one transaction, refused
as a whole (`Fenced`) when another process has taken the host's place since. What it has
committed survives a crash of the process and of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from raychat.ids import AccountId, DeviceId, Epoch, InboxNumber
from raychat.users.events import (
    Advance,
    Append,
    Box,
    Durable,
    ForgetAccount,
    ForgetReceipts,
    PeerRecord,
    PutBlocked,
    PutDevice,
    PutKeys,
    PutList,
    PutPeer,
    PutReceipt,
    ReceiptRecord,
    Row,
    Told,
    UserRecord,
)

PeerId = tuple[AccountId, AccountId, DeviceId]
ReceiptId = tuple[AccountId, DeviceId, AccountId, int]


class Owed(NamedTuple):
    """News for an account of another host, kept until that host has it."""

    sequence: int
    told: Told


class Writes:
    """All that one turn makes durable. Later writes of the same thing replace earlier ones."""

    __slots__ = (
        "advances",
        "appends",
        "blocked",
        "devices",
        "forgets",
        "forgotten",
        "keys",
        "lists",
        "owed",
        "paid",
        "peers",
        "receipts",
    )

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self.advances: list[Advance] = []
        self.peers: dict[PeerId, PutPeer] = {}
        self.receipts: dict[ReceiptId, PutReceipt] = {}
        self.forgets: list[ForgetReceipts] = []
        self.forgotten: list[ForgetAccount] = []
        self.devices: list[PutDevice] = []
        self.keys: dict[tuple[AccountId, DeviceId], PutKeys] = {}
        self.lists: dict[AccountId, PutList] = {}
        self.blocked: dict[AccountId, PutBlocked] = {}
        self.owed: list[Owed] = []
        self.paid: list[int] = []

    def __len__(self) -> int:
        """How many rows are written."""
        return sum(len(getattr(self, name)) for name in self.__slots__)

    def add(self, effect: Durable) -> None:
        match effect:
            case Append():
                self.appends.append(effect)
            case Advance():
                self.advances.append(effect)
            case PutPeer():
                self.peers[effect[:3]] = effect
            case PutReceipt():
                self.receipts[effect[:4]] = effect
            case ForgetReceipts():
                self.forgets.append(effect)
                self.receipts = {
                    key: put for key, put in self.receipts.items() if key[:2] != effect[:2]
                }
            case PutDevice():
                self.devices.append(effect)
            case PutKeys():
                self.keys[effect[:2]] = effect
            case PutList():
                self.lists[effect.account] = effect
            case PutBlocked():
                self.blocked[effect.account] = effect
            case ForgetAccount(account):
                self.forgotten.append(effect)
                self.lists.pop(account, None)
                self.blocked.pop(account, None)
                self.peers = {key: put for key, put in self.peers.items() if key[0] != account}
                self.receipts = {
                    key: put for key, put in self.receipts.items() if key[0] != account
                }


class InboxStore(Protocol):
    """A host's Users: devices, their lists, inboxes, peers, receipts."""

    epoch: Epoch

    @property
    def commits_at_once(self) -> bool:
        """Whether `commit` now runs to its end without letting anybody else run."""
        ...

    async def load(self, accounts: Sequence[AccountId]) -> list[UserRecord]: ...

    async def peers(self, keys: Sequence[PeerId]) -> list[PeerRecord | None]: ...

    async def receipts(self, keys: Sequence[ReceiptId]) -> list[ReceiptRecord | None]: ...

    async def receipts_after(self, account: AccountId, revision: int) -> list[ReceiptRecord]: ...

    async def device_list(self, account: AccountId) -> bytes | None: ...

    async def page(self, box: Box, after: InboxNumber, most: int) -> list[Row]: ...

    async def oldest(
        self, after: Box, boxes: int, before: int, most: int
    ) -> tuple[Box, list[tuple[AccountId, DeviceId, list[Row]]]]: ...

    async def unseen(self, before: int, most: int) -> list[tuple[AccountId, DeviceId]]: ...

    def next_owed(self) -> int: ...

    def next_box(self) -> Box: ...

    async def owed(self, after: int, most: int) -> list[Owed]: ...

    async def commit(self, writes: Writes) -> None: ...

    async def depth(self) -> tuple[int, int]: ...


class DeviceKeys(NamedTuple):
    """A device's lasting public keys as its owner uploaded them. Records are opaque bytes here.

    `last_resort` is the Kyber one. `last_resort_pre_key` is the X25519 one, which devices
    registered by early versions lack until they renew their keys. `device_signature` is that of
    a linked device over its account; a primary has none.
    """

    registration: int
    identity: bytes
    signed_pre_key: bytes
    last_resort: bytes
    last_resort_pre_key: bytes | None = None
    device_signature: bytes | None = None


class TakenKeys(NamedTuple):
    """What someone gets who wants to start a session. `pre_key` and `kyber_pre_key` are one-time
    keys or those of last resort; only without either is there no `pre_key`."""

    device: DeviceId
    incarnation: int
    keys: DeviceKeys
    pre_key: bytes | None
    kyber_pre_key: bytes


class NewKeys(NamedTuple):
    """All keys of a device that is being registered: what `PutKeys` carries."""

    lasting: DeviceKeys
    pre_keys: Sequence[tuple[int, bytes]]
    kyber_pre_keys: Sequence[tuple[int, bytes]]


class KeyStore(Protocol):
    """A host's pre-keys. Each call is a durable transaction of its own."""

    async def put_keys(
        self,
        account: AccountId,
        device: DeviceId,
        keys: DeviceKeys | None,
        pre_keys: Sequence[tuple[int, bytes]],
        kyber_pre_keys: Sequence[tuple[int, bytes]],
    ) -> None: ...

    async def lasting_keys(self, account: AccountId, device: DeviceId) -> DeviceKeys | None: ...

    async def count_keys(self, account: AccountId, device: DeviceId) -> tuple[int, int]: ...

    async def take_keys(
        self,
        account: AccountId,
        devices: Sequence[DeviceId] | None = None,
        one_time: bool = True,
    ) -> list[TakenKeys]: ...

    async def forget_keys(self, account: AccountId, device: DeviceId) -> None: ...


class HostStore(InboxStore, KeyStore, Protocol):
    """All that a UserHost keeps."""

    async def close(self) -> None: ...
