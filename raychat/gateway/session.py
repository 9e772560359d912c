"""One device's connection, as rules: frames in, link items and replies out. Pure.

A session is *new* until its hello, *claiming* until its User has checked the token, then
*admitted*. It remembers only what lets the gateway attach it again to a host that was
restarted: the last acknowledgement and the last receipt revision that went through.
"""

from __future__ import annotations

from enum import Enum, auto
from hashlib import sha256
from typing import Any, NamedTuple

from raychat import limits
from raychat.errors import Malformed, OutOfOrder, RateLimited, RaychatError, TooLarge, Unsupported
from raychat.ids import AccountId, DeviceId, SessionId
from raychat.wire import frames
from raychat.wire.batch import Op
from raychat.wire.frames import Close, Refused, Send, pack_refused


class State(Enum):
    NEW = auto()
    CLAIMING = auto()
    ADMITTED = auto()
    CLOSED = auto()


class Budget(NamedTuple):
    """A token bucket: `burst` messages at once, refilled with `per_second`."""

    burst: float = limits.SEND_BURST
    per_second: float = limits.SEND_PER_SECOND


class Route(NamedTuple):
    """An item for the host of an account; `size` is its payload's bytes."""

    account: AccountId
    item: tuple[Any, ...]
    size: int


class Reply(NamedTuple):
    """A frame for the device."""

    frame: bytes


class End(NamedTuple):
    """The connection must be closed, for this reason."""

    close: Close
    code: str
    detail: str


Effect = Route | Reply | End


class Session:
    """The rules of one connection. Times are seconds of a clock that only grows."""

    __slots__ = (
        "_budget",
        "_hello",
        "_refilled",
        "_tokens",
        "_untold",
        "acked",
        "incarnation",
        "number",
        "revision",
        "state",
    )

    def __init__(self, number: SessionId, budget: Budget, now: float) -> None:
        self.number = number
        self.state = State.NEW
        self.incarnation = 0
        self.acked = 0
        self.revision = 0
        self._hello: tuple[AccountId, DeviceId, bytes] | None = None
        self._untold: list[int] = []
        self._budget = budget
        self._tokens = budget.burst
        self._refilled = now

    @property
    def account(self) -> AccountId | None:
        return self._hello[0] if self._hello else None

    def receive(self, data: bytes, now: float) -> list[Effect]:
        """One WebSocket message of the device. What is wrong with it ends the connection. The
        frames before a wrong one count, unless the message cannot be cut into frames at all."""
        effects: list[Effect] = []
        try:
            for frame in frames.split(data):
                if self.state is not State.ADMITTED:
                    effects.append(self._first(frame))
                elif frame[0] == 2:
                    effects.append(self._send(frames.to_server(frame), now))
                elif frame[0] == 3:
                    effects.append(self._ack(frames.to_server(frame)))
                else:
                    frames.to_server(frame)
                    raise OutOfOrder("Hello is said once.")
        except RaychatError as error:
            effects.append(self.end(error))
        return effects

    def end(self, error: RaychatError) -> End:
        self.state = State.CLOSED
        match error:
            case Unsupported():
                close = Close.UNSUPPORTED
            case Malformed() | TooLarge() | OutOfOrder():
                close = Close.MALFORMED
            case _:
                close = Close.OVERLOADED
        return End(close, error.code, error.detail)

    def _first(self, raw: list[Any]) -> Route:
        frame = frames.to_server(raw)
        if self.state is not State.NEW or not isinstance(frame, frames.Hello):
            raise OutOfOrder("Say hello first, and wait for the welcome.")
        self.state = State.CLAIMING
        self._hello = (frame.account, frame.device, sha256(frame.token).digest())
        self.acked = frame.seen
        self.revision = frame.revision
        self._untold = list(frame.untold)
        return self.attach()

    def attach(self, again: bool = False) -> Route:
        """What makes this session known to its User, for the first time or again."""
        assert self._hello is not None
        account, device, token_hash = self._hello
        seen, untold, revision = self.acked, self._untold, self.revision
        who = (self.number, account, device, token_hash)
        return Route(account, (Op.ATTACH, *who, seen, untold, revision, again), 64)

    def detach(self) -> Route | None:
        """What tells its User that the connection is gone."""
        if self._hello is None:
            return None
        account, device, _ = self._hello
        return Route(account, (Op.DETACH, self.number, account, device), 0)

    def admit(self, incarnation: int) -> bool:
        """The User knows this device. False if it was admitted before."""
        first = self.state is State.CLAIMING
        if first:
            self.state = State.ADMITTED
            self.incarnation = incarnation
        return first

    def _send(self, frame: Any, now: float) -> Effect:
        assert self._hello is not None
        to, message, parts = frame
        budget = self._budget
        self._tokens = min(budget.burst, self._tokens + (now - self._refilled) * budget.per_second)
        self._refilled = now
        if self._tokens < 1:
            error = RateLimited()
            return Reply(pack_refused(Refused(to, message, error.code, error.detail, True)))
        self._tokens -= 1
        account, device, _ = self._hello
        size = sum(len(part[3]) for part in parts)
        item = (3, self.number, to, account, device, self.incarnation, message, parts)
        return Route(to, item, size)

    def _ack(self, frame: Any) -> Route:
        assert self._hello is not None
        upto, untold = frame
        account, device, _ = self._hello
        self.acked = max(self.acked, upto)
        if untold:
            self._untold = (self._untold + untold)[-limits.UNTOLD_PER_ACK :]
        return Route(account, (4, self.number, account, device, upto, untold), 0)


__all__ = ["Budget", "End", "Reply", "Route", "Send", "Session", "State"]
