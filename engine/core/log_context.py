"""Log lines of plug-ins: the fields of the current attempt, names of loggers, and whether a line was written."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from engine.core.errors import Retry

Facts = Mapping[str, str | int]

#: The name of the package of a plug-in folder's modules, followed by a number.
PLUGIN_PACKAGE = "_langsmith_rules_engine_plugins_"
#: The record attribute that holds a ``Receipt``. It contains a dot, so no keyword argument can have this name.
RECEIPT = "engine.receipt"
_NONE: Facts = MappingProxyType({})
_FACTS: ContextVar[Facts] = ContextVar("log_facts", default=_NONE)


@contextmanager
def logging_as(facts: Facts) -> Iterator[None]:
    """Add fields to every log line of this task, of tasks it starts and of ``asyncio.to_thread``."""
    token = _FACTS.set(facts)
    try:
        yield
    finally:
        _FACTS.reset(token)


def facts_of_now() -> Facts:
    """The fields that ``logging_as`` adds to a line logged now."""
    return _FACTS.get()


def shown_logger(name: str) -> str:
    """A logger's name for people: the module ``open_ticket`` of a plug-in folder is ``plugins.open_ticket``."""
    if not name.startswith(PLUGIN_PACKAGE):
        return name
    return f"plugins.{name.partition('.')[2]}"


def log_like_engine(module: str) -> None:
    """Set the level of a plug-in's ``logging.getLogger(__name__)`` to the engine's.

    Other loggers log only warnings and errors. A level that the plug-in set itself is kept.
    """
    logger = logging.getLogger(module)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.getLogger("engine").level)


@dataclass(slots=True)
class Receipt:
    """Whether a log line was written. A handler that writes later sets ``written``.

    ``refused``: the line was dropped.
    """

    written: concurrent.futures.Future[None] | None = None
    refused: bool = False


def receipt_of(record: logging.LogRecord) -> Receipt | None:
    """The receipt of a log record, if it has one."""
    receipt = vars(record).get(RECEIPT)
    return receipt if isinstance(receipt, Receipt) else None


async def write_line(logger: logging.Logger, level: int, message: str, fields: Mapping[str, Any]) -> None:
    """Log a line and return when it is written. A line below the log level is ignored.

    Cancelling withdraws the line if it is not being written yet.

    Raises:
        Retry: the line could not be written, or was dropped because the reader of the log is too slow.
    """
    receipt = Receipt()
    logger.log(level, "%s", message, extra={"fields": fields, RECEIPT: receipt})
    if receipt.refused:
        raise Retry("the log cannot take lines now: standard error could not be written")
    if receipt.written is not None:
        await asyncio.wrap_future(receipt.written)
