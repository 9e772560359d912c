"""The tables of a host's SQLite file.

The schema's version is in `PRAGMA user_version`; see MIGRATIONS.

    owner     one row: the host's name and its epoch, raised at each opening
    account   version and bytes of its signed device list, the account key that signed it, the
              accounts it has blocked, and the highest revision of receipts that are gone
    device    box (integer, names an inbox), account, device, incarnation, token hash, cursor,
              hash of a token not used yet, day it was last seen; removed: an empty token hash
    inbox     slot = box * 2^40 + number, and the envelope as the frame its device gets
    peer      (account, sending account, device): last id taken, digests of the latest
    receipt   (account, device, peer, outcome): revision and ranges
    owed      news for accounts of other hosts, until they have it
    keys      a device's identity key, its signed pre-key, its last-resort Kyber and X25519
              pre-keys, and a linked device's signature over its account
    prekey    (account, device, kind, id): one-time pre-keys, kind 0 X25519, 1 Kyber
    uploaded  (account, device, kind): the highest id of them ever taken in
"""

from __future__ import annotations

SLOT_BITS = 40
SLOT_MASK = (1 << SLOT_BITS) - 1

MIGRATIONS = [
    """
    CREATE TABLE owner (name TEXT NOT NULL, epoch INTEGER NOT NULL) STRICT;
    CREATE TABLE device (
        box INTEGER PRIMARY KEY, account BLOB NOT NULL, device INTEGER NOT NULL,
        incarnation INTEGER NOT NULL, token_hash BLOB NOT NULL, cursor INTEGER NOT NULL,
        UNIQUE (account, device)) STRICT;
    CREATE TABLE inbox (slot INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
    CREATE TABLE peer (
        account BLOB NOT NULL, sender BLOB NOT NULL, device INTEGER NOT NULL,
        incarnation INTEGER NOT NULL, last INTEGER NOT NULL, recent BLOB NOT NULL,
        PRIMARY KEY (account, sender, device)) STRICT, WITHOUT ROWID;
    CREATE TABLE receipt (
        account BLOB NOT NULL, device INTEGER NOT NULL, peer BLOB NOT NULL,
        outcome INTEGER NOT NULL, revision INTEGER NOT NULL, ranges BLOB NOT NULL,
        PRIMARY KEY (account, device, peer, outcome)) STRICT, WITHOUT ROWID;
    CREATE TABLE owed (sequence INTEGER PRIMARY KEY, told BLOB NOT NULL) STRICT;
    CREATE TABLE keys (
        account BLOB NOT NULL, device INTEGER NOT NULL, registration INTEGER NOT NULL,
        identity BLOB NOT NULL, signed_pre_key BLOB NOT NULL, last_resort BLOB NOT NULL,
        PRIMARY KEY (account, device)) STRICT, WITHOUT ROWID;
    CREATE TABLE uploaded (
        account BLOB NOT NULL, device INTEGER NOT NULL, kind INTEGER NOT NULL,
        last INTEGER NOT NULL, PRIMARY KEY (account, device, kind)) STRICT, WITHOUT ROWID;
    CREATE TABLE prekey (
        account BLOB NOT NULL, device INTEGER NOT NULL, kind INTEGER NOT NULL,
        id INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (account, device, kind, id)) STRICT;
    """,
    """
    ALTER TABLE keys ADD COLUMN last_resort_pre_key BLOB;
    ALTER TABLE keys ADD COLUMN device_signature BLOB;
    """,
    """
    CREATE TABLE account (
        account BLOB PRIMARY KEY, version INTEGER NOT NULL DEFAULT 0,
        account_key BLOB NOT NULL DEFAULT x'', list BLOB NOT NULL DEFAULT x'',
        blocked BLOB NOT NULL DEFAULT x'', revision INTEGER NOT NULL DEFAULT 0)
        STRICT, WITHOUT ROWID;
    ALTER TABLE device ADD COLUMN next_hash BLOB NOT NULL DEFAULT x'';
    ALTER TABLE device ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX unseen ON device (seen) WHERE device > 1 AND token_hash != x'';
    """,
]
