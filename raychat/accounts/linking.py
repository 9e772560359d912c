"""Link sessions: where a new device and a primary leave messages for one another. Pure.

Nobody knows the account when a link begins, so the new device opens a session under an id that
only its screen shows. The primary finds its request there, and leaves its answer with a signed
device list that names the new device; with that the new device is registered. What they say is
encrypted with a key that never comes here, and the list is the primary's: all this place could do
is to let a link fail.

    open ──(primary answers)──> answered ──(device registers, maybe again)──> expired
      └──────────────(limits.LINK_SECONDS)──────────────────────────────────────┘

Soft state: a restart ends all sessions, and the person begins anew. Times are ms since 1970.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final, NamedTuple

from raychat import limits
from raychat.errors import BadToken, LinkExpired, LinkTaken, Malformed, Overloaded, TooLarge
from raychat.ids import AccountId, DeviceId

ID_BYTES: Final = 5


class Grant(NamedTuple):
    """What a primary lets a new device be: the list is signed and names it."""

    account: AccountId
    device: DeviceId
    list: bytes


class _Session:
    __slots__ = ("ends", "grant", "message", "request", "token_hash")

    def __init__(self, request: bytes, token_hash: bytes, ends: int) -> None:
        self.request = request
        self.token_hash = token_hash
        self.ends = ends
        self.grant: Grant | None = None
        self.message = b""


class LinkSessions:
    """All links that are under way, at most limits.LINKS."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, _Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, link: bytes, request: bytes, token_hash: bytes, now: int) -> int:
        """A new device waits. `token_hash` will show that it is the one. Returns for how many
        seconds. Raises Malformed, TooLarge, LinkTaken, Overloaded."""
        if len(link) != ID_BYTES:
            raise Malformed(f"The id of a link is {ID_BYTES} bytes.")
        if len(request) > limits.LINK_REQUEST_BYTES:
            raise TooLarge(f"A link request is at most {limits.LINK_REQUEST_BYTES} bytes.")
        self._forget_ended(now)
        if link in self._sessions:
            raise LinkTaken
        if len(self._sessions) >= limits.LINKS:
            raise Overloaded("Too many devices are being linked; try again in a minute.")
        ends = now + limits.LINK_SECONDS * 1000
        self._sessions[link] = _Session(request, token_hash, ends)
        return limits.LINK_SECONDS

    def request(self, link: bytes, now: int) -> tuple[bytes, int]:
        """What the new device says, for a primary, and for how many seconds it still waits.
        Raises LinkExpired."""
        session = self._session(link, now)
        if session.grant is not None:
            raise LinkExpired("That link code has been used.")
        return session.request, (session.ends - now) // 1000

    def answer(self, link: bytes, grant: Grant, message: bytes, now: int) -> None:
        """A primary's answer, once; the same one may come again. Raises LinkExpired, TooLarge."""
        session = self._session(link, now)
        if len(message) > limits.LINK_MESSAGE_BYTES:
            raise TooLarge(f"A link message is at most {limits.LINK_MESSAGE_BYTES} bytes.")
        if session.grant is not None:
            if (session.grant, session.message) != (grant, message):
                raise LinkExpired("That link code has been used.")
            return
        session.grant, session.message = grant, message
        session.ends = now + limits.LINK_FINISH_SECONDS * 1000

    def message(self, link: bytes, token_hash: bytes, now: int) -> bytes | None:
        """What the primary has answered, for the new device; None before it has. Raises
        LinkExpired, BadToken."""
        session = self._own(link, token_hash, now)
        return session.message if session.grant is not None else None

    def grant(self, link: bytes, token_hash: bytes, now: int) -> Grant:
        """As what the new device may be registered. Raises LinkExpired, BadToken, Malformed."""
        session = self._own(link, token_hash, now)
        if session.grant is None:
            raise Malformed("The primary has not answered yet; wait for its message.")
        return session.grant

    def _own(self, link: bytes, token_hash: bytes, now: int) -> _Session:
        session = self._session(link, now)
        if not compare_digest(session.token_hash, token_hash):
            raise BadToken("That is not the token this link was begun with.")
        return session

    def _session(self, link: bytes, now: int) -> _Session:
        session = self._sessions.get(link)
        if session is None or session.ends <= now:
            raise LinkExpired
        return session

    def _forget_ended(self, now: int) -> None:
        for link in [link for link, session in self._sessions.items() if session.ends <= now]:
            del self._sessions[link]
