"""Encrypt once for a whole group, and decrypt what its members sent.

    shared = cipher.share(group, readers, now)      # a new key when one is due
    for device in shared.missing:
        …send shared.message to it in its 1:1 session…
    cipher.mark_shared(group, shared, shared.missing)
    body = cipher.encrypt(group, b"hello", readers, now)

    cipher.process(sender, distribution_message)    # from a 1:1 session with `sender`
    opened = cipher.decrypt(sender, body)

`readers` are the devices meant to read: all but our own. `encrypt` goes ahead only if they are
exactly the devices that hold our key. So nobody is left out by mistake, and a member who left
or a device that was lost is shut out before the next message: their going makes `share` replace
the key. Who belongs to a group is the caller's business, and so is to take distributions only
for groups it knows: each one costs storage.

Each call either does everything or, with an error, changes nothing. Commit the store before a
message leaves the device. `now` is in milliseconds since 1970; no clock is read here.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from raychat.crypto.group_message import DistributionId, SenderKeyDistribution, SenderKeyMessage
from raychat.crypto.sender_keys import SenderKeyRecord, SenderKeyStore, SendingKey
from raychat.errors import NoSession, StaleSession, TooLarge
from raychat.ids import Address
from raychat.limits import CIPHERTEXT_BYTES


class Shared(NamedTuple):
    """Our current key as it must be handed out, and who lacks it."""

    chain_id: int
    message: bytes
    """A secret: it goes into 1:1 sessions only."""
    missing: frozenset[Address]

    def __repr__(self) -> str:
        return f"Shared(chain_id={self.chain_id}, missing={len(self.missing)})"


class OpenedGroupMessage(NamedTuple):
    """A decrypted message, and the group it is bound to: check that it is the one expected."""

    distribution: DistributionId
    plaintext: bytes


class GroupCipher:
    """The sender keys of this device, kept in `store`."""

    def __init__(self, store: SenderKeyStore) -> None:
        self._store = store

    def share(self, distribution: DistributionId, readers: Set[Address], now: int) -> Shared:
        """Our key for `readers`: a new one if there is none, it is due, or somebody left."""
        key = self._store.load_sending_key(distribution)
        holders = self._store.load_holders(distribution)
        if key is None or key.is_due(now) or holders - readers:
            key, holders = self.rotate(distribution, now), frozenset()
        message = key.distribution(distribution).to_bytes()
        return Shared(key.chain_id, message, frozenset(readers - holders))

    def mark_shared(
        self, distribution: DistributionId, shared: Shared, devices: Set[Address]
    ) -> None:
        """Note that `shared.message` is on its way to `devices`.

        Without effect if the key has been replaced in the meantime.
        """
        key = self._store.load_sending_key(distribution)
        if key is not None and key.chain_id == shared.chain_id:
            holders = self._store.load_holders(distribution)
            self._store.store_holders(distribution, holders | devices)

    def mark_lost(self, distribution: DistributionId, device: Address) -> None:
        """Note that a reader has lost our key and needs it again, after it asked to."""
        holders = self._store.load_holders(distribution)
        self._store.store_holders(distribution, holders - {device})

    def rotate(self, distribution: DistributionId, now: int) -> SendingKey:
        """Replace our key. `share` does it when it must; call it if a key may be known."""
        key = SendingKey.generate(now)
        self._store.store_holders(distribution, frozenset())
        self._store.store_sending_key(distribution, key)
        return key

    def encrypt(
        self, distribution: DistributionId, plaintext: bytes, readers: Set[Address], now: int
    ) -> bytes:
        """One message that all `readers` can decrypt.

        Raises NoSession if some of them lack our key, StaleSession if it must be replaced
        (both: `share` first), TooLarge.
        """
        key = self._store.load_sending_key(distribution)
        if key is None:
            raise NoSession("There is no sender key for this group; share one first.")
        holders = self._store.load_holders(distribution)
        if holders != readers:
            if readers - holders:
                raise NoSession("Some readers lack the sender key; share it with them first.")
            raise StaleSession("Who is to read no more holds the sender key; share a new one.")
        if key.is_due(now):
            raise StaleSession("The sender key has served long enough; share a new one.")
        body = key.seal(distribution, plaintext).body
        if len(body) > CIPHERTEXT_BYTES:
            raise TooLarge
        self._store.store_sending_key(distribution, key.next())
        return body

    def process(self, sender: Address, body: bytes) -> DistributionId:
        """Take up a key that came from `sender` in a 1:1 session.

        Raises InvalidMessage, LegacyVersion, UnknownVersion.
        """
        given = SenderKeyDistribution.parse(body)
        record = self._store.load_sender_key(sender, given.distribution) or SenderKeyRecord()
        after = record.added(given)
        if after is not record:
            self._store.store_sender_key(sender, given.distribution, after)
        return given.distribution

    def decrypt(self, sender: Address, body: bytes) -> OpenedGroupMessage:
        """A message of the device `sender`, whose signature is checked before all else.

        Raises NoSession if the key it is under is not here (ask the sender for it),
        BadSignature, DuplicateMessage, TooFarAhead, InvalidMessage, LegacyVersion or
        UnknownVersion.
        """
        message = SenderKeyMessage.parse(body)
        record = self._store.load_sender_key(sender, message.distribution)
        state = None if record is None else record.find(message.chain_id)
        if record is None or state is None:
            raise NoSession("The sender key of this message is not here; ask its sender for it.")
        message.verify(state.signing_key)
        keys, after = state.taken(message.iteration)
        plaintext = keys.decrypt(message.ciphertext)
        self._store.store_sender_key(sender, message.distribution, record.updated(after))
        return OpenedGroupMessage(message.distribution, plaintext)
