"""Log lines for people (text) or for machines (JSON), with every secret masked."""

from __future__ import annotations

import json
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from engine.secrets import Masker

LOGGER_NAME = "engine"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as ``extra``: the named facts of a line."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _Formatter(logging.Formatter, ABC):
    """Masks the finished line, so that no way into a log record is missed."""

    def __init__(self, masker: Callable[[], Masker]) -> None:
        super().__init__()
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        return self._masker().text(self.line(record))

    @abstractmethod
    def line(self, record: logging.LogRecord) -> str:
        """The finished line, not yet masked."""

    def trouble(self, record: logging.LogRecord) -> str:
        """The traceback, or nothing."""
        return self.formatException(record.exc_info) if record.exc_info else ""


class TextFormatter(_Formatter):
    """``19:02:11 INFO  message  key=value …``, the traceback below."""

    def line(self, record: logging.LogRecord) -> str:
        """One line, fields behind the message."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = "".join(f"  {key}={_shown(value)}" for key, value in fields_of(record).items())
        trouble = self.trouble(record)
        return f"{at} {record.levelname:<7} {record.getMessage()}{fields}" + (f"\n{trouble}" if trouble else "")


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def line(self, record: logging.LogRecord) -> str:
        """One object: at, level, message, the fields, and the traceback where there is one."""
        data = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields_of(record),
        }
        if trouble := self.trouble(record):
            data["traceback"] = trouble
        return json.dumps(data, default=str, ensure_ascii=False)


def _shown(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() for c in text) else text


def configure_logging(
    style: str, level: str, masker: Callable[[], Masker], stream: TextIO | None = None
) -> logging.Logger:
    """Send the engine's log to standard error (or ``stream``) as ``text`` or ``json``; returns its logger."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(masker) if style == "json" else TextFormatter(masker))
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    return logger
