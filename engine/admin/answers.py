"""Answers of the admin listener, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer. What JSON has no words for is written as text."""
    body = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def error_response(status: int, error: str, hint: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal: what is wrong and what to do."""
    return json_response({"error": error, "hint": hint}, status, headers)
