"""The device's file: nothing can be read from it without the key, and no half of anything."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from raychat.client import keyfile
from raychat.client.events import MessageReceived
from raychat.client.model import State
from raychat.client.schema import MIGRATIONS
from raychat.client.signals import Arrived
from raychat.client.store import DeviceStore
from raychat.database import connect
from raychat.errors import (
    NotRegistered,
    StoreError,
    StoreInUse,
    StoreLocked,
    StoreTooNew,
)
from raychat.ids import AccountId, DeviceId, PhoneNumber, Secret
from raychat.wire import frames
from tests.client.world import Device, World

ALICE = PhoneNumber("+15550001111")
TOKEN = Secret(b"TOKENTOKENTOKENTOKENTOKENTOKENTO")
ACCOUNT = AccountId(b"A" * 16)


def registered(home: Path) -> DeviceStore:
    store = DeviceStore(home)
    with store.transaction():
        store.prepare(ALICE, "http://server")
        store.register(ACCOUNT, DeviceId(1), 1, TOKEN)
    return store


def test_the_files_show_nothing(tmp_path: Path) -> None:
    store = registered(tmp_path)
    with store.transaction():
        peer = store.history.open_conversation(PhoneNumber("+15550002222"))
        store.history.add_outgoing(peer.id, 1, "a rare plaintext", 1)
        store.keys.make_long_keys(1)
    identity = store.keys.identity_key_pair().to_bytes()
    secrets = [b"a rare plaintext", ALICE.encode(), b"15550002222", bytes(TOKEN), identity, ACCOUNT]

    def shown() -> bytes:
        return b"".join(
            path.read_bytes() for path in tmp_path.iterdir() if path.name != "device.key"
        )

    data = shown()
    store.close()
    for secret in secrets:
        assert secret not in data + shown()
    assert not data.startswith(b"SQLite format 3")


def test_only_this_user_may_read_the_files(tmp_path: Path) -> None:
    registered(tmp_path / "profile").close()
    for name in ("device.db", "device.key", "device.lock"):
        mode = (tmp_path / "profile" / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE((tmp_path / "profile").stat().st_mode) == 0o700


def test_another_key_does_not_open_it(tmp_path: Path) -> None:
    registered(tmp_path).close()
    os.remove(tmp_path / "device.key")
    with pytest.raises(StoreError):
        DeviceStore(tmp_path)
    keyfile.create(tmp_path / "device.key")
    with pytest.raises(StoreLocked):
        DeviceStore(tmp_path)
    with pytest.raises(StoreLocked):
        DeviceStore.read_only(tmp_path)


def test_a_passphrase_locks_it(tmp_path: Path) -> None:
    DeviceStore(tmp_path, "correct horse").close()
    for wrong in (None, "wrong horse"):
        with pytest.raises(StoreLocked):
            DeviceStore(tmp_path, wrong)
    DeviceStore(tmp_path, "correct horse").close()


def test_one_process_writes_and_others_read(tmp_path: Path) -> None:
    store = registered(tmp_path)
    with pytest.raises(StoreInUse, match="--profile"):
        DeviceStore(tmp_path)
    reader = DeviceStore.read_only(tmp_path)
    assert reader.own().number == ALICE
    with store.transaction():
        peer = store.history.open_conversation(PhoneNumber("+15550002222"))
        store.history.add_outgoing(peer.id, 1, "hi", 1)
    assert [m.text for m in reader.history.history()] == ["hi"]
    with pytest.raises(StoreError), reader.transaction():
        reader.history.add_outgoing(peer.id, 1, "no", 1)
    reader.close()
    store.close()


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered):
        DeviceStore.read_only(tmp_path / "nobody")
    store = DeviceStore(tmp_path)
    with pytest.raises(NotRegistered):
        store.own()
    with pytest.raises(NotRegistered):
        store.keys.registration_id()
    store.close()


@pytest.mark.parametrize("opened", [DeviceStore, DeviceStore.read_only])
def test_a_later_version_is_left_alone(
    tmp_path: Path, opened: Callable[[Path], DeviceStore]
) -> None:
    registered(tmp_path).close()
    db = connect(tmp_path / "device.db", key=keyfile.read(tmp_path / "device.key"))
    db.pragma("user_version", len(MIGRATIONS) + 1)
    db.close()
    with pytest.raises(StoreTooNew):
        opened(tmp_path)


def test_reading_brings_an_older_version_up_to_date(tmp_path: Path) -> None:
    keyfile.create(tmp_path / "device.key")
    connect(tmp_path / "device.db", key=keyfile.read(tmp_path / "device.key")).close()
    store = DeviceStore.read_only(tmp_path)
    assert store.history.history() == []
    store.close()


def test_a_profile_belongs_to_one_number(tmp_path: Path) -> None:
    store = registered(tmp_path)
    identity = store.keys.identity_key_pair()
    with store.transaction():
        store.prepare(ALICE, "http://elsewhere")
    assert store.own().server == "http://elsewhere"
    store.keys.forget()
    assert store.keys.identity_key_pair() == identity
    with pytest.raises(StoreError), store.transaction():
        store.prepare(PhoneNumber("+15550009999"), "http://server")
    store.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = registered(tmp_path)
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.history.open_conversation(PhoneNumber("+15550002222"))
        store.keys.make_one_time_keys(1, 2, 1)
        raise ZeroDivisionError
    assert store.history.conversations() == []
    assert store.keys.unpublished(9) == ([], [])
    store.close()


# -- crashes between any two steps ---------------------------------------------------------


def copies_while(device: Device, folder: Path, step: Callable[[], object]) -> list[Path]:
    """A copy of the device's directory as it is before each statement of `step`, and after."""
    copies: list[Path] = []

    def copy(*_: object) -> bool:
        copies.append(folder / str(len(copies)))
        shutil.copytree(device.home, copies[-1])
        return True

    device.store._db.exec_trace = copy
    try:
        step()
    finally:
        device.store._db.exec_trace = None
    copy()
    return copies


