"""Linking over HTTP: the new device's side, and the primary's.

What protects the two from everyone on the way is in `raychat.crypto.linking`. If anything breaks
off, nothing was linked: begin anew with a new code.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from raychat import limits
from raychat.client import keyfile, transfer
from raychat.client.http import Caller, HttpApi, Registered, publication
from raychat.client.registration import fill
from raychat.client.store import DeviceStore
from raychat.client.tls import session
from raychat.clock import Clock, wall_ms
from raychat.crypto import IdentityKeyPair, KeyPair
from raychat.crypto.device_list import (
    DeviceList,
    ListedDevice,
    SignedDeviceList,
    device_signature,
)
from raychat.crypto.linking import HISTORY_KEY_BYTES, LinkCode, LinkRequest, Provision
from raychat.errors import Denied, GhostDevice, Malformed, NotRegistered
from raychat.ids import MAX_DEVICE, PRIMARY, DeviceId, Secret

ShowCode = Callable[[LinkCode, int], Awaitable[None]]
"""Shows a code, which is good for so many seconds; returns at once."""

Confirm = Callable[[LinkRequest], Awaitable[bool]]
"""Shows the person what wants to be linked, and gives their decision."""

INVITED_MS: Final = (limits.LINK_SECONDS + limits.LINK_FINISH_SECONDS) * 1000
"""How long a device that was let in may take to register."""


# -- the new device ------------------------------------------------------------------------


async def link_this_device(
    *,
    show: ShowCode,
    name: str,
    platform: str,
    server: str,
    profile: str | None = None,
    home: Path | None = None,
    passphrase: str | None = None,
    clock: Clock = wall_ms,
) -> Registered:
    """Make the profile another device of an account whose primary reads the code that is shown.

    `name` and `platform` are what the primary shows of it. Raises LinkExpired, BadMac,
    GhostDevice, Unavailable, StoreInUse, StoreError.
    """
    store = DeviceStore(keyfile.directory(profile, home), passphrase)
    try:
        async with session() as http:
            return await _link(store, HttpApi(http, server), show, name, platform, server, clock)
    finally:
        store.close()


async def _link(
    store: DeviceStore,
    api: HttpApi,
    show: ShowCode,
    name: str,
    platform: str,
    server: str,
    clock: Clock,
) -> Registered:
    with store.transaction():
        store.prepare(None, server)
    keys = store.keys
    identity, ephemeral, code = keys.identity_key_pair(), KeyPair.generate(), LinkCode.generate()
    request = LinkRequest(ephemeral.public, identity.public, name, platform, clock())
    token, seconds = await api.open_link(code.id, request.seal(code))
    await show(code, seconds)
    message = None
    while message is None:
        message = await api.link_message(token, limits.LINK_WAIT_SECONDS)
    provision = Provision.open(code, ephemeral, identity, message)
    listed, entry = own_entry(provision, identity)
    with store.transaction():
        store.adopt(provision.number)
        long_keys = keys.make_long_keys(clock())
        fill(keys, clock(), limits.PRE_KEY_UPLOAD, limits.PRE_KEY_UPLOAD)
        pre_keys, kyber = keys.unpublished(limits.PRE_KEY_UPLOAD)
    registered = await api.finish_link(
        token,
        publication(keys.registration_id(), identity, long_keys, pre_keys, kyber),
        device_signature(identity, listed.account, listed.account_key, entry.device),
    )
    if (registered.account, registered.device) != (listed.account, entry.device):
        raise Malformed("The server has linked another device than the list says.")
    with store.transaction():
        keys.published(pre_keys, kyber)
        keys.long_keys_published(long_keys, clock())
        join(store, provision, registered, clock())
    return registered


def join(store: DeviceStore, provision: Provision, registered: Registered, now: int) -> None:
    """Keep that this device belongs to an account now (`now` in ms). Inside a transaction."""
    listed, _ = own_entry(provision, store.keys.identity_key_pair())
    store.adopt(provision.number)
    store.register(*registered)
    store.lists.take(listed.account, provision.list, now, listed.account_key)
    transfer.expect(store, provision.history_key, now)


def own_entry(provision: Provision, identity: IdentityKeyPair) -> tuple[DeviceList, ListedDevice]:
    """The list the primary has signed, and what it calls this device. Raises GhostDevice."""
    signed = SignedDeviceList.parse(provision.list)
    listed = signed.verify(signed.account_key)
    for entry in listed.devices:
        if (
            entry.identity == identity.public
            and entry.device != PRIMARY
            and listed.account == provision.account
        ):
            return listed, entry
    raise GhostDevice("The account has not signed this device; begin anew.")


# -- the primary ---------------------------------------------------------------------------


async def link_other_device(
    store: DeviceStore,
    api: HttpApi,
    caller: Caller,
    text: str,
    confirm: Confirm,
    clock: Clock,
    *,
    history: bool = True,
    delay: float = limits.TRANSFER_DELAY_SECONDS,
) -> DeviceId | None:
    """Let in the device whose code is `text`, if the person agrees to what it says of itself.

    `history`: it gets the messages there are, from `delay` seconds on; without, only contacts
    and settings. Returns its number, None if the person does not agree. Raises BadCode,
    LinkExpired, CodeExpired, BadMac (who shows the code did not make the request), Denied.
    """
    own = store.own()
    if own.device != PRIMARY:
        raise Denied("Only the primary device links others; do it there.")
    code = LinkCode.parse(text)
    request = LinkRequest.open(code, await api.link_request(caller, code.id))
    request.check_age(clock())
    if not await confirm(request):
        return None
    device, provision = invite(
        store, request, clock(), history=history, delay=max(1, int(delay * 1000))
    )
    message = provision.seal(code, request)
    await api.answer_link(caller, code.id, device, provision.list, message)
    return device


def invite(
    store: DeviceStore, request: LinkRequest, now: int, *, history: bool, delay: int
) -> tuple[DeviceId, Provision]:
    """What the new device is called and told; what this one needs for it is kept. Times in ms.

    Raises Denied.
    """
    own, key = store.own(), Secret(secrets.token_bytes(HISTORY_KEY_BYTES))
    with store.transaction():
        device, signed = _with_device(store, request, now)
        transfer.prepare(store, device, key, now + delay, now, whole=history)
        store.set_fact(f"device name {device}", request.name)
        store.set_fact("invited until", now + INVITED_MS)
    return device, Provision(own.account, own.number, signed, own.server, "", b"", key)


def _with_device(store: DeviceStore, request: LinkRequest, now: int) -> tuple[DeviceId, bytes]:
    """The next list, with the device in it. It becomes the current one when the device has
    registered and the server says so."""
    listed = store.lists.current(store.own().account)
    if listed is None:
        raise NotRegistered
    for entry in listed.devices:
        if entry.identity == request.identity:
            if entry.device == PRIMARY:
                raise Denied("That is this device itself.")
            listed = listed.without(entry.device, now)  # it comes back, as another device
    if len(listed.devices) >= limits.DEVICES:
        raise Denied(f"An account has at most {limits.DEVICES} devices; revoke one first.")
    numbers = listed.numbers()
    free = next(n for n in range(PRIMARY + 1, MAX_DEVICE + 1) if n not in numbers)
    device = DeviceId(free)
    newer = listed.with_device(ListedDevice(device, request.identity, now), now)
    return device, store.lists.sign(newer, store.keys.identity_key_pair())
