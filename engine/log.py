"""Log lines for people (text) or for machines (JSON): the engine's and everybody else's, with every secret masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from engine.secrets import Masker

LOGGER_NAME = "engine"
#: Loggers that are handed to actions: what they log is their authors', and shown to the letter.
_ACTIONS = "engine.action."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: What could forge a line, steer a terminal, reverse what is read, or not be written at all. In JSON text the first 32
#: are escaped already, in text lines a tab does no harm and a line's end is ours.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: What makes a value hard to tell from what stands around it.
_QUOTED = re.compile(r'[\s"\x00-\x1f\x7f-\x9f]')
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
#: Facts of the engine that people read elsewhere in the same line.
_FOR_MACHINES = frozenset({"outcome", "action_type", "replay"})
#: How much of an id people need: of one that begins with the time as much as the command line shows, else less.
_SHORT_ID, _SHORT_TIMED_ID = 13, 18


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The named facts of a line: what was passed as ``extra``, and in it what stands under ``fields``.

    ``extra`` cannot hold every name (``name`` and ``args`` are logging's own); ``fields`` can.
    """
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    further = extra.get("fields")
    if isinstance(further, Mapping):
        del extra["fields"]
        extra.update((str(name), value) for name, value in further.items())
    return extra


class _Formatter(logging.Formatter, ABC):
    """Masks the finished line, so that no way into a log record is missed."""

    def __init__(self, masker: Callable[[], Masker]) -> None:
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROLS.sub(self.escaped, self._masker().text(self.line(record)))

    @abstractmethod
    def line(self, record: logging.LogRecord) -> str:
        """The finished line, not yet masked."""

    @abstractmethod
    def escaped(self, control: re.Match[str]) -> str:
        """A character that may not stand in a line as it is."""

    def trouble(self, record: logging.LogRecord) -> str:
        """The traceback and the stack, or nothing."""
        traceback = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        return "\n".join(filter(None, (traceback, record.stack_info)))


class TextFormatter(_Formatter):
    """``19:02:11 INFO    message  key=value …``, the traceback below.

    Whatever a text holds, only a line of ours begins at the left: further lines are indented.
    The engine's own facts are kept short: ids are cut, what is empty is left out, and the
    reason comes first.
    """

    def line(self, record: logging.LogRecord) -> str:
        """One line, fields behind the message."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = fields_of(record)
        texts = ((name, "" if value is None else str(value)) for name, value in fields.items())
        pairs = _brief(texts, self._masker()) if _is_engines(record) else texts
        shown = "".join(f"  {_shown(name)}={_shown(value)}" for name, value in pairs)
        whose = "" if _is_ours(record) else f"{record.name}: "
        first, *more = self._lines(_message(record))
        more += self._lines(self.trouble(record)) if record.exc_info or record.stack_info else []
        return "\n    ".join([f"{at} {record.levelname:<7} {whose}{first}{shown}", *more])

    def escaped(self, control: re.Match[str]) -> str:
        """As Python writes it."""
        return repr(control[0])[1:-1]

    def _lines(self, text: str) -> list[str]:
        """Masked before it is taken apart: a secret may have several lines."""
        return self._masker().text(text).replace("\r\n", "\n").rstrip("\n").split("\n") if "\n" in text else [text]


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def line(self, record: logging.LogRecord) -> str:
        """One object: at, level, message, the fields, and logger and traceback where there is one.

        A field that is called like one of these gets an underscore behind its name.
        """
        own = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": _message(record),
        }
        if record.name != LOGGER_NAME:
            own["logger"] = record.name
        trouble = self.trouble(record)
        fields: dict[str, Any] = {}
        for name, value in fields_of(record).items():
            fields[_free(name, fields)] = value
        return _json({**own, **fields, **({"traceback": trouble} if trouble else {})})

    def escaped(self, control: re.Match[str]) -> str:
        r"""``\u009b``: the text is JSON still."""
        return f"\\u{ord(control[0]):04x}"


_OWN_KEYS = frozenset({"at", "level", "message", "logger", "traceback"})


def _free(name: str, fields: Mapping[str, Any]) -> str:
    while name in _OWN_KEYS or name in fields:
        name += "_"
    return name


def _json(data: Mapping[str, Any]) -> str:
    try:
        return json.dumps(data, default=str, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # a key that is no text, a number that is none, a list that holds itself
        plain = {
            name: value if isinstance(value, (str, int, type(None))) else str(value) for name, value in data.items()
        }
        return json.dumps(plain, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """The message; where it does not fit its arguments, both. Logging itself would print them, not masked."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - formatting runs what foreign objects say of themselves
        return f"{record.msg} (its arguments do not fit: {type(error).__name__})"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == LOGGER_NAME or record.name.startswith(f"{LOGGER_NAME}.")


def _is_engines(record: logging.LogRecord) -> bool:
    return _is_ours(record) and not record.name.startswith(_ACTIONS)


def _brief(texts: Iterable[tuple[str, str]], masker: Masker) -> Iterator[tuple[str, str]]:
    """The engine's facts as people read them; JSON lines have all. Masked before an id, or a secret, is cut."""
    for name, text in sorted(texts, key=lambda pair: pair[0] != "reason"):
        if text not in ("", "-") and name not in _FOR_MACHINES:
            yield name, text if " " in text or "://" in text else _UUID.sub(_short_id, masker.text(text))


def _short_id(found: re.Match[str]) -> str:
    # Version 7 begins with the time (RFC 9562, 5.7), as do deliveries, which have no dashes.
    return found[0][: _SHORT_TIMED_ID if found[1] in (None, "7") else _SHORT_ID]


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or _QUOTED.search(text) else text


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the moment, and never tells what it could not write: it might be a secret."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[0]
        note = f"a log line of {record.name} could not be written: {error.__name__ if error else 'unknown'}\n"
        try:
            self.stream.write(note)
        except (OSError, ValueError):
            return  # nobody is there to be told


class _Foreign(logging.Handler):
    """Hands on what is not the engine's. The engine's own logger has the handler itself: its level is its own."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_ours(record):
            self._target.handle(record)


def configure_logging(
    style: str, level: str, masker: Callable[[], Masker], stream: TextIO | None = None
) -> logging.Logger:
    """Send all that is logged to standard error (or ``stream``) as ``text`` or ``json``; returns the engine's logger.

    ``level`` is the engine's. Of other loggers, plug-ins' and libraries', warnings and worse
    come through, and Python's own warnings do.
    """
    handler = _ToStandardError(stream)
    handler.setFormatter(JsonFormatter(masker) if style == "json" else TextFormatter(masker))
    return route_logging(handler, level)


def route_logging(handler: logging.Handler, level: str) -> logging.Logger:
    """Send all that is logged to one handler, which has to mask it. Returns the engine's logger."""
    logger, root = logging.getLogger(LOGGER_NAME), logging.getLogger()
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = True
    # What somebody's basicConfig prints beside it would not be masked. Other handlers were put there on purpose.
    root.handlers[:] = [*(one for one in root.handlers if not _prints(one)), _Foreign(handler)]
    root.setLevel(max(logging.WARNING, logger.level))
    logging.captureWarnings(capture=True)
    return logger


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, _Foreign) or type(handler) is logging.StreamHandler


@contextmanager
def logging_restored() -> Iterator[None]:
    """Whatever happens to logging's handlers and levels meanwhile is undone in the end."""
    loggers = (logging.getLogger(), logging.getLogger(LOGGER_NAME))
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        logging.captureWarnings(capture=False)
