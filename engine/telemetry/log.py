"""Log lines for people (text) or for machines (JSON): the engine's and everybody else's, with every secret masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from math import isfinite
from typing import Any, TextIO

from engine.core.error_text import error_text, traceback_text
from engine.core.log_context import RECEIPT, facts_of_now, shown_logger
from engine.core.masking import Masker
from engine.core.terminal_text import visible, visible_in_json

LOGGER_NAME = "engine"
#: Loggers that are handed to actions: what they log is their authors', and shown to the letter.
_ACTIONS = "engine.action."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", RECEIPT}
#: What makes a value hard to tell from what stands around it.
_QUOTED = re.compile(r'[\s"\x00-\x1f\x7f-\x9f]')
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
#: Facts of the engine that people read elsewhere in the same line.
_FOR_MACHINES = frozenset({"outcome", "action_type"})
#: Facts that say nothing to people: what is empty, and an attempt that belongs to no replay.
_NOTHING = frozenset({("replay", "0")})
#: How much of an id people need: of one that begins with the time as much as the command line shows, else less.
_SHORT_ID, _SHORT_TIMED_ID = 13, 18
#: Types whose values never change and can be shown in every format, as can finite numbers.
_PLAIN = frozenset({str, int, bool, type(None)})
#: What a line takes in memory beside its texts, about, in bytes.
_LINE_BYTES = 500

Plain = str | int | float | bool | None


class _Json(str):
    """A text that is JSON already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Line:
    """What a record says, taken from it when it was logged: nothing that happens afterwards changes it.

    ``at`` is Unix seconds. ``masker`` knows the secrets of then.
    """

    at: float
    level: str
    logger: str
    message: str
    fields: tuple[tuple[str, Plain], ...]
    #: The attempt of a plug-in that it was logged in.
    facts: tuple[tuple[str, Plain], ...]
    trouble: str
    masker: Masker = field(repr=False)

    @property
    def size(self) -> int:
        """About what it takes in memory, in bytes."""
        named = (*self.fields, *self.facts)
        texts = sum(len(name) + (len(value) if isinstance(value, str) else 8) for name, value in named)
        return _LINE_BYTES + len(self.message) + len(self.trouble) + texts


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The named facts of a line: what was passed as ``extra``, and in it what stands under ``fields``.

    ``extra`` cannot hold every name (``name`` and ``args`` are logging's own); ``fields`` can.
    """
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    further = extra.get("fields")
    if isinstance(further, Mapping):
        del extra["fields"]
        extra.update((_text(name), value) for name, value in further.items())
    return extra


class LineFormatter(logging.Formatter, ABC):
    """Formats in two steps: ``capture``, when a record is logged; ``render``, in any thread at any later time.

    The finished line is masked, so that no way into a log record is missed: with the secrets of when it was logged,
    and with those of when it is written.
    """

    def __init__(self, masker: Callable[[], Masker]) -> None:
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        """Both steps at once."""
        return self.render(self.capture(record))

    def capture(self, record: logging.LogRecord) -> Line:
        """What a record says now. Never raises, whatever the objects in it do."""
        return Line(
            record.created,
            record.levelname,
            shown_logger(record.name),
            _message(record),
            tuple((name, self._fixed(value)) for name, value in fields_of(record).items()),
            tuple(facts_of_now().items()),
            _trouble(record),
            self._masker(),
        )

    def render(self, line: Line) -> str:
        """The finished text, masked, without the end of the line."""
        mask = self._mask_of(line)
        return self.visible(mask(self.line(line, mask)))

    def _mask_of(self, line: Line) -> Callable[[str], str]:
        now = self._masker()
        if now is line.masker:
            return now.text
        return lambda text: now.text(line.masker.text(text))

    def _fixed(self, value: Any) -> Plain:
        """A value that nothing changes any more."""
        kind = type(value)
        return value if kind in _PLAIN or (kind is float and isfinite(value)) else self.fixed(value)

    @abstractmethod
    def fixed(self, value: Any) -> str:
        """The text of a value that is not plain."""

    @abstractmethod
    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """The line's text. It is masked afterwards; ``mask`` is for what has to be masked before it is cut."""

    @abstractmethod
    def visible(self, text: str) -> str:
        """The line without characters that could forge another or steer a terminal."""


class TextFormatter(LineFormatter):
    """``19:02:11 INFO    message  key=value …``, the traceback below.

    Whatever a text holds, only a line of ours begins at the left: further lines are indented.
    The engine's own facts are kept short: ids are cut, what is empty is left out, and the
    reason comes first.
    """

    def fixed(self, value: Any) -> str:
        """As ``str`` shows it."""
        return _text(value)

    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """One line, fields behind the message."""
        at = datetime.fromtimestamp(line.at, UTC).strftime("%H:%M:%S")
        texts = ((name, "" if value is None else str(value)) for name, value in line.fields)
        pairs = _brief(texts, mask) if _is_ours(line.logger) and not line.logger.startswith(_ACTIONS) else texts
        facts = _brief(((name, str(value)) for name, value in line.facts), mask)
        shown = "".join(f"  {_shown(name)}={_shown(value)}" for name, value in chain(pairs, facts))
        whose = "" if _is_ours(line.logger) else f"{line.logger}: "
        first, *more = _lines(line.message, mask)
        more += _lines(line.trouble, mask) if line.trouble else []
        return "\n    ".join([f"{at} {line.level:<7} {whose}{first}{shown}", *more])

    def visible(self, text: str) -> str:
        """As Python writes them. A tab does no harm, and a line's end is ours."""
        return visible(text)


def _lines(text: str, mask: Callable[[str], str]) -> list[str]:
    """Masked before it is taken apart: a secret may have several lines."""
    return mask(text).replace("\r\n", "\n").rstrip("\n").split("\n") if "\n" in text else [text]


class JsonFormatter(LineFormatter):
    """One JSON object a line."""

    def fixed(self, value: Any) -> str:
        """As JSON."""
        return _Json(_json(value))

    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """One object: at, level, message, the facts, the fields, and logger and traceback where there is one.

        A field that is called like another of these gets an underscore behind its name.
        """
        del mask
        shown: dict[str, Plain] = {
            "at": datetime.fromtimestamp(line.at, UTC).isoformat(),
            "level": line.level.lower(),
            "message": line.message,
        }
        if line.logger != LOGGER_NAME:
            shown["logger"] = line.logger
        shown.update(line.facts)
        for name, value in line.fields:
            shown[_free(name, shown)] = value
        if line.trouble:
            shown["traceback"] = line.trouble
        ready = [f"{_json(name)}: {value}" for name, value in shown.items() if type(value) is _Json]
        if not ready:
            return _json(shown)
        plain = _json({name: value for name, value in shown.items() if type(value) is not _Json})
        return f"{plain[:-1]}, {', '.join(ready)}}}"

    def visible(self, text: str) -> str:
        """The text is JSON still."""
        return visible_in_json(text)


_OWN_KEYS = frozenset({"at", "level", "message", "logger", "traceback"})


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in _OWN_KEYS or name in taken:
        name += "_"
    return name


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_text, ensure_ascii=False, allow_nan=False)
    except Exception:  # noqa: BLE001 - a key that is no text, a list that holds itself, a foreign mapping that raises
        return json.dumps(_text(value), ensure_ascii=False)


