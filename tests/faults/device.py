"""A device by the letter of PROTOCOL.md, which notes whatever the server does against it.

What a real device keeps in its file (outbox, last inbox number, what it has shown) is kept here
in memory and outlives every connection. Its messages are their own proof: the sender's number
of each is in its body.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping

import aiohttp

from raychat import limits
from raychat.ids import PRIMARY, AccountId, InboxNumber, MessageId
from raychat.users.ranges import Ranges
from raychat.wire import frames
from raychat.wire.frames import Close, Kind, Outcome, Part
from tests.people import Person

CONNECT_SECONDS = 3.0
HEARTBEAT_SECONDS = 4.0
"""A device asks a silent server whether it is there, as a phone with a short patience would."""

PAUSE_MS = (50, 500)
"""Between two connections, unless the server's goodbye names other bounds."""


class Outbox:
    """The messages written to one account, and how far each has come."""

    def __init__(self, account: AccountId) -> None:
        self.account = account
        self.written: list[bytes] = []
        self.settled = 0
        """Every message up to this id has its ✓."""
        self.offered = 0
        """The last id this connection has sent."""
        self.ever_offered = 0
        self.delivered = Ranges()
        """The ids that have their ✓✓."""


class Device:
    """One person's device. `run` it; `write` at any time; read what came in `shown`."""

    def __init__(
        self, person: Person, url: str, friends: Mapping[AccountId, Device] | None = None
    ) -> None:
        """`friends` are devices of this process: a ✓✓ is compared with what they have shown."""
        self.person = person
        self.url = url
        self.outboxes: dict[AccountId, Outbox] = {}
        self.shown: dict[AccountId, list[bytes]] = {}
        self.seen = 0
        self.revision = 0
        self.head = 0
        self.complaints: list[str] = []
        """What the server did that PROTOCOL.md does not allow."""
        self.refusals: list[str] = []
        self.connections = 0
        self.welcome = asyncio.Event()
        self._friends = friends if friends is not None else {}
        self._out: list[bytes] = []
        self._wake = asyncio.Event()
        self._pause = PAUSE_MS
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._later: set[asyncio.TimerHandle] = set()

    # -- its person ------------------------------------------------------------------------

    def write(self, to: AccountId, text: bytes = b"") -> int:
        """Write a message; it goes out when it can. Returns its id."""
        outbox = self.outboxes.setdefault(to, Outbox(to))
        number = len(outbox.written) + 1
        outbox.written.append(b"%s %d %s" % (self.person.name.encode(), number, text))
        if self.welcome.is_set():
            self._offer(outbox)
        return number

    @property
    def unsettled(self) -> int:
        """How many messages wait for their ✓."""
        return sum(len(box.written) - box.settled for box in self.outboxes.values())

    @property
    def undelivered(self) -> int:
        """How many messages wait for their ✓✓."""
        return sum(
            len(box.written) - sum(hi - lo + 1 for lo, hi in box.delivered)
            for box in self.outboxes.values()
        )

    # -- its connections -------------------------------------------------------------------

    def reset(self) -> None:
        """Move into the present event loop; what it keeps is kept."""
        self.welcome = asyncio.Event()
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"device of {self.person}")

    async def stop(self) -> None:
        """Hang up without a word, and stay away."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for timer in self._later:
            timer.cancel()
        self._later.clear()
        self.welcome.clear()

    async def break_connection(self) -> None:
        """The network lets go of the connection."""
        socket = self._socket
        if socket is not None:
            transport = socket.get_extra_info("socket")
            if transport is not None:
                with contextlib.suppress(OSError):
                    transport.shutdown(2)

    async def _run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                self._pause = PAUSE_MS
                try:
                    await self._once(session)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    pass
                finally:
                    self.welcome.clear()
                    self._socket = None
                low, high = self._pause
                await asyncio.sleep(random.uniform(low, high) / 1000)

    async def _once(self, session: aiohttp.ClientSession) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await session.ws_connect(
                f"{self.url}/v1/socket",
                protocols=(frames.SUBPROTOCOL,),
                compress=0,
                max_msg_size=limits.FRAME_BYTES + 1,
                heartbeat=HEARTBEAT_SECONDS,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
            )
        self._socket = socket
        self.connections += 1
        self._out = [self._hello()]
        self._wake.set()
        writer = asyncio.create_task(self._write_on(socket))
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._take(message.data)
                elif message.type is not aiohttp.WSMsgType.ERROR:
                    self._complain(f"a message that is not binary: {message.type.name}")
                elif isinstance(message.data, aiohttp.WebSocketError):
                    self._complain(f"not WebSocket: {message.data}")
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            with contextlib.suppress(Exception):
                await socket.close()
        if socket.close_code in (
            aiohttp.WSCloseCode.MESSAGE_TOO_BIG,
            Close.MALFORMED,
            Close.BAD_TOKEN,
            Close.REPLACED,
            Close.UNSUPPORTED,
        ):
            self._complain(f"closed with {socket.close_code}")

    async def _write_on(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            packed, self._out = self._out, []
            for data in frames.join(packed):
                await socket.send_bytes(data)

    def _send(self, packed: bytes) -> None:
        self._out.append(packed)
        self._wake.set()

    # -- frames ----------------------------------------------------------------------------

    def _hello(self) -> bytes:
        me = self.person
        return frames.pack_hello(
            frames.Hello(
                frames.VERSION,
                me.account,
                PRIMARY,
                me.token,
                InboxNumber(self.seen),
                (),
                self.revision,
            )
        )

    def _offer(self, outbox: Outbox) -> None:
        """Send what this connection has not sent yet, as far as the window goes."""
        last = min(len(outbox.written), outbox.settled + limits.ID_WINDOW)
        for number in range(max(outbox.offered, outbox.settled) + 1, last + 1):
            part = Part(PRIMARY, 1, Kind.MESSAGE, outbox.written[number - 1])
            self._send(frames.pack_send(frames.Send(outbox.account, MessageId(number), [part])))
            outbox.offered = number
        outbox.ever_offered = max(outbox.ever_offered, outbox.offered)

    def _take(self, data: bytes) -> None:
        before = self.seen
        for frame in frames.to_device(data):
            match frame:
                case frames.Welcome():
                    self._welcomed(frame)
                case frames.Sent(to, number, _):
                    self._sent(to, number)
                case frames.Refused():
                    self._refused(frame)
                case frames.Envelope():
                    self._enveloped(frame)
                case frames.Receipt():
                    self._receipted(frame)
                case frames.Goodbye(_, _, low, high):
                    self._pause = (low, high)
        if self.seen > before:
            self._send(frames.pack_ack(self.seen))

    def _welcomed(self, frame: frames.Welcome) -> None:
        if self.welcome.is_set():
            self._complain("a second welcome")
        if frame.cursor != self.seen:
            self._complain(f"welcome with cursor {frame.cursor} after seen {self.seen}")
        if frame.head < frame.cursor:
            self._complain(f"welcome with head {frame.head} before cursor {frame.cursor}")
        if frame.revision < self.revision:
            self._complain(f"welcome with revision {frame.revision} after {self.revision}")
        self.head = frame.head
        self.welcome.set()
        for outbox in self.outboxes.values():
            outbox.offered = outbox.settled
            self._offer(outbox)

    def _sent(self, to: AccountId, number: int) -> None:
        outbox = self.outboxes.get(to)
        if outbox is None or number > outbox.ever_offered:
            self._complain(f"✓ for message {number}, which was never sent")
            return
        outbox.settled = max(outbox.settled, number)
        self._offer(outbox)

    def _refused(self, frame: frames.Refused) -> None:
        """Its id and all later ones are free again: send on from there, after a pause."""
        self.refusals.append(frame.code)
        if not frame.retryable:
            self._complain(f"message {frame.id} refused for good: {frame.code}")
            return
        outbox = self.outboxes[frame.to]
        if frame.id > outbox.offered:
            return
        outbox.offered = max(outbox.settled, frame.id - 1)
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._later.discard(timer)
            if self.welcome.is_set():
                self._offer(outbox)

        timer = loop.call_later(random.uniform(0.05, 0.2), again)
        self._later.add(timer)

    def _enveloped(self, frame: frames.Envelope) -> None:
        if frame.number <= self.seen:
            return
        if frame.number != self.seen + 1:
            self._complain(f"inbox number {frame.number} after {self.seen}")
            return
        self.seen = frame.number
        shown = self.shown.setdefault(frame.sender, [])
        if frame.id != len(shown) + 1:
            self._complain(f"message {frame.id} of a sender after {len(shown)}")
            return
        shown.append(frame.body)

    def _receipted(self, frame: frames.Receipt) -> None:
        self.revision = max(self.revision, frame.revision)
        outbox = self.outboxes.get(frame.peer)
        pairs = list(zip(frame.ranges[::2], frame.ranges[1::2], strict=True))
        if outbox is None or any(hi > outbox.ever_offered for _, hi in pairs):
            self._complain("a receipt for what was never sent")
            return
        if frame.outcome is not Outcome.DELIVERED:
            self._complain("a message expired")
        friend = self._friends.get(frame.peer)
        for lo, hi in pairs:
            if friend is not None and hi > len(friend.shown.get(self.person.account, ())):
                self._complain(f"✓✓ for message {hi} before it was shown")
            outbox.delivered.add(lo, hi)

    def _complain(self, what: str) -> None:
        self.complaints.append(f"{self.person}: {what}")


def circle(persons: list[Person], url: str) -> dict[AccountId, Device]:
    """Devices that know one another."""
    devices: dict[AccountId, Device] = {}
    for person in persons:
        devices[person.account] = Device(person, url, devices)
    return devices
