"""Learning what became of a log line."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.errors import Retry

#: The attribute of a record under which a ``Receipt`` travels. No keyword argument can be called so.
RECEIPT = "engine.receipt"


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
