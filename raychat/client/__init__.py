"""A device: keys, encrypted history, outbox and connection, as an SDK and as commands."""

from __future__ import annotations

from raychat.client.acting import Peer
from raychat.client.client import Client
from raychat.client.model import Conversation, Message, State

__all__ = ["Client", "Conversation", "Message", "Peer", "State"]
