"""Every limit in one table: value, unit, and what happens when its keeper cannot tell.

A limit that fails *closed* refuses when it cannot be checked; one that fails *open* lets
through. `TABLE` is the table; the module's constants are its values, plain integers so that
they cost nothing where they are used.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Fails = Literal["open", "closed"]


class Limit(NamedTuple):
    """One bound. `why` says what it protects."""

    name: str
    value: int
    unit: str
    fails: Fails
    why: str


TABLE: list[Limit] = []


def _limit(name: str, value: int, unit: str, fails: Fails, why: str) -> int:
    TABLE.append(Limit(name, value, unit, fails, why))
    return value


# crypto/ (Signal's own numbers; a peer relies on them)
SKIP_AHEAD = _limit("skip_ahead", 25_000, "messages", "closed", "work per forged counter")
SKIPPED_KEYS = _limit("skipped_keys", 2_000, "keys per chain", "closed", "memory per session")
RECEIVER_CHAINS = _limit("receiver_chains", 5, "chains", "closed", "memory per session")
ARCHIVED_SESSIONS = _limit("archived_sessions", 40, "sessions", "closed", "memory per peer")
UNACKED_SESSION_DAYS = _limit(
    "unacked_session", 30, "days", "closed", "a pre-key must not be leaned on for ever"
)
CIPHERTEXT_BYTES = _limit("ciphertext", 96 * 1024, "bytes", "closed", "parser work and memory")
SENDER_KEY_STATES = _limit(
    "sender_key_states", 5, "keys per sender and group", "closed", "memory per group"
)
SENDER_KEY_MESSAGES = _limit(
    "sender_key_messages", 2_000, "messages per key", "closed", "who missed all can read each one"
)
SENDER_KEY_DAYS = _limit(
    "sender_key", 14, "days", "closed", "how long a key that was seen tells what is said"
)
CERTIFICATE_BYTES = _limit(
    "certificate", 1024, "bytes", "closed", "parser work; one with all in it has some 300"
)
UPLOAD_RECIPIENTS = _limit(
    "upload_recipients", 5_000, "accounts", "closed", "what a server does for one request"
)
ATTACHMENT_BYTES = _limit(
    "attachment", 2 * 1024**3, "bytes", "closed", "size of the table of segments"
)
SEGMENT_BYTES = _limit(
    "segment", 65_536, "bytes", "closed", "memory until a part of a file can be checked"
)

# the edge
FRAME_BYTES = _limit("frame", 256 * 1024, "bytes", "closed", "one WebSocket message, memory")
ENVELOPE_BYTES = _limit("envelope", 96 * 1024, "bytes", "closed", "one message for one device")
PARTS = _limit("parts", 127, "devices", "closed", "devices one message is addressed to")
FRAMES_PER_MESSAGE = _limit(
    "frames_per_message", 1024, "frames", "closed", "work one WebSocket message may cause"
)
FAILED_PER_ACK = _limit("failed_per_ack", 1024, "numbers", "closed", "size of one ack")
HELLO_SECONDS = _limit("hello", 10, "seconds", "closed", "a socket that never says who it is")
PING_SECONDS = _limit("ping", 30, "seconds", "open", "how often an idle socket is asked")
IDLE_SECONDS = _limit("idle", 90, "seconds", "closed", "a socket that never answers is dead")
WRITE_BUDGET_BYTES = _limit(
    "write_budget", 2 * 1024 * 1024, "bytes", "closed", "unsent bytes of one slow reader"
)
CLOSE_SECONDS = _limit(
    "close", 5, "seconds", "closed", "a closed socket that is not read to its end"
)
CONNECTIONS = _limit("connections", 50_000, "sockets per gateway", "closed", "memory, files")
SEND_BURST = _limit("send_burst", 200, "messages", "open", "one device flooding")
SEND_PER_SECOND = _limit("send_rate", 20, "messages per second", "open", "one device flooding")
HTTP_BODY_BYTES = _limit("http_body", 1024 * 1024, "bytes", "closed", "memory")
REQUEST_SECONDS = _limit("request", 10, "seconds", "closed", "an answer from a host")
REQUESTS_WAITING = _limit("requests", 4096, "requests per gateway", "closed", "memory")
RECONNECT_MIN_MS = _limit("reconnect_min", 200, "ms", "open", "reconnect storms")
RECONNECT_MAX_MS = _limit("reconnect_max", 3_000, "ms", "open", "reconnect storms")

# links
LINK_BATCH_BYTES = _limit("link_batch", 64 * 1024 * 1024, "bytes", "closed", "parser memory")
LINK_WINDOW_BYTES = _limit(
    "link_window", 8 * 1024 * 1024, "unacknowledged bytes", "closed", "memory of a link"
)
LINK_HEARTBEAT_MS = _limit("link_heartbeat", 1_000, "ms", "closed", "how soon silence is noticed")
LINK_SILENCE_MS = _limit("link_silence", 5_000, "ms", "closed", "after which a peer is dead")
LINK_RETRY_MAX_MS = _limit("link_retry", 500, "ms", "open", "pause between attempts to connect")

# users
INBOX_ENVELOPES = _limit("inbox", 10_000, "envelopes per device", "closed", "disk of one inbox")
RETENTION_DAYS = _limit("retention", 30, "days", "open", "disk; the sender is told")
PUSH_WINDOW = _limit("push_window", 128, "envelopes", "closed", "pushed and not acknowledged")
PUSH_WINDOW_BYTES = _limit("push_window_bytes", 1024 * 1024, "bytes", "closed", "the same")
ID_WINDOW = _limit("id_window", 32, "messages", "closed", "unacknowledged to one account")
RECEIPT_RANGES = _limit("receipt_ranges", 64, "ranges", "open", "holes kept per conversation")
IDLE_USER_SECONDS = _limit("idle_user", 300, "seconds", "open", "an idle User leaves memory")
ACTIVE_USERS = _limit("active_users", 100_000, "users per host", "open", "memory of a host")
EXPIRY_BATCH = _limit("expiry_batch", 1_000, "envelopes", "open", "work of one sweep")
DEDICATED_USERS = _limit(
    "dedicated_users", 200, "accounts", "closed", "a process each; use sharded beyond"
)

# keys
PRE_KEYS = _limit("pre_keys", 200, "keys per device and kind", "closed", "disk")
PRE_KEY_UPLOAD = _limit("pre_key_upload", 100, "keys per request and kind", "closed", "work")
PRE_KEY_REFILL = _limit("pre_key_refill", 25, "keys", "open", "below which a device refills")

# accounts
CODE_DIGITS = _limit("code", 6, "digits", "closed", "what a person types")
CODE_TRIES = _limit("code_tries", 5, "tries per session", "closed", "guessing")
CODE_SECONDS = _limit("code_life", 600, "seconds", "closed", "guessing")
REGISTRATION_SESSIONS = _limit(
    "registration_sessions", 10_000, "sessions", "closed", "memory and texts sent"
)
DEVICES = _limit("devices", 6, "devices per account", "closed", "copies of each message")
