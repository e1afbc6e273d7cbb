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

#: Tried in this order. macOS reports "unlimited" but accepts only the smaller value.
_WANTED = (65_536, 10_240)
#: Descriptors reserved for the store, the admin listener, logs and the like.
_FILES = 256
#: The maximum connections of a listener, whatever the system allows: each takes about 20 KB.
_MOST_CONNECTIONS = 8192
#: New objects before the collector examines them. Python's default is 700: a few payloads create that many, and their
#: objects form no cycles.
_NEW_OBJECTS = 10_000


def raise_descriptor_limit() -> int | None:
    """Raise the soft limit of open files as far as possible without privileges. Return it; None if there is no limit.

    Shells and service managers start programs with 1024 or 256. Each running delivery takes one connection, and each
    incoming webhook another.
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
    """The descriptors for this many concurrent attempts: connections in and out, and files."""
    return 2 * concurrency + _FILES


def connections_allowed(concurrency: int) -> int:
    """The maximum number of open connections of a listener.

    The rest of the limit is for the store, the admin listener and one connection per concurrent attempt. If the limit
    is very low, the listener gets a quarter of it.
    """
    soft = None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft is None or soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(max(soft - concurrency - _FILES, soft // 4), _MOST_CONNECTIONS)


def tune_interpreter() -> None:
    """Tune the garbage collector for a server. Call it once, when everything is loaded.

    The objects loaded so far are permanent, so collections skip them. With the higher threshold this saves a sixth of
    the cost of accepting an event. Python's switch interval stays at 5 ms: with a shorter one the event loop and the
    store preempt each other, which cost another sixth and did not help against plug-ins that compute.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)


@contextmanager
def no_full_collections() -> Iterator[None]:
    """Limit the collector to new objects, in smaller and more frequent collections.

    A collection stops every thread. Loading 10,000 routes would cause fifteen full ones, of up to half a second each,
    that free nothing: what is loaded stays.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], 1, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
