"""The tables of a device's file. `PRAGMA user_version` counts the migrations done.

own           one row: who this device is, its identity key and its cursors
session       the sessions with each peer device
pre_key       own one-time keys; kind 0 X25519, 1 Kyber; `published` once the server has it
long_key      own keys that serve many sessions: kind 0 signed pre-key, 1 last-resort Kyber
key_use       first messages that used a last-resort key, so that none is taken twice
identity      the identity keys peer devices were last seen with
peer_device   the devices a message to an account is addressed to
received      the last message id taken from each incarnation of a peer device
counter       the last message id given out for each recipient
conversation  with whom
message       the history of both sides
outbox        what is not acknowledged by the server; `id` and `parts` once encrypted
sending_key   own sender keys, by distribution; sending_key_holder: the devices that have them
sender_key    the sender keys of others
failed        inbox numbers that could not be opened and may not be settled yet
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = [
    """
    CREATE TABLE own (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        number TEXT NOT NULL, server TEXT NOT NULL,
        registration_id INTEGER NOT NULL, identity BLOB NOT NULL,
        next_key_id INTEGER NOT NULL DEFAULT 1,
        account BLOB, device INTEGER, incarnation INTEGER, token BLOB,
        seen INTEGER, revision INTEGER NOT NULL DEFAULT 0) STRICT;

    CREATE TABLE session (
        account BLOB NOT NULL, device INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (account, device)) STRICT;
    CREATE TABLE pre_key (
        kind INTEGER NOT NULL, id INTEGER NOT NULL, record BLOB NOT NULL,
        published INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (kind, id)) STRICT;
    CREATE TABLE long_key (
        kind INTEGER NOT NULL, id INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (kind, id)) STRICT;
    CREATE TABLE key_use (
        kyber INTEGER NOT NULL, signed INTEGER NOT NULL, base_key BLOB NOT NULL,
        PRIMARY KEY (kyber, signed, base_key)) STRICT, WITHOUT ROWID;
    CREATE TABLE identity (
        account BLOB NOT NULL, device INTEGER NOT NULL, key BLOB NOT NULL,
        PRIMARY KEY (account, device)) STRICT, WITHOUT ROWID;

    CREATE TABLE peer_device (
        account BLOB NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        PRIMARY KEY (account, device)) STRICT, WITHOUT ROWID;
    CREATE TABLE received (
        account BLOB NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (account, device, incarnation)) STRICT, WITHOUT ROWID;
    CREATE TABLE counter (account BLOB PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE conversation (
        id INTEGER PRIMARY KEY AUTOINCREMENT, account BLOB UNIQUE, number TEXT UNIQUE, name TEXT)
        STRICT;
    CREATE TABLE message (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversation (id),
        outgoing INTEGER NOT NULL, device INTEGER, incarnation INTEGER, id INTEGER,
        kind INTEGER NOT NULL, text TEXT, data BLOB,
        composed INTEGER NOT NULL, at INTEGER, state INTEGER NOT NULL,
        delivered_at INTEGER, read_at INTEGER) STRICT;
    CREATE INDEX message_of_conversation ON message (conversation, key);
    CREATE UNIQUE INDEX message_by_id
        ON message (conversation, outgoing, device, incarnation, id) WHERE id IS NOT NULL;
    CREATE INDEX message_unread ON message (conversation) WHERE outgoing = 0 AND state < 5;
    CREATE TABLE outbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversation (id),
        message INTEGER REFERENCES message (key), content BLOB NOT NULL,
        id INTEGER, parts BLOB) STRICT;
    CREATE INDEX outbox_of_conversation ON outbox (conversation, position);
    CREATE TABLE failed (number INTEGER PRIMARY KEY) STRICT;
    """,
    """
    CREATE TABLE sending_key (distribution BLOB PRIMARY KEY, record BLOB NOT NULL) STRICT;
    CREATE TABLE sending_key_holder (
        distribution BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL,
        PRIMARY KEY (distribution, account, device)) STRICT, WITHOUT ROWID;
    CREATE TABLE sender_key (
        account BLOB NOT NULL, device INTEGER NOT NULL, distribution BLOB NOT NULL,
        record BLOB NOT NULL, PRIMARY KEY (account, device, distribution)) STRICT;
    """,
]
