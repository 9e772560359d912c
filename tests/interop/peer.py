"""The reference library as a device that is spoken to over a pipe (see peer.mjs)."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

from raychat.crypto import CiphertextMessage, KemPublicKey, MessageKind, PreKeyBundle, PublicKey
from raychat.ids import Address, DeviceId, account_text, new_account_id
from tests.crypto.device import NOW

HERE = Path(__file__).parent


class PeerError(Exception):
    """The reference library refused."""


class Peer:
    """The Node process."""

    def __init__(self, node: str, package: str) -> None:
        self._process = subprocess.Popen(
            [node, "peer.mjs", package],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._names = itertools.count()

    def call(self, op: str, name: str, **arguments: object) -> Any:
        """The answer to one request. Raises PeerError if the library refused."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"op": op, "name": name, **arguments}) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the peer has died; its output is above"
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply["ok"]

    def device(self, address: Address | None = None) -> PeerDevice:
        """A new device, at a new address or as a new installation at a known one."""
        return PeerDevice(self, f"device-{next(self._names)}", address)

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


class PeerDevice:
    """A device of the reference library, with the methods of our own."""

    def __init__(self, peer: Peer, name: str, address: Address | None = None) -> None:
        self._peer = peer
        self._name = name
        self.address = address or Address(new_account_id(), DeviceId(7))
        self._call("new", **_named(self.address), registrationId=4242)
        state = self.state()
        self.identity_key = PublicKey(_bytes(state["identity"]))
        self.binds_addresses: bool = state["binds_addresses"]

    def bundle(self, *, one_time: bool = True) -> PreKeyBundle:
        fields = self._call("bundle", oneTime=one_time, now=NOW)
        one_time_key = fields["pre_key"]
        return PreKeyBundle(
            registration_id=fields["registration_id"],
            identity_key=PublicKey(_bytes(fields["identity_key"])),
            signed_pre_key_id=fields["signed_pre_key_id"],
            signed_pre_key=PublicKey(_bytes(fields["signed_pre_key"])),
            signed_pre_key_signature=_bytes(fields["signed_pre_key_signature"]),
            kyber_pre_key_id=fields["kyber_pre_key_id"],
            kyber_pre_key=KemPublicKey(_bytes(fields["kyber_pre_key"])),
            kyber_pre_key_signature=_bytes(fields["kyber_pre_key_signature"]),
            pre_key_id=fields["pre_key_id"],
            pre_key=one_time_key and PublicKey(_bytes(one_time_key)),
        )

    def process_bundle(self, address: Address, bundle: PreKeyBundle, now: int) -> None:
        fields = {
            "registration_id": bundle.registration_id,
            "identity_key": _text(bundle.identity_key.data),
            "signed_pre_key_id": bundle.signed_pre_key_id,
            "signed_pre_key": _text(bundle.signed_pre_key.data),
            "signed_pre_key_signature": _text(bundle.signed_pre_key_signature),
            "kyber_pre_key_id": bundle.kyber_pre_key_id,
            "kyber_pre_key": _text(bundle.kyber_pre_key.data),
            "kyber_pre_key_signature": _text(bundle.kyber_pre_key_signature),
            "pre_key_id": bundle.pre_key_id,
            "pre_key": bundle.pre_key and _text(bundle.pre_key.data),
        }
        self._call("process", peer=_named(address), bundle=fields, now=now)

    def encrypt(self, address: Address, plaintext: bytes, now: int) -> CiphertextMessage:
        reply = self._call("encrypt", peer=_named(address), plaintext=_text(plaintext), now=now)
        return CiphertextMessage(MessageKind(reply["kind"]), _bytes(reply["body"]))

    def decrypt(self, address: Address, message: CiphertextMessage) -> bytes:
        return _bytes(
            self._call(
                "decrypt", peer=_named(address), kind=int(message.kind), body=_text(message.body)
            )
        )

    def sign(self, data: bytes) -> bytes:
        return _bytes(self._call("sign", data=_text(data)))

    def verify(self, key: PublicKey, data: bytes, signature: bytes) -> bool:
        return bool(
            self._call("verify", key=_text(key.data), data=_text(data), signature=_text(signature))
        )

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._call("state")
        return state

    def _call(self, op: str, **arguments: object) -> Any:
        return self._peer.call(op, self._name, **arguments)


def _named(address: Address) -> dict[str, object]:
    return {"account": account_text(address.account), "device": address.device}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
