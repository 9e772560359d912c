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
UNTOLD_PER_ACK = _limit("untold_per_ack", 1024, "numbers", "closed", "size of one ack")
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
KEY_FETCHES = _limit(
    "key_fetches", 12, "fetches per requester and target", "open", "draining one-time keys"
)
KEY_FETCH_SECONDS = _limit(
    "key_fetch_pause", 300, "seconds per fetch more", "open", "draining one-time keys"
)
KEY_DRAIN = _limit(
    "key_drain", 100, "fetches per target", "closed", "beyond it keys of last resort are given"
)
KEY_DRAIN_SECONDS = _limit(
    "key_drain_pause", 60, "seconds per fetch more", "closed", "draining one-time keys"
)
KEY_UPLOADS = _limit("key_uploads", 20, "uploads per device", "closed", "signatures to check")
KEY_UPLOAD_SECONDS = _limit(
    "key_upload_pause", 60, "seconds per upload more", "closed", "signatures to check"
)
KEY_ROTATION_DAYS = _limit(
    "key_rotation", 7, "days", "open", "how long one lasting key serves new sessions"
)
KEY_KEPT_DAYS = _limit(
    "key_kept", 30, "days after its successor", "open", "messages under way that need an old key"
)

# key transparency
LOG_BATCH = _limit("log_batch", 256, "changes per epoch", "open", "work of one commit")
LOG_WAITING = _limit("log_waiting", 10_000, "changes", "closed", "memory")
LOG_HISTORY = _limit("log_history", 256, "lists per answer", "closed", "size of an answer")
LOG_ANSWER_BYTES = _limit("log_answer", 32 * 1024, "bytes", "closed", "parser work and memory")
LOG_LOOKUPS = _limit("log_lookups", 300, "lookups per account", "closed", "work, curiosity")
LOG_LOOKUP_SECONDS = _limit("log_lookup_pause", 5, "seconds per lookup more", "closed", "the same")
LOG_HEADS = _limit("log_heads", 60, "heads per address", "open", "work")
LOG_HEAD_SECONDS = _limit("log_head_pause", 1, "seconds per head more", "open", "work")
LOG_HEAD_HOURS = _limit("log_head", 24, "hours", "open", "age of a head; older is an alarm")
LOG_PEER_HOURS = _limit("log_peer", 168, "hours", "open", "how often a contact's entry is checked")
LOG_GRACE_HOURS = _limit(
    "log_grace", 24, "hours", "open", "how long a list may be given and not logged"
)

# accounts
CODE_DIGITS = _limit("code", 6, "digits", "closed", "what a person types")
CODE_TRIES = _limit("code_tries", 5, "tries per session", "closed", "guessing")
CODE_SECONDS = _limit("code_life", 600, "seconds", "closed", "guessing")
REGISTRATION_SESSIONS = _limit(
    "registration_sessions", 10_000, "sessions", "closed", "memory and texts sent"
)
DEVICES = _limit("devices", 6, "devices per account", "closed", "copies of each message")

# texts and calls with codes; the counters of numbers, prefixes and all survive a restart
CODE_WAIT_SECONDS = _limit(
    "code_wait", 60, "seconds, doubled with each code", "closed", "guessing; texts to one number"
)
CODE_WAIT_MAX_SECONDS = _limit(
    "code_wait_max", 43_200, "seconds", "closed", "a number that is shut out by a stranger"
)
CODE_FORGET_DAYS = _limit(
    "code_forget", 7, "days without a code", "closed", "when the waits begin anew"
)
PREFIX_DIGITS = _limit(
    "prefix", 3, "digits after the country's", "closed", "numbers that are bought together"
)
PREFIX_CODES = _limit("prefix_codes", 100, "codes per prefix", "closed", "SMS pumping")
PREFIX_CODE_SECONDS = _limit(
    "prefix_code_pause", 10, "seconds per code more", "closed", "SMS pumping"
)
ALL_CODES = _limit("all_codes", 1_000, "codes", "closed", "the bill")
ALL_CODE_SECONDS = _limit("all_code_pause", 1, "seconds per code more", "closed", "the bill")
CONVERSION_PERCENT = _limit(
    "conversion", 20, "per cent of codes typed in", "closed", "SMS pumping: nobody reads those"
)
CONVERSION_PREFIX = _limit(
    "conversion_prefix", 50, "codes to a prefix", "open", "below which conversion says nothing"
)
CONVERSION_ALL = _limit(
    "conversion_all", 500, "codes", "open", "below which conversion says nothing"
)
CONVERSION_HALF_SECONDS = _limit(
    "conversion_half", 21_600, "seconds", "open", "after which a code counts half"
)
POOR_PRICE = _limit("poor_price", 10, "codes' worth", "closed", "a code where conversion is poor")
ADDRESS_CODES = _limit("address_codes", 20, "codes per client address", "open", "SMS pumping")
ADDRESS_CODE_SECONDS = _limit(
    "address_code_pause", 60, "seconds per code more", "open", "SMS pumping"
)
ADDRESS_GUESSES = _limit("address_guesses", 50, "codes per client address", "open", "guessing")
ADDRESS_GUESS_SECONDS = _limit(
    "address_guess_pause", 30, "seconds per guess more", "open", "guessing"
)
ADDRESSES = _limit("addresses", 100_000, "client addresses per budget", "open", "memory")
PROVIDER_SECONDS = _limit(
    "provider", 6, "seconds", "closed", "a provider of texts or challenges that hangs"
)
PROVIDER_ANSWER_BYTES = _limit("provider_answer", 64 * 1024, "bytes", "closed", "memory")
CHALLENGE_CHARS = _limit(
    "challenge_answer", 4_096, "characters", "closed", "what is passed on to a provider"
)

