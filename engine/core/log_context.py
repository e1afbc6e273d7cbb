"""Which attempt of a plug-in the running code belongs to, for every line that it logs, and the loggers of plug-ins."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

Facts = Mapping[str, str | int]

#: The package of a plug-in folder's modules is called so, with a number behind it.
PLUGIN_PACKAGE = "_langsmith_rules_engine_plugins_"
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
