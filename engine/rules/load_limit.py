"""Loading runs plug-ins' code, which may block for ever: how long it may take, and where it stands then."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TypeVar

from engine.core.error_text import named_error
from engine.core.errors import ConfigError, Problem

T = TypeVar("T")

_HINT = "a plug-in must not wait or work while it is imported; mend the file, and it is loaded again"
#: How long a loading may take, in seconds. Plug-ins are imported in it, which may do anything.
LONGEST_LOADING = 30.0
#: How long a command waits for code of a plug-in, in seconds: it ends within 30, its start and end included.
LONGEST_IN_COMMAND = 25.0


def run_bounded(work: Callable[[], T], path: Path, folders: Callable[[], Sequence[Path]]) -> T:
    """What ``work`` returns, from a daemon thread that is given up when code of a plug-in blocks it.

    What else takes long, such as a large configuration or event, is waited for. ``path`` is the configuration's file,
    ``folders`` tells where its plug-ins are.

    Raises:
        ConfigError: a plug-in blocks; names its line.
        RuntimeError: it raised what would end the program, such as SystemExit.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    thread = threading.Thread(target=_run, args=(work, done), name="loading", daemon=True)
    thread.start()
    while True:
        concurrent.futures.wait([done], LONGEST_IN_COMMAND)
        if done.done():
            return done.result()
        problem = blocked(path, folders(), thread.ident, LONGEST_IN_COMMAND)
        if problem.hint:  # a plug-in's
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


def blocked(path: Path, folders: Sequence[Path], thread: int | None, seconds: float) -> Problem:
    """Where a loading stands that did not end within ``seconds``: at a line of a plug-in, as a rule."""
    message = f"loading has not ended within {seconds:g} s"
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - the only way to look at another thread
    for one, line in traceback.walk_stack(frame) if frame is not None else ():
        file = Path(one.f_code.co_filename)
        if file.parent in folders:
            return Problem(str(file), line, 1, f"the plug-in blocks here: {message}", _HINT)
        if one.f_code is EntryPoint.load.__code__:
            return Problem(str(path), 0, 0, f"{one.f_locals['self'].value} blocks at import: {message}", _HINT)
    return Problem(str(path), 0, 0, message)
