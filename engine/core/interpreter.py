"""Python itself, set for a server: few garbage collections."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: After how many objects more than before the collector looks at the new ones. Python's own number is 700:
#: a few payloads at work make that many, and none of their objects is in a cycle.
_NEW_OBJECTS = 10_000


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
