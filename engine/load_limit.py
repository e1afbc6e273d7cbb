"""Loading runs plug-ins' code, which may block for ever: how long it may take, and where it stands then."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from engine.error_text import named_error
from engine.errors import ConfigError, Problem

T = TypeVar("T")

#: How long a loading may take, in seconds. Plug-ins are imported in it, which may do anything.
LONGEST_LOADING = 30.0


def run_bounded(
    work: Callable[[], T], path: Path, folders: Callable[[], Sequence[Path]], *, patient: bool = False
) -> T:
    """What ``work`` returns, from a daemon thread that is given up when it takes longer than a loading may.

    ``path`` is the configuration's file, ``folders`` tells where its plug-ins are. ``patient``: only code of a plug-in
    is given up, for the rest may take long with reason.

    Raises:
        ConfigError: it did not end; names the line of the plug-in that blocks.
        RuntimeError: it raised what would end the program, such as SystemExit.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    thread = threading.Thread(target=_run, args=(work, done), name="loading", daemon=True)
    thread.start()
    while True:
        concurrent.futures.wait([done], LONGEST_LOADING)
        if done.done():
            return done.result()
        problem = blocked(path, folders(), thread.ident)
        if problem.line or not patient:
            raise ConfigError([problem])


def _run(work: Callable[[], T], done: concurrent.futures.Future[T]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
        done.set_exception(error)
    except BaseException as error:  # noqa: BLE001 - foreign code must not end the program
        done.set_exception(RuntimeError(f"it raised {named_error(error)}"))
    else:
        done.set_result(result)


def blocked(path: Path, folders: Sequence[Path], thread: int | None) -> Problem:
    """Where a loading stands that did not end: at a line of a plug-in, as a rule."""
    message = f"loading has not ended within {LONGEST_LOADING:g} s"
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - the only way to look at another thread
    for one, line in traceback.walk_stack(frame) if frame is not None else ():
        file = Path(one.f_code.co_filename)
        if file.parent in folders:
            hint = "a plug-in must not wait or work while it is imported; mend the file, and it is loaded again"
            return Problem(str(file), line, 1, f"the plug-in blocks here: {message}", hint)
    return Problem(str(path), 0, 0, message)
