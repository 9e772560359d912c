"""The devices of an account, signed, so that no server can add one.

    list       = msgpack [payload, signature]
    payload    = msgpack [1, account, version, at, [[device, identity, added], …]]
    signature  by the account key over "raychat device list", 00 and the payload

Every device has an identity key of its own. The **account key** is the identity key of the
primary (device 1), which never leaves it: it is what a safety number compares, and it signs the
list of all devices. Each other device signs the account in turn (`device_signature`), so that
neither can the server slip a device into a list, nor can an account claim another's device.

A list has one way to be written, so its SHA-256 (`digest`) names it. A newer one has a higher
version: whoever keeps the highest version of an account key seen, refuses to be rolled back.
Devices are sorted by number, the primary first; 1 to `limits.DEVICES` of them, no key twice.
Times are milliseconds since 1970.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgpack

from raychat import limits
from raychat.crypto.curve import PUBLIC_BYTES, SIGNATURE_BYTES, KeyPair, PublicKey
from raychat.errors import BadSignature, InvalidKey, Malformed, TooLarge
from raychat.ids import MAX_DEVICE, PRIMARY, AccountId, DeviceId

FORMAT: Final = 1
MAX_VERSION: Final = 2**40 - 1
MAX_TIME: Final = 2**53 - 1

_LIST: Final = b"raychat device list\x00"
_DEVICE: Final = b"raychat device\x00"
_ACCOUNT_BYTES: Final = 16


class ListedDevice(NamedTuple):
    """One device of a list: its number, its identity key and since when it is in the list."""

    device: DeviceId
    identity: PublicKey
    added: int


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The devices of `account` as of `at`. Only what is in order can be made.

    Raises Malformed, and InvalidKey for an identity key that no honest device has.
    """

    account: AccountId
    version: int
    at: int
    devices: tuple[ListedDevice, ...]

    def __post_init__(self) -> None:
        numbers = [entry.device for entry in self.devices]
        if (
            len(self.account) != _ACCOUNT_BYTES
            or not _in(self.version, 1, MAX_VERSION)
            or not _in(self.at, 0, MAX_TIME)
            or not all(_in(entry.added, 0, MAX_TIME) for entry in self.devices)
            or not all(_in(number, 1, MAX_DEVICE) for number in numbers)
        ):
            raise Malformed("A field of the device list is out of range.")
        if not numbers or numbers[0] != PRIMARY or len(numbers) > limits.DEVICES:
            raise Malformed(f"A device list has a primary and at most {limits.DEVICES} devices.")
        if numbers != sorted(set(numbers)):
            raise Malformed("The devices of a list are sorted, each of them once.")
        if len({entry.identity for entry in self.devices}) < len(numbers):
            raise Malformed("Two devices of a list have the same identity key.")
        if not all(entry.identity.is_canonical() for entry in self.devices):
            raise InvalidKey("An identity key of the device list is not in its proper form.")

    @property
    def account_key(self) -> PublicKey:
        """The identity key of the primary, whose signature makes the list valid."""
        return self.devices[0].identity

    def numbers(self) -> tuple[DeviceId, ...]:
        """The numbers of the devices, in order."""
        return tuple(entry.device for entry in self.devices)

    def identity(self, device: DeviceId) -> PublicKey | None:
        """The identity key of a device; None if it is not in the list."""
        return next((e.identity for e in self.devices if e.device == device), None)

    def with_device(self, entry: ListedDevice, at: int) -> DeviceList:
        """The next version, with one device more (or another in its place). Raises Malformed."""
        kept = [each for each in self.devices if each.device != entry.device]
        return DeviceList(self.account, self.version + 1, at, tuple(sorted((*kept, entry))))

    def without(self, device: DeviceId, at: int) -> DeviceList:
        """The next version, without a device. Raises Malformed for the primary."""
        kept = tuple(each for each in self.devices if each.device != device)
        return DeviceList(self.account, self.version + 1, at, kept)


