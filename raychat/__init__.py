"""raychat: an end-to-end encrypted messenger whose servers are actors on a Ray cluster.

async with raychat.Client() as me:
    await me.send("+15550002222", "hi")
    async for event in me.events():
        ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raychat.client import Client as Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Client":  # only who is a device loads what a device needs
        from raychat.client import Client

        return Client
    raise AttributeError(name)
