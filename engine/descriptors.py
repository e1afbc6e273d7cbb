"""How many files and connections this process may have open: the operating system's limit, raised as far as it goes."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

#: Enough for anybody. Systems that say "unlimited" (macOS) take less for an answer, so less is asked next.
_WANTED = (65_536, 10_240)


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
    return 2 * concurrency + 256
