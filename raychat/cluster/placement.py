"""Which host an account lives on: a pure function of the layout, the same for everyone."""

from __future__ import annotations

from typing import NamedTuple

from raychat.config import Placement
from raychat.ids import AccountId, account_text, shard_of

HOST_PREFIX = "host-"
USER_PREFIX = "user-"


class Layout(NamedTuple):
    """How Users are spread over hosts. Written into the data directory beside their stores."""

    placement: Placement
    hosts: int

    def host_of(self, account: AccountId) -> str:
        """The name of the host actor, of its link socket and of its store."""
        if self.placement is Placement.DEDICATED:
            return USER_PREFIX + account_text(account)
        return f"{HOST_PREFIX}{shard_of(account) % self.hosts}"

    def fixed_hosts(self) -> list[str]:
        """The hosts that exist before any account does."""
        if self.placement is Placement.DEDICATED:
            return []
        return [f"{HOST_PREFIX}{number}" for number in range(self.hosts)]