def _text(value: Any) -> str:
    """``str(value)``, of exceptions cut; of what cannot be converted what it is."""
    if isinstance(value, BaseException):
        return error_text(value)
    try:
        return str.__str__(str(value))
    except BaseException as error:  # noqa: BLE001 - foreign code, which may raise even SystemExit here
        return f"({type(value).__name__}, whose __str__ raised {type(error).__name__})"


def _message(record: logging.LogRecord) -> str:
    """The message; where it does not fit its arguments, both. Logging itself would print them, not masked."""
    if not record.args:
        return _text(record.msg)
    try:
        return str.__str__(_text(record.msg) % _arguments(record.args))
    except BaseException as error:  # noqa: BLE001 - formatting runs what foreign objects say of themselves
        return f"{_text(record.msg)} (its arguments do not fit: {type(error).__name__})"


def _arguments(args: Any) -> Any:
    """Exceptions among them as their texts, which are cut, and never raise."""
    if isinstance(args, tuple):
        return tuple(error_text(one) if isinstance(one, BaseException) else one for one in args)
    return args


def _trouble(record: logging.LogRecord) -> str:
    """The traceback and the stack, or nothing."""
    _, error, start = record.exc_info or (None, None, None)
    traceback = traceback_text(error, start) if error is not None else ""
    return "\n".join(filter(None, (traceback, record.stack_info)))


def _is_ours(logger: str) -> bool:
    return logger == LOGGER_NAME or logger.startswith(f"{LOGGER_NAME}.")


def _brief(texts: Iterable[tuple[str, str]], mask: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The engine's facts as people read them; JSON lines have all. Masked before an id, or a secret, is cut."""
    for name, text in sorted(texts, key=lambda pair: pair[0] != "reason"):
        if text not in ("", "-") and name not in _FOR_MACHINES and (name, text) not in _NOTHING:
            yield name, text if " " in text or "://" in text else _UUID.sub(_short_id, mask(text))


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


class Unlocked(logging.Handler):
    """Handles records of several threads at once: one whose record takes long to look at holds up no other thread."""

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging does it, without the handler's lock."""
        if self.filter(record):
            self.emit(record)
        return True


class _Foreign(Unlocked):
    """Hands on what is not the engine's. The engine's own logger has the handler itself: its level is its own."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_ours(record.name):
            self._target.handle(record)


def configure_logging(
    style: str, level: str, masker: Callable[[], Masker], stream: TextIO | None = None
) -> logging.Logger:
    """Send all that is logged to standard error (or ``stream``) as ``text`` or ``json``; returns the engine's logger.

    ``level`` is the engine's. Of other loggers, warnings and worse are sent, and so are Python's own warnings.
    """
    handler = _ToStandardError(stream)
    handler.setFormatter(formatter_of(style, masker))
    return route_logging(handler, level)


def formatter_of(style: str, masker: Callable[[], Masker]) -> LineFormatter:
    """The formatter of a style, ``text`` or ``json``."""
    return JsonFormatter(masker) if style == "json" else TextFormatter(masker)


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