def state_of(home: Path) -> tuple[object, ...]:
    """What must change together."""
    store = DeviceStore(home)
    messages = [(m.text, m.state) for m in store.history.history()]
    owed = [
        [(row.id, bool(row.parts)) for row in store.outbox.owed(key, 0, 99)]
        for key in store.outbox.owing()
    ]
    sessions = store._rows("SELECT record FROM session")
    own = store.own()
    state = (messages, owed, sessions, own.seen, own.revision)
    store.close()
    return state


def test_receiving_is_all_or_nothing(
    world: World, alice: Device, bob: Device, tmp_path: Path
) -> None:
    alice.say(bob, "zero")
    world.settle()
    for text in ("one", "two", "three"):
        alice.say(bob, text)
    alice.to_server()
    assert bob.incoming
    data = b"".join(bob.incoming)
    bob.incoming.clear()
    received = list(frames.to_device(data))
    copies = copies_while(bob, tmp_path / "copies", lambda: bob.turn(Arrived(received)))
    states = [state_of(home) for home in copies]
    assert len(copies) > 10
    assert states[0] != states[-1]
    change = states.index(states[-1])
    assert states == [states[0]] * change + [states[-1]] * (len(states) - change)
    # Whatever the crash left, the server sends the rest again and each is shown once.
    for home in (copies[0], copies[change - 1], copies[change]):
        bob.go_back(home)
        bob.events.clear()
        bob.connect()
        bob.to_server()
        bob.to_device()
        assert bob.texts(outgoing=False) == ["zero", "one", "two", "three"]
        assert len([e for e in bob.events if isinstance(e, MessageReceived)]) == (
            3 if home != copies[change] else 0
        )


def test_sending_is_all_or_nothing(
    world: World, alice: Device, bob: Device, tmp_path: Path
) -> None:
    bob.accept(alice)
    alice.say(bob, "zero")
    world.settle()
    copies = copies_while(alice, tmp_path / "copies", lambda: alice.say(bob, "one"))
    states = [state_of(home) for home in copies]
    assert len(copies) > 5
    change = states.index(states[-1])
    assert change > 0
    assert states == [states[0]] * change + [states[-1]] * (len(states) - change)
    # What left the device after the commit is in the file with the same bytes.
    sent = list(alice.outgoing)
    alice.go_back(copies[change])
    alice.connect()
    alice.to_server()
    alice.to_device()
    assert list(alice.outgoing) == sent
    world.settle()
    assert bob.texts(outgoing=False) == ["zero", "one"]
    assert [m.state for m in alice.history()] == [State.DELIVERED] * 2
