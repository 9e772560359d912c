"""Signed device lists, checked before a host keeps them.

The server does not need the checks: it hands a list out as it is, and every client checks it
again. It makes them so that a faulty client hears of its fault at once, and not its peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raychat.crypto.curve import SIGNATURE_BYTES, PublicKey
from raychat.crypto.device_list import SignedDeviceList, check_device_signature
from raychat.errors import BadSignature, Denied, InvalidKey, Malformed
from raychat.ids import PRIMARY, AccountId, DeviceId
from raychat.store.protocol import KeyStore
from raychat.users.events import ListRecord


class VettedList(NamedTuple):
    """A list that its account key has signed, and the 33-byte identity key of each device."""

    record: ListRecord
    identities: Mapping[DeviceId, bytes]

    def check_names(self, device: DeviceId, identity: bytes) -> None:
        """Raises InvalidKey unless the list names that device with that identity key."""
        if self.identities.get(device) != identity:
            raise InvalidKey(
                f"The device list does not name device {device} with the identity key of `keys`."
            )


def vet_list(account: AccountId, data: bytes) -> VettedList:
    """Read a signed list of an account and check its signature, which takes about 100 µs.

    Raises Malformed, TooLarge, InvalidKey, BadSignature.
    """
    signed = SignedDeviceList.parse(data)
    listed = signed.verify(signed.account_key)
    if listed.account != account:
        raise Malformed("The device list is that of another account.")
    record = ListRecord(listed.version, listed.account_key.data, listed.numbers(), data)
    return VettedList(record, {each.device: each.identity.data for each in listed.devices})


def vet_primary(account: AccountId, data: bytes, identity: bytes) -> VettedList:
    """The list a primary registers with, which names just itself. Raises what `vet_list` does."""
    vetted = vet_list(account, data)
    if tuple(vetted.record.devices) != (PRIMARY,):
        raise Malformed("The list of a registration names the primary and no other device.")
    vetted.check_names(PRIMARY, identity)
    return vetted


def vet_linked(
    account: AccountId, data: bytes, device: DeviceId, identity: bytes, signature: bytes
) -> VettedList:
    """The list a linked device registers with, and its signature over the account. Raises what
    `vet_list` does."""
    vetted = vet_list(account, data)
    if device == PRIMARY:
        raise Malformed("The primary is registered with its number.")
    vetted.check_names(device, identity)
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"device_signature is {SIGNATURE_BYTES} bytes.")
    key = PublicKey(vetted.record.key)
    check_device_signature(signature, account, key, device, PublicKey(identity))
    return vetted


async def check_identities(
    store: KeyStore, account: AccountId, vetted: VettedList, but: DeviceId | None = None
) -> None:
    """Each device of the list has registered with the identity key it names, but for one that
    is about to. A device that has no keys here is not looked at. Raises Denied, InvalidKey."""
    for device, identity in vetted.identities.items():
        known = await store.lasting_keys(account, device) if device != but else None
        if known is not None and known.identity != identity:
            if device == PRIMARY:
                raise Denied("The list is not signed by the account key; only a primary may.")
            raise InvalidKey(
                f"Device {device} has another identity key than the list says; fetch its keys."
            )