@dataclass(frozen=True, slots=True, repr=False)
class SignedDeviceList:
    """A list with its signature, which only `verify` checks."""

    payload: bytes
    signature: bytes
    unverified: DeviceList
    """What the list says; believe it only once `verify` has returned it."""

    @classmethod
    def sign(cls, listed: DeviceList, account_key_pair: KeyPair) -> Self:
        """Sign a list with the primary's identity key. Raises BadSignature for another key."""
        if account_key_pair.public != listed.account_key:
            raise BadSignature("A device list is signed by the primary device's identity key.")
        payload = _payload(listed)
        return cls(payload, account_key_pair.private.sign(_LIST + payload), listed)

    def to_bytes(self) -> bytes:
        packed: bytes = msgpack.packb((self.payload, self.signature))
        return packed

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """A list from outside, not verified yet. Raises Malformed, TooLarge, InvalidKey."""
        if len(data) > limits.DEVICE_LIST_BYTES:
            raise TooLarge("The device list is longer than any list may be.")
        match _unpack(data):
            case [bytes(payload), bytes(signature)] if len(signature) == SIGNATURE_BYTES:
                signed = cls(payload, signature, _parsed(_unpack(payload)))
            case _:
                raise Malformed("A device list is a payload and its signature.")
        if _payload(signed.unverified) != payload or signed.to_bytes() != data:
            raise Malformed("The device list is not written in its only proper way.")
        return signed

    @property
    def account_key(self) -> PublicKey:
        """The key the list itself says it is signed by."""
        return self.unverified.account_key

    def verify(self, account_key: PublicKey) -> DeviceList:
        """The list, if it is signed by this account key. Raises BadSignature."""
        if account_key != self.unverified.account_key:
            raise BadSignature("The device list belongs to another account key.")
        account_key.verify(_LIST + self.payload, self.signature)
        return self.unverified

    def digest(self) -> bytes:
        """SHA-256 of the bytes: the list's name in the key-transparency log."""
        return hashlib.sha256(self.to_bytes()).digest()

    def __repr__(self) -> str:
        listed = self.unverified
        return f"SignedDeviceList(version={listed.version}, devices={len(listed.devices)})"


def device_signature(
    device_key_pair: KeyPair, account: AccountId, account_key: PublicKey, device: DeviceId
) -> bytes:
    """A linked device's word (64 bytes) that it belongs to the account, as this device."""
    message = _membership(account, account_key, device, device_key_pair.public)
    return device_key_pair.private.sign(message)


def check_device_signature(
    signature: bytes,
    account: AccountId,
    account_key: PublicKey,
    device: DeviceId,
    identity: PublicKey,
) -> None:
    """Raises BadSignature unless `identity` has signed that it is this device of the account."""
    identity.verify(_membership(account, account_key, device, identity), signature)


def _membership(
    account: AccountId, account_key: PublicKey, device: DeviceId, identity: PublicKey
) -> bytes:
    return _DEVICE + account + account_key.data + bytes((device,)) + identity.data


def _payload(listed: DeviceList) -> bytes:
    devices = [(entry.device, entry.identity.data, entry.added) for entry in listed.devices]
    packed: bytes = msgpack.packb((FORMAT, listed.account, listed.version, listed.at, devices))
    return packed


def _parsed(payload: Any) -> DeviceList:
    match payload:
        case [int(form), bytes(account), int(version), int(at), [*devices]] if form == FORMAT:
            listed = tuple(map(_listed, devices[: limits.DEVICES + 1]))
            return DeviceList(AccountId(account), version, at, listed)
    raise Malformed("The payload of a device list is not as agreed.")


def _listed(entry: Any) -> ListedDevice:
    match entry:
        case [int(device), bytes(identity), int(added)] if len(identity) == PUBLIC_BYTES:
            return ListedDevice(DeviceId(device), PublicKey(identity), added)
    raise Malformed("An entry of a device list is a number, a key and a time.")


def _in(value: int, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, max_ext_len=0, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds for hostile bytes
        raise Malformed("The device list is not msgpack.") from error