# who has which account
LOCK_DAYS = _limit(
    "lock", 7, "days after the account was seen", "closed", "a number that has a new owner"
)
PIN_CHARS_MIN = _limit("pin_min", 4, "characters", "closed", "guessing")
PIN_CHARS = _limit("pin", 64, "characters", "closed", "work of one hash")
PIN_TRIES = _limit("pin_tries", 5, "tries per account", "closed", "guessing")
PIN_TRY_SECONDS = _limit("pin_try_pause", 86_400, "seconds per try more", "closed", "guessing")
PIN_HASHES = _limit("pin_hashes", 2, "at once", "closed", "64 MiB of memory each")
RECYCLED_NUMBER_DAYS = _limit(
    "recycled_number", 7, "days", "closed", "letters to who had a number until now"
)
DELETED_NUMBER_HOURS = _limit(
    "deleted_number", 24, "hours", "closed", "accounts made and thrown away in turn"
)
LOOKUPS = _limit("lookups", 500, "lookups per account", "closed", "listing who has an account")
LOOKUP_SECONDS = _limit(
    "lookup_pause", 30, "seconds per lookup more", "closed", "listing who has an account"
)
ADDRESS_LOOKUPS = _limit(
    "address_lookups", 1_000, "lookups per client address", "open", "many accounts in one hand"
)
ADDRESS_LOOKUP_SECONDS = _limit(
    "address_lookup_pause", 4, "seconds per lookup more", "open", "many accounts in one hand"
)
LOOKUP_ACCOUNTS = _limit(
    "lookup_accounts", 200_000, "accounts with spent lookups", "closed", "memory"
)

