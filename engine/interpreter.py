"""Python itself, set for a server: few garbage collections."""

from __future__ import annotations

import gc

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
