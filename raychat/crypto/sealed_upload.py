"""A sealed message on its way to many devices, and its splitting by a server without keys.

    0x23 | varint count | entry… | E (32 bytes) | ciphertext
    entry: kind byte 0, account (16) | device… | C (32) | AT (16)
    device: number u8, u16 big-endian: registration id in 14 bits, top bit: another follows
    an account left out on purpose: kind byte 0, account (16) | 0x00

The devices of an account usually share one entry. They may also have one each, with different
identity keys. The server sends each device `Upload.received(entry)`, whose registration id it
first compares with the one it knows: a device that was set up anew could not read the message.
The accounts left out are there for the server to see that a group was addressed as a whole.

An account is named as such only (kind 0): raychat has no identities of phone numbers (kind 1).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from raychat.crypto.protobuf import read_varint, varint
from raychat.crypto.sealed_v2 import KEY_BYTES, MATERIAL_BYTES, TAG_BYTES, VERSION_BYTE
from raychat.errors import InvalidMessage, LegacyVersion, TooLarge, UnknownVersion
from raychat.ids import MAX_DEVICE, AccountId, Address, DeviceId
from raychat.limits import CIPHERTEXT_BYTES, UPLOAD_RECIPIENTS

REGISTRATION_ID_MASK: Final = 0x3FFF

_VERSION: Final = 0x23
_KIND: Final = b"\x00"
_ACCOUNT_BYTES: Final = 16
_DEVICE_BYTES: Final = 3
_MORE: Final = 0x8000


class UploadEntry(NamedTuple):
    """Devices of one account that share an identity key, with their registration ids."""

    account: AccountId
    devices: tuple[tuple[DeviceId, int], ...]
    material: bytes


class Upload(NamedTuple):
    """One ciphertext for all entries."""

    entries: tuple[UploadEntry, ...]
    excluded: tuple[AccountId, ...]
    shared: bytes

    def received(self, entry: UploadEntry) -> bytes:
        """What the devices of an entry are sent."""
        return VERSION_BYTE + entry.material + self.shared

    def to_bytes(self) -> bytes:
        """Raises TooLarge."""
        if len(self.entries) + len(self.excluded) > UPLOAD_RECIPIENTS:
            raise TooLarge(f"A message goes to at most {UPLOAD_RECIPIENTS} accounts at once.")
        parts = [bytes((_VERSION,)), varint(len(self.entries) + len(self.excluded))]
        for account, devices, material in self.entries:
            parts += (_KIND, account)
            last = len(devices) - 1
            for place, (device, registration_id) in enumerate(devices):
                more = _MORE if place < last else 0
                number = registration_id & REGISTRATION_ID_MASK | more
                parts.append(bytes((device,)) + number.to_bytes(2, "big"))
            parts.append(material)
        for account in self.excluded:
            parts += (_KIND, account, b"\x00")
        parts.append(self.shared)
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises InvalidMessage, LegacyVersion, UnknownVersion, TooLarge.

        No device may come twice, and none of an account that is left out.
        """
        _check_version(data)
        count, at = read_varint(data, 1)
        if count > UPLOAD_RECIPIENTS:
            raise TooLarge(f"A message goes to at most {UPLOAD_RECIPIENTS} accounts at once.")
        entries: list[UploadEntry] = []
        excluded: list[AccountId] = []
        seen: set[Address] = set()
        for _ in range(count):
            account, at = _account(data, at)
            if data[at : at + 1] == b"\x00":
                excluded.append(account)
                at += 1
                continue
            devices, at = _devices(data, at)
            for device, _ in devices:
                address = Address(account, device)
                if address in seen:
                    raise InvalidMessage("The upload names a device twice.")
                seen.add(address)
            entries.append(UploadEntry(account, devices, data[at : at + MATERIAL_BYTES]))
            at += MATERIAL_BYTES
        shared = data[at:]
        if not KEY_BYTES + TAG_BYTES <= len(shared) <= CIPHERTEXT_BYTES:
            raise InvalidMessage("The upload is cut off or its message too long.")
        left_out = set(excluded)
        if len(left_out) < len(excluded) or not left_out.isdisjoint(e.account for e in entries):
            raise InvalidMessage("The upload both names and leaves out an account.")
        return cls(tuple(entries), tuple(excluded), shared)


def _check_version(data: bytes) -> None:
    version = data[0] if data else 0
    if version < _VERSION:
        raise LegacyVersion("The upload is of an older version.")
    if version > _VERSION:
        raise UnknownVersion("The upload is of a newer version.")


def _account(data: bytes, at: int) -> tuple[AccountId, int]:
    end = at + len(_KIND) + _ACCOUNT_BYTES
    if end > len(data) or data[at : at + 1] != _KIND:
        raise InvalidMessage("The upload is cut off or names something else than an account.")
    return AccountId(data[at + 1 : end]), end


def _devices(data: bytes, at: int) -> tuple[tuple[tuple[DeviceId, int], ...], int]:
    devices: list[tuple[DeviceId, int]] = []
    more = True
    while more:
        written = data[at : at + _DEVICE_BYTES]
        if len(written) < _DEVICE_BYTES:
            raise InvalidMessage("The upload is cut off.")
        number = int.from_bytes(written[1:], "big")
        if not 1 <= written[0] <= MAX_DEVICE:
            raise InvalidMessage(f"A device has a number of 1 to {MAX_DEVICE}.")
        devices.append((DeviceId(written[0]), number & REGISTRATION_ID_MASK))
        more = bool(number & _MORE)
        at += _DEVICE_BYTES
    return tuple(devices), at
