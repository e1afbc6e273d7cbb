"""Logging as the engine does it, but written at once: for tests that read the lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from engine.core.masking import Masker
from engine.telemetry.log import LOGGER_NAME, formatter_of, route_logging


def configure_logging(style: str, level: str, masker: Callable[[], Masker], stream: TextIO) -> logging.Logger:
    """Send all that is logged to a stream as ``text`` or ``json``; returns the engine's logger."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter_of(style, masker))
    return route_logging(handler, level)


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
