"""Content, version 1: what is inside an envelope's body once it has been decrypted.

The schema is CONTENT.md beside this. `message` has what is shown, `changes` what changes it,
`sync` what passes between devices, `codec` the bytes of all of them.
"""

from __future__ import annotations

from typing import Final

from raychat.wire.content.changes import (
    Change,
    Delete,
    Edit,
    Profile,
    Reaction,
    Read,
    Timer,
    Typing,
    Vote,
)
from raychat.wire.content.codec import (
    BLOCK,
    MAX_WRAPPED_BYTES,
    VERSION,
    Content,
    Kind,
    Known,
    OwnSync,
    Unknown,
    decode,
    encode,
    is_shown,
    kind_of,
    pad,
    unpad,
)
from raychat.wire.content.message import (
    Contact,
    Location,
    Mention,
    Message,
    Poll,
    Preview,
    Reply,
    Text,
)
from raychat.wire.content.names import MAX_MARKS, MAX_RANGES, DeviceMessage, Mark, MessageName
from raychat.wire.content.sync import (
    MAX_BYTES,
    MAX_PEERS,
    Devices,
    Erase,
    Marks,
    PeerMarks,
    Resend,
    Retry,
    Sent,
    Setting,
    Settings,
    Step,
    Transfer,
    Value,
)

TEXT: Final = Kind.TEXT
READ: Final = Kind.READ

__all__ = [
    "BLOCK",
    "MAX_BYTES",
    "MAX_MARKS",
    "MAX_PEERS",
    "MAX_RANGES",
    "MAX_WRAPPED_BYTES",
    "READ",
    "TEXT",
    "VERSION",
    "Change",
    "Contact",
    "Content",
    "Delete",
    "DeviceMessage",
    "Devices",
    "Edit",
    "Erase",
    "Kind",
    "Known",
    "Location",
    "Mark",
    "Marks",
    "Mention",
    "Message",
    "MessageName",
    "OwnSync",
    "PeerMarks",
    "Poll",
    "Preview",
    "Profile",
    "Reaction",
    "Read",
    "Reply",
    "Resend",
    "Retry",
    "Sent",
    "Setting",
    "Settings",
    "Step",
    "Text",
    "Timer",
    "Transfer",
    "Typing",
    "Unknown",
    "Value",
    "Vote",
    "decode",
    "encode",
    "is_shown",
    "kind_of",
    "pad",
    "unpad",
]
