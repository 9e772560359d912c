"""The key-transparency log, as the server keeps it. TRANSPARENCY.md has the format.

What comes while an epoch is being written goes into the next one together. A change is durable
before it is answered, so that whoever was told may rely on others finding it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

from raychat import limits
from raychat.clock import Clock, wall_ms
from raychat.crypto.device_list import SignedDeviceList
from raychat.errors import Malformed, Overloaded
from raychat.ids import AccountId
from raychat.keys import log_key
from raychat.keys.log_store import Change, LogStore, Proofs
from raychat.transparency.answer import Answer, State
from raychat.transparency.head import SignedHead

RESIGN_MS: Final = 600_000
"""A head that is asked for is signed anew when it is older: devices distrust an old one."""


class TransparencyLog:
    """One log. What the store raises passes through."""

    def __init__(self, path: Path, key_path: Path, clock: Clock = wall_ms) -> None:
        """Open or begin the log in a file, with its signing key in another one.

        Raises StoreInUse, StoreTooNew, StoreError, and StoreLocked without the key.
        """
        self._clock = clock
        self._store = LogStore(path)
        try:
            self._key = log_key.load_or_create(key_path, log_exists=self._store.size() > 0)
        except BaseException:
            self._store.close()
            raise
        self._head: SignedHead | None = None
        self._waiting: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def append(self, account: AccountId, data: bytes) -> None:
        """The account has this signed device list now; it is in the log when this returns.

        The same list again changes nothing, and so does one that a newer one of the same account
        key has overtaken. Whoever calls has checked the signature.
        Raises Malformed, TooLarge, InvalidKey, Overloaded, StoreError.
        """
        signed = SignedDeviceList.parse(data)
        if signed.unverified.account != account:
            raise Malformed("The device list is of another account.")
        if len(self._waiting) >= limits.LOG_WAITING:
            raise Overloaded
        change = Change(
            account, signed.digest(), signed.account_key.data, signed.unverified.version
        )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def prove(self, account: AccountId, since: int, known: int) -> bytes:
        """An `Answer` about an account for who has seen the log with `since` epochs and the
        account with `known` lists (0 for nothing). Raises BadProof if there were never so many
        epochs."""
        proofs, proof, lists = self._store.account(account, since, known)
        answer = Answer(
            self._signed(proofs),
            proofs.consistency,
            proofs.inclusion,
            proofs.epoch_time,
            proof,
            lists,
        )
        return answer.to_bytes()

    async def state(self, since: int) -> bytes:
        """A `State` for who has seen the log with `since` epochs. Raises BadProof."""
        proofs = self._store.proofs(since)
        state = State(bytes(self._key.verify_key), self._signed(proofs), proofs.consistency)
        return state.to_bytes()

    async def close(self) -> None:
        """Write what waits, and close the file."""
        while self._writer is not None:
            await asyncio.wait((self._writer,))
        self._store.close()

    async def _write(self) -> None:
        while self._waiting:
            batch = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), limits.LOG_BATCH))
            ]
            changes = [change for change, _ in batch]
            failure: Exception | None = None
            try:
                await asyncio.to_thread(self._store.commit, changes, self._clock())
            except Exception as error:
                failure = error
            for _, done in batch:
                if done.done():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
        self._writer = None

    def _signed(self, proofs: Proofs) -> SignedHead:
        now = self._clock()
        head = self._head
        if head is None or head.size != proofs.size or not 0 <= now - head.time < RESIGN_MS:
            head = SignedHead.sign(proofs.size, proofs.root, proofs.map_root, now, self._key)
            self._head = head
        return head