# devices of an account
IDLE_DEVICE_DAYS = _limit(
    "idle_device", 45, "days", "open", "a linked device that was forgotten and still gets all"
)
BLOCKED = _limit("blocked", 1_000, "accounts per account", "closed", "memory of a User")
LIST_FETCHES = _limit(
    "list_fetches", 120, "lists per requester", "open", "watching who has how many devices"
)
LIST_FETCH_SECONDS = _limit(
    "list_fetch_pause", 10, "seconds per list more", "open", "watching who has how many devices"
)
LINKS = _limit("links", 1_000, "link sessions", "closed", "memory")
LINK_SECONDS = _limit("link", 60, "seconds", "closed", "a code somebody saw and kept")
LINK_FINISH_SECONDS = _limit(
    "link_finish", 300, "seconds", "closed", "from the primary's answer to the registration"
)
LINK_REQUEST_BYTES = _limit("link_request_size", 1_024, "bytes", "closed", "memory")
LINK_WAIT_SECONDS = _limit("link_wait", 25, "seconds", "closed", "one long poll")
LINK_BEGINS = _limit("link_begins", 10, "links per address", "open", "filling the table of links")
LINK_BEGIN_SECONDS = _limit(
    "link_begin_pause", 30, "seconds per link more", "open", "filling the table of links"
)
LINK_LOOKS = _limit(
    "link_looks", 20, "looks per account", "closed", "guessing the ids of other people's links"
)
LINK_LOOK_SECONDS = _limit(
    "link_look_pause", 60, "seconds per look more", "closed", "guessing other people's links"
)
DEVICE_LIST_BYTES = _limit("device_list", 1024, "bytes", "closed", "one signed device list")
LINK_MESSAGE_BYTES = _limit(
    "link_message", 64 * 1024, "bytes", "closed", "what a new device is told"
)
FORMER_DEVICE_MINUTES = _limit(
    "former_device", 60, "minutes", "closed", "messages under way of a device that was removed"
)
RETRY_MESSAGES = _limit(
    "retry_messages", 256, "messages per account", "open", "disk, to send a message once more"
)
RETRY_TRIES = _limit("retry_tries", 3, "times per message", "closed", "two that never heal")
RETRY_PAUSE_SECONDS = _limit(
    "retry_pause", 30, "seconds, times 4 with each try", "closed", "two that never heal"
)
STRANGER_RETRY_SECONDS = _limit(
    "stranger_retry", 3_600, "seconds per device", "closed", "a retry tells who is online"
)
FRESH_SESSION_SECONDS = _limit(
    "fresh_session", 3_600, "seconds per device", "closed", "draining one-time keys"
)
UNOPENED = _limit("unopened", 1_000, "messages", "open", "disk, waiting to be sent once more")
UNOPENED_DAYS = _limit("unopened_life", 30, "days", "open", "the same")
TOKEN_DAYS = _limit("token", 30, "days", "open", "how long a copied token is of use")
TRANSFER_DELAY_SECONDS = _limit(
    "transfer_delay", 60, "seconds", "closed", "time to revoke a device linked by deceit"
)
TRANSFER_PART_BYTES = _limit("transfer_part", 24 * 1024, "bytes", "closed", "one content")
TRANSFER_WINDOW = _limit("transfer_window", 4, "parts", "closed", "what waits for live messages")
TRANSFER_DAYS = _limit("transfer_life", 14, "days", "open", "disk, for a device that never asks")
TRANSFER_STALL_SECONDS = _limit(
    "transfer_stall", 120, "seconds", "open", "after which parts are asked for once more"
)
LINK_REQUEST_SECONDS = _limit(
    "link_request", 300, "seconds", "closed", "age of a link request, with clocks that differ"
)

# contents and the history of a device
MENTIONS = _limit("mentions", 64, "per message", "closed", "work to show one message")
SNIPPET_CHARS = _limit("snippet", 200, "characters", "closed", "what a reply repeats")
NAME_CHARS = _limit("name", 100, "characters", "closed", "what a screen can show")
PREVIEW_CHARS = _limit("preview", 1_000, "characters per field", "closed", "size of one message")
CARD_NUMBERS = _limit("card_numbers", 16, "numbers per card", "closed", "size of one message")
POLL_OPTIONS = _limit("poll_options", 12, "options", "closed", "what a screen can show")
POLL_CHARS = _limit("poll_text", 300, "characters per line", "closed", "what a screen can show")
REACTION_BYTES = _limit("reaction", 64, "bytes", "closed", "a picture, not a message")
FORWARDED = _limit("forwarded", 255, "times", "closed", "size of a counter")
TIMER_SECONDS = _limit("timer", 366 * 86_400, "seconds", "closed", "meaning of a timer")
EDIT_MINUTES = _limit("edit", 15, "minutes", "closed", "what was read must not change later")
DELETE_HOURS = _limit("delete", 48, "hours", "closed", "what was read must not vanish later")
CHANGE_LATE_HOURS = _limit(
    "change_late", 24, "hours", "closed", "how long a change may wait to be sent"
)
CLOCK_AHEAD_HOURS = _limit(
    "clock_ahead", 24, "hours", "closed", "for which a wrong clock outdoes everyone"
)
PENDING_CHANGES = _limit(
    "pending_changes", 256, "per conversation", "closed", "disk, for changes of no known message"
)
PENDING_DAYS = _limit("pending", 30, "days", "open", "disk, for changes of no known message")
EARLY_MARKS = _limit(
    "early_marks", 256, "ranges per conversation", "closed", "disk, for marks of no known message"
)
RETRY_NAMES = _limit("retry_names", 256, "messages per request", "closed", "work one asks for")
ERASE_NAMES = _limit("erase_names", 256, "messages per content", "closed", "work one asks for")
SETTINGS = _limit("settings", 256, "settings per content", "closed", "size of one content")
SETTING_BYTES = _limit("setting", 1_024, "bytes", "closed", "disk")
SEARCH_WORDS = _limit("search_words", 16, "words", "closed", "work of one search")
