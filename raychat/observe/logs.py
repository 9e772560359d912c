"""Logs: one JSON object a line on stderr, by structlog.

A last filter hides the value of every key that could hold something private, and bytes and
phone numbers under any key. It is a net under careful code, not the care itself: log codes,
counts, names of hosts.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from raychat.ids import PhoneNumber

PRIVATE: Final = frozenset(
    {"account", "body", "code_sent", "frame", "key", "keys", "number", "parts", "sender", "token"}
)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name in PRIVATE or isinstance(value, bytes | PhoneNumber):
            event[name] = "(hidden)"
    return event


def configure(actor: str, level: str = "info") -> None:
    """Set logging up for this process; every line carries the actor's name."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            redact,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(actor=actor)
