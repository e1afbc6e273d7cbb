"""Log lines as text or JSON, from the engine and from all other loggers, with every secret masked."""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from math import isfinite
from typing import Any

from engine.core.error_text import error_text, traceback_text
from engine.core.log_context import RECEIPT, facts_of_now, shown_logger
from engine.core.masking import Masker
from engine.core.terminal_text import visible, visible_in_json

LOGGER_NAME = "engine"
#: The prefix of the loggers that actions get. Their fields are shown exactly as logged.
_ACTIONS = "engine.action."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", RECEIPT}
#: Characters for which a value is quoted in text lines.
_QUOTED = re.compile(r'[\s"\x00-\x1f\x7f-\x9f]')
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
#: The engine's fields that text lines leave out, because the message contains them.
_FOR_MACHINES = frozenset({"outcome", "action_type"})
#: Fields are left out of text lines if their value matches: the delivery is no replay; it waited less than a second.
_NOTHING = {"replay": re.compile("0"), "waited": re.compile(r"0\.\d+")}
#: How many characters of an id are shown: of one that begins with a time as many as the command line shows.
_SHORT_ID, _SHORT_TIMED_ID = 13, 18
#: Immutable types that every format can show. Finite floats can be shown too.
_PLAIN = frozenset({str, int, bool, type(None)})
#: About how much memory a line takes beside its texts, in bytes.
_LINE_BYTES = 500

Plain = str | int | float | bool | None


class _Json(str):
    """A text that is already JSON."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Line:
    """The content of a log record, copied when it was logged, so that later changes have no effect.

    ``at`` is in Unix seconds. ``facts`` are the fields of the plug-in attempt that logged it. ``masker`` has the
    secrets of that moment.
    """

    at: float
    level: str
    logger: str
    message: str
    fields: tuple[tuple[str, Plain], ...]
    facts: tuple[tuple[str, Plain], ...]
    traceback: str
    masker: Masker = field(repr=False)

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        named = (*self.fields, *self.facts)
        texts = sum(len(name) + (len(value) if isinstance(value, str) else 8) for name, value in named)
        return _LINE_BYTES + len(self.message) + len(self.traceback) + texts


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record: the values passed as ``extra``, and those in ``extra["fields"]``.

    ``extra`` cannot contain every name, because logging uses some itself (``name``, ``args``); ``fields`` can.
    """
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if isinstance(extra.get("fields"), Mapping):
        extra |= {_text(name): value for name, value in extra.pop("fields").items()}
    return extra


class LineFormatter(logging.Formatter, ABC):
    """Formats in two steps: ``capture`` when a record is logged, and ``render`` at any later time in any thread.

    The finished line is masked, with the secrets known when it was logged and those known when it is written.
    """

    def __init__(self, masker: Callable[[], Masker]) -> None:
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        """Both steps at once."""
        return self.render(self.capture(record))

    def capture(self, record: logging.LogRecord) -> Line:
        """Copy the content of a record. Never raises, whatever the objects in it do."""
        return Line(
            record.created,
            record.levelname,
            shown_logger(record.name),
            _message(record),
            tuple(
                (name, value if _is_plain(value) else self.as_text(value)) for name, value in fields_of(record).items()
            ),
            tuple(facts_of_now().items()),
            _traceback(record),
            self._masker(),
        )

    def render(self, line: Line) -> str:
        """The finished text, masked, without the end of the line."""
        now = self._masker()
        mask = now.text if now is line.masker else lambda text: now.text(line.masker.text(text))
        return self.visible(mask(self.line(line, mask)))

    @abstractmethod
    def as_text(self, value: Any) -> str:
        """The text of a value that is not plain."""

    @abstractmethod
    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """The text of the line. It is masked afterwards; ``mask`` is for texts that are cut before."""

    @abstractmethod
    def visible(self, text: str) -> str:
        """The line without characters that could forge another line or control a terminal."""


def _is_plain(value: Any) -> bool:
    """Whether a value never changes and every format can show it."""
    return type(value) in _PLAIN or (type(value) is float and isfinite(value))


class TextFormatter(LineFormatter):
    """``19:02:11 INFO    message  key=value …``, with the traceback below.

    Further lines are indented, so that no text can forge a log line. The engine's own fields are short: the reason
    comes first, ids are cut, and empty fields are left out.
    """

    def as_text(self, value: Any) -> str:
        """As ``str``."""
        return _text(value)

    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """The message and its fields on one line, then further lines and the traceback."""
        at = datetime.fromtimestamp(line.at, UTC).strftime("%H:%M:%S")
        texts = ((name, "" if value is None else str(value)) for name, value in line.fields)
        pairs = _brief(texts, mask) if _is_ours(line.logger) and not line.logger.startswith(_ACTIONS) else texts
        facts = _brief(((name, str(value)) for name, value in line.facts), mask)
        shown = "".join(f"  {_shown(name)}={_shown(value)}" for name, value in chain(pairs, facts))
        whose = "" if _is_ours(line.logger) else f"{line.logger}: "
        first, *more = _lines(line.message, mask)
        more += _lines(line.traceback, mask) if line.traceback else []
        return "\n    ".join([f"{at} {line.level:<7} {whose}{first}{shown}", *more])

    def visible(self, text: str) -> str:
        """As Python writes them. Tabs and line ends stay."""
        return visible(text)


