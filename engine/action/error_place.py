"""The position in a plug-in's files that raised an exception."""

from __future__ import annotations

from pathlib import Path

from engine.core.log_context import PLUGIN_PACKAGE

Place = tuple[str, int]


def place_in(error: BaseException, package: str) -> Place | None:
    """File and line of the last call in a package's modules; None if there is none in the traceback.

    ``package`` is the first part of the modules' dotted names.
    """
    found, frame = None, error.__traceback__
    while frame is not None:
        code, module = frame.tb_frame.f_code, frame.tb_frame.f_globals.get("__name__")
        if isinstance(module, str) and module.partition(".")[0] == package:
            found = code.co_filename, frame.tb_lineno
        frame = frame.tb_next
    return found


def short_place(error: BaseException, package: str) -> str:
    """``plugins/open_ticket.py:20``: the position with one folder; empty if it is not known."""
    place = place_in(error, package)
    return f"{'/'.join(Path(place[0]).parts[-2:])}:{place[1]}" if place else ""


def package_of(kind: type) -> str:
    """The top-level package of a class."""
    return kind.__module__.partition(".")[0]


def is_plugin_module(name: object) -> bool:
    """Whether a dotted name is a module in a plug-in folder, or the folder's package."""
    return isinstance(name, str) and name.startswith(PLUGIN_PACKAGE)
