"""Sealed sender, versions 1 and 2, against the reference library in both directions."""

from __future__ import annotations

import pytest

from raychat.crypto.certificates import SenderCertificate, ServerCertificate, TrustRoots
from raychat.crypto.curve import PrivateKey, PublicKey
from raychat.crypto.sealed_content import ContentHint, SealedContent, SealedKind
from raychat.crypto.sealed_sender import SealedReader, SealedSender
from raychat.crypto.sealed_upload import Upload
from raychat.errors import BadSignature, CryptoError
from raychat.ids import Address, DeviceId, account_text, new_account_id
from tests.crypto.device import NOW, Device
from tests.crypto.fields import flipped
from tests.crypto.group import GROUP, Member
from tests.crypto.sealed import EXPIRES, Authority, Sealer
from tests.interop.group_peer import GroupPeer, Unsealed
from tests.interop.peer import Peer, PeerDevice, PeerError

pytestmark = pytest.mark.interop

HINTS = pytest.mark.parametrize(
    ("hint", "group"),
    [(ContentHint.DEFAULT, b""), (ContentHint.RESENDABLE, b"a group"), (ContentHint.IMPLICIT, b"")],
)
PHONES = pytest.mark.parametrize("phone", [None, "+15550001111"])


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def gpeer(theirs: PeerDevice) -> GroupPeer:
    peer = GroupPeer(theirs)
    peer.sender_key(GROUP)
    return peer


def same(opened: Unsealed, content: SealedContent) -> bool:
    # MessageKind numbers on their side: 3 is PRE_KEY there and 1 here.
    kind = {SealedKind.PRE_KEY: 3}.get(content.kind, int(content.kind))
    return opened == Unsealed(
        kind,
        content.message,
        content.certificate.to_bytes(),
        content.hint,
        content.group or None,
    )


def test_their_certificates_hold_and_say_what_ours_say(gpeer: GroupPeer) -> None:
    for phone in (None, "+15550001111"):
        issued = gpeer.certify(gpeer.address, gpeer.identity_key, EXPIRES, phone)
        root, server = PublicKey(issued.root), ServerCertificate.parse(issued.server)
        server_key = PrivateKey(issued.server_key)
        theirs = SenderCertificate.parse(issued.sender)
        TrustRoots((root,)).check(theirs, EXPIRES)
        assert theirs.to_bytes() == issued.sender
        ours = SenderCertificate.issue(
            gpeer.address, gpeer.identity_key, EXPIRES, server, server_key, phone_number=phone
        )
        assert ours.content == theirs.content == issued.sender_content
        assert server.content == issued.server_content
        again = ServerCertificate.issue(server.key_id, server.key, PrivateKey.generate())
        assert again.content == server.content


def test_our_certificates_hold_there_until_they_expire(
    gpeer: GroupPeer, authority: Authority
) -> None:
    ours, other = Sealer(authority), Authority()
    root, foreign = authority.root.public, other.root.public
    assert gpeer.validate(ours.certificate, [root], EXPIRES)
    assert gpeer.validate(ours.certificate, [foreign, root], NOW)
    assert not gpeer.validate(ours.certificate, [root], EXPIRES + 1)
    assert not gpeer.validate(ours.certificate, [foreign], NOW)
    authority.roots.check(ours.certificate, EXPIRES)
    for roots, now in ((authority.roots, EXPIRES + 1), (other.roots, NOW)):
        with pytest.raises(BadSignature):
            roots.check(ours.certificate, now)


@HINTS
@pytest.mark.parametrize("size", [0, 300, 60_000])
def test_they_open_what_we_sealed_in_version_1(
    gpeer: GroupPeer, authority: Authority, hint: ContentHint, group: bytes, size: int
) -> None:
    ours = Sealer(authority)
    for kind in SealedKind:
        content = ours.content(bytes(size), kind, hint, group)
        assert same(gpeer.unseal(ours.sealed.seal(gpeer.identity_key, content, NOW)), content)


@HINTS
@pytest.mark.parametrize("size", [0, 300, 60_000])
def test_we_open_what_they_sealed_in_version_1(
    gpeer: GroupPeer, authority: Authority, hint: ContentHint, group: bytes, size: int
) -> None:
    ours, reading = Sealer(authority), Member()
    reading.cipher.process(gpeer.address, gpeer.sender_key(GROUP))
    certificate = authority.certify(gpeer.address, gpeer.identity_key)
    body = gpeer.seal(
        ours.address, ours.identity.public, GROUP, bytes(size), certificate, hint, group or None
    )
    opened = ours.sealed.open(body, NOW)
    assert opened[:2] == (SealedKind.SENDER_KEY, certificate)
    assert opened[3:] == (hint, group)
    assert reading.cipher.decrypt(opened.certificate.sender, opened.message) == (GROUP, bytes(size))


