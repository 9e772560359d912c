"""`verify`: is it really them? Safety numbers, and the key-transparency log."""

from __future__ import annotations

import base64
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from raychat.client.client import Client
from raychat.client.commands.profile import (
    PLAIN_OR_COLORED,
    THIS_DEVICE,
    AsJson,
    Flag,
    Look,
    Profile,
    print_json,
    run,
    say,
)
from raychat.client.commands.terminal import qr
from raychat.client.display import moment, printable
from raychat.client.model import Conversation
from raychat.client.numbers import recipient
from raychat.client.store import DeviceStore
from raychat.client.verifying import is_same, is_verified, safety_number
from raychat.clock import wall_ms
from raychat.crypto.fingerprint import SafetyNumber
from raychat.errors import BadRequest, RaychatError, StoreInUse
from raychat.ids import AccountId, account_text
from raychat.transparency.head import SignedHead
from raychat.transparency.watch import SENTENCES, Reason

DIFFERENT = (
    "The safety numbers are NOT the same. Do not go on: somebody may stand between you. See that "
    "both of you have looked at the number of the other, and ask them whether they have a new "
    "phone."
)


def verify(
    number: str | None = None,
    *,
    scan: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    mark: Flag = False,
    unmark: Flag = False,
    log: Flag = False,
    compare: str | None = None,
    qr_code: bool = True,
    device: Profile = THIS_DEVICE,
    look: Look = PLAIN_OR_COLORED,
    as_json: AsJson = False,
) -> int:
    """Compare safety numbers with somebody, and see what the key log says of them.

    Both of you run this and compare the 60 digits, by a call or side by side; or scan the code of
    the other. The exit code is 1 if what was scanned, or the log, is not as it should be.

    Parameters
    ----------
    number
        The phone number (or account) of the contact.
    scan
        What the other's screen shows: the digits, or the content of their QR code in hexadecimal
        or base64; - reads it (also as bytes) from stdin. If it is the same, they are verified.
    mark
        Remember that the numbers were compared and are the same.
    unmark
        Forget that.
    log
        Show the head of the key log and the entry of one's own account.
    compare
        A head that another device was shown (base64): is it of the same log?
    qr_code
        Show the code for the other to scan.
    as_json
        Print the outcome as one JSON object.
    """
    if log or compare is not None:
        return _log(device, compare, as_json)
    if number is None:
        raise BadRequest("Say whom to compare with: raychat verify NUMBER (or --log).")
    if mark and unmark:
        raise BadRequest("--mark and --unmark do not go together.")
    peer = recipient(number)
    with device.reader() as store:
        contact = store.history.conversation_with(peer)
        expected = safety_number(store, contact.account if contact else None)
        assert contact is not None
        assert contact.account is not None
        key = store.lists.account_key(contact.account)
        assert key is not None
        verified = is_verified(contact, store)
        changed = contact.verified is not None and not verified
    same = is_same(expected, _scanned(scan)) if scan is not None else None
    wanted = b"" if unmark or same is False else key.data if mark or same else None
    if wanted is not None and wanted != (contact.verified or b""):
        run(_remember(device.client(), contact, wanted))
        verified, changed = wanted == key.data, False
    state = _state(device, contact.account)
    if as_json:
        print_json(
            {
                "account": account_text(contact.account),
                "number": str(contact.number) if contact.number else None,
                "safety_number": expected.text,
                "groups": expected.groups,
                "code": base64.b64encode(expected.code).decode(),
                "same": same,
                "verified": verified,
                "changed": changed,
                "log": state,
            }
        )
    else:
        _show(contact, expected, qr_code and same is None and sys.stdout.isatty(), look)
        _conclude(contact, same, verified, changed, state)
    return 1 if same is False or state["alarm"] else 0


async def _remember(me: Client, contact: Conversation, key: bytes) -> None:
    async with me:
        await me.choose(contact, "verified", key)


def _scanned(scan: str) -> str | bytes:
    if scan != "-":
        return scan
    data = sys.stdin.buffer.read(64 * 1024)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:  # the content of the code itself
        return data


def _show(contact: Conversation, number: SafetyNumber, with_code: bool, look: Look) -> None:
    print(f"The safety number with {printable(contact.title)}:\n")
    groups = number.groups
    for at in range(0, len(groups), 4):
        print("  " + " ".join(groups[at : at + 4]))
    if with_code:
        print("\n" + qr(number.code, look.is_colored()), end="")
    print()


