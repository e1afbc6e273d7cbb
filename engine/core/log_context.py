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

#: The package of a plug-in folder's modules is called so, with a number behind it.
PLUGIN_PACKAGE = "_langsmith_rules_engine_plugins_"
#: The attribute of a record under which a ``Receipt`` travels. No keyword argument can be called so.
RECEIPT = "engine.receipt"
_NONE: Facts = MappingProxyType({})
_FACTS: ContextVar[Facts] = ContextVar("log_facts", default=_NONE)


@contextmanager
def logging_as(facts: Facts) -> Iterator[None]:
    """Within it, every log line of this task, of tasks it starts and of ``asyncio.to_thread`` has these fields."""
    token = _FACTS.set(facts)
    try:
        yield
    finally:
        _FACTS.reset(token)


def facts_of_now() -> Facts:
    """The fields that a line logged now has beside its own."""
    return _FACTS.get()


def shown_logger(name: str) -> str:
    """A logger's name as people read it: a plug-in folder's module ``open_ticket`` is ``plugins.open_ticket``."""
    if not name.startswith(PLUGIN_PACKAGE):
        return name
    return f"plugins.{name.partition('.')[2]}"


def log_like_engine(module: str) -> None:
    """Let a plug-in's ``logging.getLogger(__name__)`` log from the engine's level on.

    Other loggers log warnings and worse only. A level that the plug-in has set itself is kept.
    """
    logger = logging.getLogger(module)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.getLogger("engine").level)


@dataclass(slots=True)
class Receipt:
    """Tells who logs a line with it what became of the line. A handler that writes later sets ``written``.

    ``refused``: the line was dropped.
    """

    written: concurrent.futures.Future[None] | None = None
    refused: bool = False


def receipt_of(record: logging.LogRecord) -> Receipt | None:
    """The receipt that a record was logged with."""
    receipt = vars(record).get(RECEIPT)
    return receipt if isinstance(receipt, Receipt) else None


async def write_line(logger: logging.Logger, level: int, message: str, fields: Mapping[str, Any]) -> None:
    """Log a line, and return when it is written. A line below the log's level is not, and needs not be.

    Cancelling it takes the line back where it is not being written yet.

    Raises:
        Retry: the line was dropped, because what reads the log does not keep up, or it could not be written.
    """
    receipt = Receipt()
    logger.log(level, "%s", message, extra={"fields": fields, RECEIPT: receipt})
    if receipt.refused:
        raise Retry("the log takes no lines at the moment: standard error could not be written")
    if receipt.written is not None:
        await asyncio.wrap_future(receipt.written)