@HINTS
@pytest.mark.parametrize("size", [0, 300, 60_000])
def test_they_open_and_split_what_we_sealed_in_version_2(
    peer: Peer, authority: Authority, hint: ContentHint, group: bytes, size: int
) -> None:
    ours, theirs = Sealer(authority), [GroupPeer(peer.device()) for _ in range(3)]
    content = ours.content(bytes(size), SealedKind.SENDER_KEY, hint, group)
    readers = [
        SealedReader(each.address, 4000 + place, each.identity_key)
        for place, each in enumerate(theirs)
    ]
    left_out = [new_account_id(), new_account_id()]
    upload = ours.sealed.seal_for(readers, content, NOW, excluded=left_out)
    split, excluded = theirs[0].split(upload.to_bytes())
    assert excluded == [account_text(account) for account in left_out]
    assert len(split) == len(theirs)
    for place, (each, entry) in enumerate(zip(theirs, upload.entries, strict=True)):
        part = split[account_text(each.address.account)]
        assert part.devices == [each.address.device]
        assert part.registration_ids == [4000 + place]
        assert part.body == upload.received(entry)
        assert same(each.unseal(part.body), content)


def test_devices_of_one_account_share_an_entry_there_too(
    gpeer: GroupPeer, authority: Authority
) -> None:
    ours = Sealer(authority)
    account = gpeer.address.account
    readers = [
        SealedReader(Address(account, device), 0x3FFF - device, gpeer.identity_key)
        for device in (gpeer.address.device, DeviceId(127))
    ]
    upload = ours.sealed.seal_for(readers, ours.content(), NOW)
    split, _ = gpeer.split(upload.to_bytes())
    (part,) = split.values()
    assert part.devices == [7, 127]
    assert part.registration_ids == [0x3FFF - 7, 0x3FFF - 127]
    assert same(gpeer.unseal(part.body), ours.content())


@HINTS
@pytest.mark.parametrize("size", [0, 300, 60_000])
def test_we_split_and_open_what_they_sealed_in_version_2(
    gpeer: GroupPeer, authority: Authority, hint: ContentHint, group: bytes, size: int
) -> None:
    # Two accounts with three devices; those of one account share the identity key.
    devices = [Device(), Device()]
    devices.append(Device(devices[0].address.account, 2))
    devices[2].identity = devices[0].identity
    devices[2].store._identity = devices[0].identity
    given = gpeer.sender_key(GROUP)
    for device in devices:
        gpeer.device.process_bundle(device.address, device.bundle(), NOW)
    certificate = authority.certify(gpeer.address, gpeer.identity_key)
    left_out = new_account_id()
    body = gpeer.seal_for_many(
        [device.address for device in devices],
        [left_out],
        GROUP,
        bytes(size),
        certificate,
        hint,
        group or None,
    )
    upload = Upload.parse(body)
    assert upload.to_bytes() == body
    assert upload.excluded == (left_out,)
    split, _ = gpeer.split(body)
    found: dict[Address, tuple[int, bytes]] = {}
    for entry in upload.entries:
        assert split[account_text(entry.account)].body == upload.received(entry)
        for number, registration_id in entry.devices:
            found[Address(entry.account, number)] = registration_id, upload.received(entry)
    assert set(found) == {device.address for device in devices}
    for device in devices:
        registration_id, received = found[device.address]
        assert registration_id == device.store.registration_id()
        opener = SealedSender(device.address, device.identity, authority.roots)
        opened = opener.open(received, NOW)
        assert opened[:2] == (SealedKind.SENDER_KEY, certificate)
        assert opened[3:] == (hint, group)
        reading = Member()
        reading.cipher.process(gpeer.address, given)
        assert reading.cipher.decrypt(gpeer.address, opened.message) == (GROUP, bytes(size))


def test_a_sealed_message_damaged_anywhere_is_refused_on_both_sides(
    gpeer: GroupPeer, authority: Authority
) -> None:
    ours, bob = Sealer(authority), Sealer(authority)
    certificate = authority.certify(gpeer.address, gpeer.identity_key)
    content = ours.content(b"")
    reader = SealedReader(gpeer.address, 1, gpeer.identity_key)
    upload = ours.sealed.seal_for([reader], content, NOW)
    for sent in (
        ours.sealed.seal(gpeer.identity_key, content, NOW),
        upload.received(upload.entries[0]),
    ):
        gpeer.unseal(sent)
        # Of the first byte the low half means nothing, there and here.
        for at in range(1, len(sent), 7):
            with pytest.raises(PeerError):
                gpeer.unseal(flipped(sent, at))
                pytest.fail(f"they accept byte {at} of {sent[0]:x} damaged")
    came = gpeer.seal(bob.address, bob.identity.public, GROUP, b"", certificate)
    bob.sealed.open(came, NOW)
    for at in range(1, len(came)):
        with pytest.raises(CryptoError):
            bob.sealed.open(flipped(came, at), NOW)
            pytest.fail(f"we accept byte {at} damaged")


def test_a_certificate_of_another_device_is_refused_on_both_sides(
    gpeer: GroupPeer, authority: Authority
) -> None:
    mallory, alice, bob = Sealer(authority), Sealer(authority), Sealer(authority)
    stolen = alice.certificate
    with pytest.raises(CryptoError):
        mallory.sealed.seal(gpeer.identity_key, mallory.content()._replace(certificate=stolen), NOW)
    came = gpeer.seal(bob.address, bob.identity.public, GROUP, b"x", stolen)
    with pytest.raises(CryptoError):
        bob.sealed.open(came, NOW)
