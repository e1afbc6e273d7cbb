"""The text of exceptions, which may be anybody's: never raises, and is of bounded length."""

from __future__ import annotations

import traceback

from engine.core.masking import shortened

#: How much of one exception's text is kept, in characters.
LONGEST = 8 * 1024


def error_text(error: BaseException) -> str:
    """``str(error)``, cut to 8,192 characters; where the exception cannot be converted, a text that says so."""
    try:
        return shortened(str.__str__(str(error)), LONGEST)
    except BaseException as second:  # noqa: BLE001 - foreign code, which may raise even SystemExit here
        return f"(its text cannot be shown: __str__ raised {_name(second)})"


def named_error(error: BaseException) -> str:
    """``ValueError: the text``; the name alone where there is no text."""
    text = error_text(error)
    return f"{_name(error)}: {text}" if text.strip() else _name(error)


def traceback_text(error: BaseException, start: object = None) -> str:
    """The traceback as Python prints it, from ``start`` on where it is given, each exception's text cut.

    ``start`` is a traceback object of this exception.
    """
    try:
        made = traceback.TracebackException(type(error), error, start or error.__traceback__)  # type: ignore[arg-type]
        return "\n".join(shortened(part.rstrip("\n"), LONGEST) for part in made.format())
    except BaseException as second:  # noqa: BLE001 - it looks into foreign objects
        return f"{named_error(error)}\n(its traceback cannot be shown: {_name(second)})"


def _name(error: BaseException) -> str:
    name: str = type.__getattribute__(type(error), "__name__")
    return name
