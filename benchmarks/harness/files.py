"""The limit on open files: a few thousand connections need more than the usual 1024."""

from __future__ import annotations

import resource

__all__ = ["raise_file_limit"]


def raise_file_limit(needed: int = 0) -> int:
    """Raise this process's soft limit to its hard limit; processes started later inherit it.

    Returns the limit. Raises OSError when it is below `needed`, as the run would fail later
    in a way that is hard to understand.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    limit = 1 << 20 if soft == resource.RLIM_INFINITY else soft
    if limit < needed:
        raise OSError(f"{needed} open files needed, the hard limit is {limit} (see ulimit -Hn)")
    return limit
