"""Answers of the admin listener, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from aiohttp import hdrs, web

from engine.core.offload import in_thread

T = TypeVar("T")

#: The size of the parts in which a long answer is sent, in bytes.
_PART = 256 * 1024


class Renderer:
    """Makes what may be large (views, masked copies, JSON) in a thread, one at a time.

    The event loop answers LangSmith meanwhile: several large answers at once would keep it from the interpreter.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def make(self, work: Callable[[], T]) -> T:
        """The work's value."""
        async with self._turn:
            return await in_thread(work)

    async def response(self, tell: Callable[[], Any]) -> web.Response:
        """An answer with what ``tell`` returns, sent in parts."""
        body = await self.make(lambda: dump(tell()))
        length = {hdrs.CONTENT_LENGTH: str(len(body))}
        return web.Response(body=_parts(memoryview(body)), content_type="application/json", headers=length)


async def _parts(body: memoryview) -> AsyncIterator[memoryview]:
    """Each part is sent when the connection has taken the part before it."""
    for start in range(0, len(body), _PART):
        yield body[start : start + _PART]


def dump(data: Any) -> bytes:
    """JSON. Values that JSON does not have are written as text."""
    return orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A short answer."""
    return web.Response(status=status, body=dump(data), content_type="application/json", headers=headers)


def error_response(
    status: int,
    error: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    candidates: Sequence[Mapping[str, str]] = (),
) -> web.Response:
    """A refusal: what is wrong and what to do; ``candidates`` are what an ambiguous id may stand for."""
    more = {"candidates": candidates} if candidates else {}
    return json_response({"error": error, "hint": hint, **more}, status, headers)
