"""The sentences for events a person in a chat should know of."""

from __future__ import annotations

from typing import Final

from raychat.client.acting import Peer
from raychat.client.client import Client
from raychat.client.events import (
    DeviceAdded,
    DeviceRefused,
    DeviceRemoved,
    Event,
    Expired,
    Failed,
    IdentityChanged,
    InboxGap,
    Stopped,
    TransparencyAlarm,
    Undecryptable,
)
from raychat.client.model import Conversation
from raychat.ids import AccountId
from raychat.transparency.watch import SENTENCES

REQUEST: Final = (
    "You have not accepted this person: they do not see ✓✓. /accept them, or /block them; "
    "answering accepts."
)


def notice(event: Event, client: Client, peer: Peer) -> str | None:
    """The sentence for an event in the chat with `peer`, None for what concerns it not."""
    conversation = client.conversation(peer)
    return _of_devices(event) or _of_chat(event, conversation, client.account)


def _of_chat(event: Event, here: Conversation | None, own: AccountId) -> str | None:
    account = here.account if here else None
    match event:
        case Failed(_, where, error) if here and where == here.id:
            return f"A message was not sent: {error}"
        case Expired(_, where, _) if here and where == here.id:
            return "A message was never fetched and has expired."
        case Undecryptable(sender, _, error) if sender == account:
            return f"A message could not be opened, and its sender knows: {error}"
        case IdentityChanged(who, _) if who == account:
            if here is not None and here.verified is not None:
                return (
                    "The key of this contact has CHANGED since you compared safety numbers. Write "
                    "nothing secret until you have compared them again: /verify"
                )
            return (
                "The identity key of this contact has changed: a new phone, or somebody else. "
                "Compare safety numbers: /verify"
            )
        case DeviceRefused(who, device, error) if who in (account, own):
            named = "A list of devices" if device is None else f"Device {device}"
            return f"{named} that the server named was refused: {error}"
        case TransparencyAlarm(who, reason) if who in (account, own):
            whose = "your own" if who == own else "this contact's"
            return (
                f"ALARM of the key log, about {whose} keys: {SENTENCES[reason]} See raychat verify "
                "--log, and compare safety numbers by another way."
            )
        case Stopped(error):
            return f"Not connecting any more: {error}"
    return None


def _of_devices(event: Event) -> str | None:
    match event:
        case DeviceAdded(device):
            return (
                f"Device {device} was linked to your account. If that was not you, take it out at "
                f"once: raychat revoke {device}"
            )
        case DeviceRemoved(device):
            return f"Device {device} is no device of your account any more."
        case InboxGap(first, last):
            return (
                f"{last - first + 1} messages are missing: this profile is a copy that is older "
                "than what it has received."
            )
    return None
