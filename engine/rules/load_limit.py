"""A time limit for loading: it runs plug-ins' code, which may block for ever."""

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

_HINT = "a plug-in must not wait or work while it is imported; fix the file, and it is loaded again"
#: How long loading may take, in seconds.
LONGEST_LOADING = 30.0
#: How long a command waits for a plug-in's code, in seconds: the whole command must end within 30.
LONGEST_IN_COMMAND = 25.0


def run_bounded(work: Callable[[], T], path: Path, folders: Callable[[], Sequence[Path]]) -> T:
    """Run ``work`` in a daemon thread, and abandon the thread if a plug-in's code blocks it.

    Other slow work, such as a large configuration or event, has no limit. ``path`` is the configuration file,
    ``folders`` returns the folders of its plug-ins.

    Raises:
        ConfigError: a plug-in blocks; has the position of the line.
        RuntimeError: ``work`` raised an exception that ends a program, such as SystemExit.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    thread = threading.Thread(target=_run, args=(work, done), name="loading", daemon=True)
    thread.start()
    while True:
        concurrent.futures.wait([done], LONGEST_IN_COMMAND)
        if done.done():
            return done.result()
        problem = blocked(path, folders(), thread.ident, LONGEST_IN_COMMAND)
        if problem.hint:  # a plug-in blocks
            raise ConfigError([problem])


def _run(work: Callable[[], T], done: concurrent.futures.Future[T]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised again by done.result()
        done.set_exception(error)
    except BaseException as error:  # noqa: BLE001 - a plug-in must not end the program
        done.set_exception(RuntimeError(f"it raised {named_error(error)}"))
    else:
        done.set_result(result)


def blocked(path: Path, folders: Sequence[Path], thread: int | None, seconds: float) -> Problem:
    """The problem to report when loading did not end within ``seconds``, with the line of the plug-in that blocks."""
    message = f"loading has not ended within {seconds:g} s"
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - the only way to see another thread's stack
    for one, line in traceback.walk_stack(frame) if frame is not None else ():
        file = Path(one.f_code.co_filename)
        if file.parent in folders:
            return Problem(str(file), line, 1, f"the plug-in blocks here: {message}", _HINT)
        if one.f_code is EntryPoint.load.__code__:
            return Problem(str(path), 0, 0, f"{one.f_locals['self'].value} blocks at import: {message}", _HINT)
    return Problem(str(path), 0, 0, message)