def _lines(text: str, mask: Callable[[str], str]) -> list[str]:
    """The lines of a text, masked before it is split: a secret may have several lines."""
    return mask(text).replace("\r\n", "\n").rstrip("\n").split("\n") if "\n" in text else [text]


class JsonFormatter(LineFormatter):
    """One JSON object per line."""

    def as_text(self, value: Any) -> str:
        """As JSON."""
        return _Json(_json(value))

    def line(self, line: Line, mask: Callable[[str], str]) -> str:
        """One object: at, level, message, logger (unless it is the engine's), facts, fields, and a traceback if any.

        A field with the name of another key gets an underscore appended.
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
        if line.traceback:
            shown["traceback"] = line.traceback
        plain = _json({name: value for name, value in shown.items() if type(value) is not _Json})
        ready = "".join(f", {_json(name)}: {value}" for name, value in shown.items() if type(value) is _Json)
        return f"{plain[:-1]}{ready}}}"

    def visible(self, text: str) -> str:
        """As JSON escapes."""
        return visible_in_json(text)


_OWN_KEYS = frozenset({"at", "level", "message", "logger", "traceback"})


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in _OWN_KEYS or name in taken:
        name += "_"
    return name


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_text, ensure_ascii=False, allow_nan=False)
    except Exception:  # noqa: BLE001 - a key that is not a text, a list that contains itself, a mapping that raises
        return json.dumps(_text(value), ensure_ascii=False)


def _text(value: Any) -> str:
    """``str(value)``, cut for exceptions. If the conversion raises, a text that says so."""
    if isinstance(value, BaseException):
        return error_text(value)
    try:
        return str.__str__(str(value))
    except BaseException as error:  # noqa: BLE001 - code of plug-ins may raise anything, even SystemExit
        return f"({type(value).__name__}, whose __str__ raised {type(error).__name__})"


def _message(record: logging.LogRecord) -> str:
    """The message. If it does not fit its arguments, a text that says so: logging would print them, not masked."""
    if not record.args:
        return _text(record.msg)
    try:
        return str.__str__(_text(record.msg) % _arguments(record.args))
    except BaseException as error:  # noqa: BLE001 - formatting calls methods of objects of plug-ins
        return f"{_text(record.msg)} (its arguments do not fit: {type(error).__name__})"


def _arguments(args: Any) -> Any:
    """The arguments, with exceptions replaced by their texts, which are cut and never raise."""
    if isinstance(args, tuple):
        return tuple(error_text(one) if isinstance(one, BaseException) else one for one in args)
    return args


def _traceback(record: logging.LogRecord) -> str:
    """The traceback and the stack, if any."""
    _, error, start = record.exc_info or (None, None, None)
    return "\n".join(filter(None, (traceback_text(error, start) if error is not None else "", record.stack_info)))


def _is_ours(logger: str) -> bool:
    return logger == LOGGER_NAME or logger.startswith(f"{LOGGER_NAME}.")


def _brief(texts: Iterable[tuple[str, str]], mask: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The engine's fields for text lines, with the reason first. They are masked before ids are cut."""
    for name, text in sorted(texts, key=lambda pair: pair[0] != "reason"):
        nothing = _NOTHING.get(name)
        if text not in ("", "-") and name not in _FOR_MACHINES and not (nothing and nothing.fullmatch(text)):
            yield name, text if " " in text or "://" in text else _UUID.sub(_short_id, mask(text))


def _short_id(found: re.Match[str]) -> str:
    # UUIDs of version 7 begin with the time (RFC 9562, 5.7), and so do ids of deliveries, which have no dashes.
    return found[0][: _SHORT_TIMED_ID if found[1] in (None, "7") else _SHORT_ID]


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or _QUOTED.search(text) else text


class Unlocked(logging.Handler):
    """A handler without a lock around ``emit``: a record that is slow to convert does not block other threads."""

    def handle(self, record: logging.LogRecord) -> bool:
        """As ``logging.Handler`` does, without the lock."""
        if self.filter(record):
            self.emit(record)
        return True


class _OtherLoggers(Unlocked):
    """Passes on the records of other loggers. The engine's own logger has the handler itself."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_ours(record.name):
            self._target.handle(record)


def formatter_of(style: str, masker: Callable[[], Masker]) -> LineFormatter:
    """The formatter of a style, ``text`` or ``json``."""
    return JsonFormatter(masker) if style == "json" else TextFormatter(masker)


def route_logging(handler: logging.Handler, level: str) -> logging.Logger:
    """Send all log records to one handler, which masks them. Returns the engine's logger.

    ``level`` is the engine's. Of other loggers, and of Python's warnings, only warnings and errors are sent.
    """
    logger, root = logging.getLogger(LOGGER_NAME), logging.getLogger()
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = True
    # A handler of basicConfig would print lines that are not masked. Other handlers were added on purpose.
    root.handlers[:] = [one for one in root.handlers if type(one) not in (logging.StreamHandler, _OtherLoggers)]
    root.addHandler(_OtherLoggers(handler))
    root.setLevel(max(logging.WARNING, logger.level))
    logging.captureWarnings(capture=True)
    return logger