def _conclude(
    contact: Conversation,
    same: bool | None,
    verified: bool,
    changed: bool,
    state: dict[str, Any],
) -> None:
    if same is False:
        print(DIFFERENT)
    elif verified:
        print("Verified: the numbers were compared, and are the same.")
    elif changed:
        print("The key has CHANGED since the numbers were compared. Compare them again.")
    else:
        print("Not compared yet. If they are the same on both sides, run it with --mark.")
    print(log_sentence(state))


# -- the key log -----------------------------------------------------------------------------


def _state(device: Profile, account: AccountId) -> dict[str, Any]:
    """What the key log says of an account: asked now, or as it was seen last."""

    async def go(me: Client) -> tuple[Reason | None, str | None]:
        async with me:
            try:
                return await me.log_watch.look_at(account), None
            except RaychatError as error:
                return None, error.code

    try:
        reason, failure = run(go(device.client()))
    except StoreInUse as error:  # it is looked after by the process that has it open
        reason, failure = None, error.code
    with device.reader() as store:
        trace, looked = store.key_log.trace(account), store.key_log.looked_at(account)
        return {
            "looked": looked or None,
            "lists": trace.counter,
            "alarm": reason.value if reason else None,
            "error": failure,
            "evidence": len(store.key_log.evidence()),
        }


def log_sentence(state: dict[str, Any]) -> str:
    """What a person should know of it."""
    if state["alarm"]:
        return (
            f"Key log: ALARM. {SENTENCES[Reason(state['alarm'])]} Compare safety numbers, and the"
            " head of the log (raychat verify --log), by another way than this server."
        )
    seen = "has not been looked at yet"
    if state["looked"]:
        many = "1 device list" if state["lists"] == 1 else f"{state['lists']} device lists"
        seen = f"agrees ({many}, looked at {moment(state['looked'], wall_ms())})"
    failed = f"; it could not be asked now [{state['error']}]" if state["error"] else ""
    kept = f"; {state['evidence']} contradictions are kept" if state["evidence"] else ""
    return f"Key log: it {seen}{failed}{kept}."


def _log(device: Profile, compare: str | None, as_json: bool) -> int:
    """The own entry, the head, and the evidence."""
    agrees: bool | None = None
    if compare is not None:
        data = _head_bytes(compare)

        async def go(me: Client) -> bool:
            async with me:
                return await me.log_watch.compare(data)

        agrees = run(go(device.client()))
    with device.reader() as store:
        own = store.own().account
    state = _state(device, own)
    with device.reader() as store:
        found = {**state, "agrees": agrees, **_head(store)}
        found["evidence"] = [
            {"at": at, "kept": _text(kept), "shown": _text(shown)}
            for at, kept, shown in store.key_log.evidence()
        ]
    if as_json:
        print_json({"account": account_text(own), **found})
    else:
        _show_log(found, state)
    return 1 if agrees is False or state["alarm"] else 0


def _head(store: DeviceStore) -> dict[str, Any]:
    key, head = store.key_log.key(), store.key_log.head()
    return {
        "key": key.hex() if key is not None else None,
        "size": head.size if head is not None else 0,
        "time": head.time if head is not None else None,
        "digest": head.digest().hex() if head is not None else None,
        "head": _text(head) if head is not None else None,
    }


def _show_log(found: dict[str, Any], state: dict[str, Any]) -> None:
    print(log_sentence(state))
    if found["head"] is None:
        say("This device has not seen the log yet.")
        return
    print(f"Signed by {found['key']}")
    print(f"Head of {found['size']} epochs, {moment(found['time'], wall_ms())}: {found['digest']}")
    print("To see that others are shown the same log, give them this head:")
    print(f"  raychat verify --compare {found['head']}")
    if found["agrees"] is not None:
        print(
            "The head that was given is of the same log."
            if found["agrees"]
            else "The head that was given is of ANOTHER log: the server shows different people "
            "different keys. Both heads are kept as evidence."
        )
    for each in found["evidence"]:
        print(f"Contradiction found {moment(each['at'], wall_ms())}:")
        print(f"  {each['kept']}\n  {each['shown']}")


def _head_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise BadRequest("A head of the log is given in base64.") from None


def _text(head: SignedHead) -> str:
    return base64.b64encode(head.to_bytes()).decode()


__all__ = ["verify"]
