"""The tables of a device's file. `PRAGMA user_version` counts the migrations done.

own           one row: who this device is, its identity key and its cursors
session       the sessions with each peer device
pre_key       own one-time keys; kind 0 X25519, 1 Kyber; `published` once the server has it
long_key      own keys that serve many sessions: kind 0 signed pre-key, 1 last-resort Kyber,
              2 last-resort X25519; `published` once the server has it, `replaced` when it got
              a newer one (ms)
upkeep        when what is done now and then is due next (ms), by its name
key_use       first messages that used a last-resort key, so that none is taken twice
identity      the identity keys peer devices were last seen with
peer_device   the devices a message to an account is addressed to
received      the last message id taken from each incarnation of a peer device
counter       the last message id given out for each recipient
conversation  with whom
setting       when each setting of a conversation (0: own ones) was made, by whom; those of a
              conversation are also in its columns
message       the history of both sides. `text` is what can be searched; `data` the content where
              that is more; both are null of what is deleted, `data` alone holds a view-once text
              until it is opened (`view_once` 1, then 2)
message_text  the search index of it, kept by triggers
reaction      the last one of each person to a message; empty if taken back
vote          the last one of each person in a poll
alias         the ids under which own messages were sent again
pending       changes of messages that have not come yet, by the message's name
gone          names of messages that have disappeared or were erased, so that none comes back
early_mark    marks that came before their message
outbox        what is not acknowledged by the server; `id` and `parts` once encrypted
sending_key   own sender keys, by distribution; sending_key_holder: the devices that have them
sender_key    the sender keys of others
device_list   the newest signed device list of each account, and the account key it is signed by
former_device identities that were in a list lately, for their messages under way
fact          single values, by name
recent        what was sent lately, to send it once more to a device that could not open it
unopened      messages that could not be opened and are waited for
healing       for each peer device: when it was last asked to send anew
transfer      histories on their way to a new device; transfer_part: which messages a part holds
key_log       one row: the key of the key-transparency log, and the latest head
key_trace     what was seen in it of each account, and when it was looked at (ms)
signed_list   the hashes of the own device lists this device has signed
key_log_evidence  pairs of signed heads of which only one can be true
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
    """
    ALTER TABLE long_key ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE long_key ADD COLUMN replaced INTEGER;
    UPDATE long_key SET published = 1;
    CREATE TABLE upkeep (name TEXT PRIMARY KEY, due INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE conversation ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN timer INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN verified BLOB;
    ALTER TABLE conversation ADD COLUMN profile TEXT;
    UPDATE conversation SET accepted = 1;
    CREATE TABLE setting (
        conversation INTEGER NOT NULL, name TEXT NOT NULL,
        at INTEGER NOT NULL, author BLOB NOT NULL, value ANY NOT NULL,
        PRIMARY KEY (conversation, name)) STRICT, WITHOUT ROWID;

    ALTER TABLE message ADD COLUMN author BLOB;
    ALTER TABLE message ADD COLUMN edited INTEGER;
    ALTER TABLE message ADD COLUMN deleted INTEGER;
    ALTER TABLE message ADD COLUMN timer INTEGER;
    ALTER TABLE message ADD COLUMN expires_at INTEGER;
    ALTER TABLE message ADD COLUMN view_once INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN forwarded INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN reply_account BLOB;
    ALTER TABLE message ADD COLUMN reply_device INTEGER;
    ALTER TABLE message ADD COLUMN reply_incarnation INTEGER;
    ALTER TABLE message ADD COLUMN reply_id INTEGER;
    ALTER TABLE message ADD COLUMN reply_text TEXT;
    UPDATE message SET author = CASE WHEN outgoing THEN (SELECT account FROM own)
        ELSE (SELECT account FROM conversation WHERE id = message.conversation) END;
    DROP INDEX message_by_id;
    CREATE UNIQUE INDEX message_by_name
        ON message (conversation, author, device, incarnation, id) WHERE id IS NOT NULL;
    CREATE INDEX message_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX message_replies
        ON message (conversation, reply_account, reply_device, reply_incarnation, reply_id)
        WHERE reply_id IS NOT NULL;

    CREATE TABLE reaction (
        message INTEGER NOT NULL REFERENCES message (key) ON DELETE CASCADE,
        account BLOB NOT NULL, emoji TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (message, account)) STRICT, WITHOUT ROWID;
    CREATE TABLE vote (
        message INTEGER NOT NULL REFERENCES message (key) ON DELETE CASCADE,
        account BLOB NOT NULL, choices BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (message, account)) STRICT, WITHOUT ROWID;
    CREATE TABLE alias (
        conversation INTEGER NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        id INTEGER NOT NULL, message INTEGER NOT NULL REFERENCES message (key) ON DELETE CASCADE,
        PRIMARY KEY (conversation, device, incarnation, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX alias_of_message ON alias (message);
    CREATE TABLE pending (
        position INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL,
        account BLOB NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        id INTEGER NOT NULL, author BLOB NOT NULL, content BLOB NOT NULL, at INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        UNIQUE (conversation, account, device, incarnation, id, author, content)) STRICT;
    CREATE TABLE gone (
        conversation INTEGER NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL,
        incarnation INTEGER NOT NULL, id INTEGER NOT NULL, kept INTEGER NOT NULL,
        PRIMARY KEY (conversation, account, device, incarnation, id)) STRICT, WITHOUT ROWID;
    CREATE TABLE early_mark (
        position INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL,
        outgoing INTEGER NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        lo INTEGER NOT NULL, hi INTEGER NOT NULL, state INTEGER NOT NULL, at INTEGER NOT NULL,
        UNIQUE (conversation, outgoing, device, incarnation, lo, hi, state)) STRICT;

    CREATE VIEW searchable AS SELECT key, text FROM message WHERE text IS NOT NULL;
    CREATE VIRTUAL TABLE message_text USING fts5 (
        text, content = 'searchable', content_rowid = 'key',
        tokenize = 'trigram case_sensitive 0 remove_diacritics 1');
    INSERT INTO message_text (message_text, rank) VALUES ('secure-delete', 1);
    INSERT INTO message_text (rowid, text) SELECT key, text FROM message WHERE text IS NOT NULL;
    CREATE TRIGGER message_text_insert AFTER INSERT ON message WHEN new.text IS NOT NULL BEGIN
        INSERT INTO message_text (rowid, text) VALUES (new.key, new.text);
    END;
    CREATE TRIGGER message_text_delete AFTER DELETE ON message WHEN old.text IS NOT NULL BEGIN
        INSERT INTO message_text (message_text, rowid, text) VALUES ('delete', old.key, old.text);
    END;
    CREATE TRIGGER message_text_update AFTER UPDATE OF text ON message BEGIN
        INSERT INTO message_text (message_text, rowid, text)
            SELECT 'delete', old.key, old.text WHERE old.text IS NOT NULL;
        INSERT INTO message_text (rowid, text)
            SELECT new.key, new.text WHERE new.text IS NOT NULL;
    END;
    """,
    """
    CREATE TABLE device_list (
        account BLOB PRIMARY KEY, key BLOB NOT NULL, version INTEGER NOT NULL,
        list BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE former_device (
        account BLOB NOT NULL, device INTEGER NOT NULL, identity BLOB NOT NULL,
        until INTEGER NOT NULL, PRIMARY KEY (account, device, identity)) STRICT, WITHOUT ROWID;
    CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE recent (
        account BLOB NOT NULL, incarnation INTEGER NOT NULL, id INTEGER NOT NULL,
        content BLOB NOT NULL, key BLOB NOT NULL, devices BLOB NOT NULL, at INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (account, incarnation, id)) STRICT;
    CREATE TABLE unopened (
        account BLOB NOT NULL, device INTEGER NOT NULL, incarnation INTEGER NOT NULL,
        id INTEGER NOT NULL, at INTEGER NOT NULL, kept INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (account, device, incarnation, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX unopened_by_age ON unopened (kept);
    CREATE TABLE healing (
        account BLOB NOT NULL, device INTEGER NOT NULL, fresh INTEGER NOT NULL DEFAULT 0,
        next INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (account, device)) STRICT, WITHOUT ROWID;

    CREATE TABLE transfer (
        id BLOB PRIMARY KEY, device INTEGER NOT NULL, incoming INTEGER NOT NULL,
        key BLOB NOT NULL, state INTEGER NOT NULL, due INTEGER NOT NULL, until INTEGER NOT NULL,
        whole INTEGER NOT NULL, parts INTEGER NOT NULL DEFAULT 0,
        next INTEGER NOT NULL DEFAULT 0, wanted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE transfer_part (
        transfer BLOB NOT NULL REFERENCES transfer (id) ON DELETE CASCADE, place INTEGER NOT NULL,
        kind INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (transfer, place)) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE key_log (
        one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL, head BLOB) STRICT;
    CREATE TABLE key_trace (
        account BLOB PRIMARY KEY, counter INTEGER NOT NULL, chain BLOB NOT NULL,
        newest BLOB NOT NULL, unlike_since INTEGER NOT NULL, mine INTEGER NOT NULL,
        looked INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE signed_list (
        position INTEGER PRIMARY KEY AUTOINCREMENT, account BLOB NOT NULL,
        digest BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE key_log_evidence (
        kept BLOB NOT NULL, shown BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (kept, shown)) STRICT;
    """,
]
