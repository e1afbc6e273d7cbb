"""The position in a plug-in's files that raised an exception."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb

Place = tuple[str, int]


def place_in(error: BaseException, package: str) -> Place | None:
    """File and line of the last call in a package's modules; None if there is none in the traceback.

    ``package`` is the first part of the modules' dotted names.
    """
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return frames[-1] if frames else None


def short_place(error: BaseException, package: str) -> str:
    """``plugins/open_ticket.py:20``: the position with one folder; empty if it is not known."""
    place = place_in(error, package)
    return f"{'/'.join(Path(place[0]).parts[-2:])}:{place[1]}" if place else ""


def package_of(kind: type) -> str:
    """The top-level package of a class."""
    return kind.__module__.partition(".")[0]
