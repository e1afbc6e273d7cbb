"""Write a line to the engine's own log."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import Field

from engine import Action, ActionContext
from engine import Params as BaseParams

#: Control characters, which could forge lines or control a terminal, and how to write them.
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class Log(Action):
    """Write a line to the engine's log."""

    main = "message"

    class Params(BaseParams):
        """The line; ``fields`` are structured fields after it."""

        message: str = Field(description="the line", examples=["{{ run.name }} failed"])
        level: Literal["debug", "info", "warning", "error"] = Field("info", description="the log level")
        fields: dict[str, Any] = Field(default_factory=dict, description="structured fields after the message")

    def destination(self, params: Params) -> str:
        """The log."""
        del params
        return "log"

    async def run(self, params: Params, context: ActionContext) -> None:
        """Log one line, and finish when it is written."""
        level = logging.getLevelNamesMapping()[params.level.upper()]
        message = params.message.translate(_CONTROLS)
        await context.log_line(level, message, params.fields)
