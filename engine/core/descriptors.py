"""How many files and connections this process may have open: the operating system's limit, raised as far as it goes."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

#: Enough for anybody. Systems that say "unlimited" (macOS) take less for an answer, so less is asked next.
_WANTED = (65_536, 10_240)
#: How many descriptors are left for the store, the admin listener, logs and the like.
_FILES = 256
#: The most connections of a listener, whatever the system allows: each takes about 20 KB.
_MOST_CONNECTIONS = 8192


def raise_descriptor_limit() -> int | None:
    """Raise the limit as far as no privilege is needed, and say what it is then; None where there is none.

    Shells and service managers start programs with 1024, or 256; a delivery under way takes one
    connection, and as many webhooks may come in meanwhile.
    """
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in _WANTED:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft == resource.RLIM_INFINITY or more <= soft:
            break
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return None if soft == resource.RLIM_INFINITY else soft


def descriptors_needed(concurrency: int) -> int:
    """How many a process with so many hands may have open: connections in and out, and files."""
    return 2 * concurrency + _FILES


def connections_allowed(concurrency: int) -> int:
    """How many connections a listener may have open, so that the rest is left for other files and connections.

    What is left is enough for the store, for people, and for a connection to a destination for each of
    ``concurrency`` attempts; where the limit is very low, three quarters of it.
    """
    soft = None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft is None or soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(max(soft - concurrency - _FILES, soft // 4), _MOST_CONNECTIONS)
