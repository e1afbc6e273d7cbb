"""Settings of this process: how many files it may open, and when it collects garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from contextlib import contextmanager

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
#: After how many objects more than before the collector looks at the new ones. Python's own number is 700:
#: a few payloads at work make that many, and none of their objects is in a cycle.
_NEW_OBJECTS = 10_000


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


def tune_interpreter() -> None:
    """Set the whole process up to serve. Call it once, when everything is loaded.

    What is there by now stays, so that no collection has to look at it again. With the
    threshold this saves a sixth of what accepting an event costs. Threads keep Python's turns
    of 5 ms: with shorter ones event loop and store take the interpreter from each other, which
    cost another sixth, and a plug-in that computes disturbed no less.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)


@contextmanager
def no_full_collections() -> Iterator[None]:
    """Within it, the collector looks at new objects only, and more often, at fewer of them each time.

    A collection stops every thread. While 10,000 routes are loaded there would be fifteen full ones, of up to half a
    second each, and they would find nothing: what is loaded is kept.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], 1, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
