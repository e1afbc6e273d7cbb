"""Reading the answer of an HTTP request: of bounded size, and whatever is in it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from engine.core.errors import check_response

if TYPE_CHECKING:
    import aiohttp

#: The most that is read of an answer, in bytes.
LONGEST_ANSWER = 1 << 20
#: How much of a refusal is read, in bytes, and how long its body is waited for, in seconds.
_EXCERPT, _PATIENCE = 2048, 1.0


async def read_response(response: aiohttp.ClientResponse) -> Any:
    """What a 2xx says: the JSON value in its body, else the body as text, None where it is empty.

    The content type is not looked at: many services send JSON under a wrong one. A body of more than 1 MiB is a text
    that is cut there and ends in "…".

    Raises:
        HttpFailure: the status is not 2xx. The engine retries, or gives up, by the table in docs/delivery.md.
        aiohttp.ClientError: the connection broke while the body was read. The engine retries.
    """
    if not 200 <= response.status < 300:
        excerpt = await read_text(response, longest=_EXCERPT, patience=_PATIENCE)
        check_response(response.status, response.headers, excerpt)
    text = await read_text(response)
    if not text.strip():
        return None
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return text


async def read_text(
    response: aiohttp.ClientResponse, *, longest: int = LONGEST_ANSWER, patience: float | None = None
) -> str:
    """The body of an answer as text, whatever its status. What is not the whole ends in "…".

    Args:
        response: the answer, within its ``async with``.
        longest: the most bytes to read.
        patience: how many seconds to wait for a body that does not matter much: one that stalls or breaks is cut
            there. None waits for the whole body, as long as the attempt may take.

    Raises:
        aiohttp.ClientError: the connection broke, and no ``patience`` was given.
    """
    from aiohttp import ClientError

    read, whole = bytearray(), False
    try:
        async with asyncio.timeout(patience):
            while len(read) <= longest and not whole:
                chunk = await response.content.read(longest + 1 - len(read))
                read += chunk
                whole = not chunk
    except (TimeoutError, ClientError):
        if patience is None:
            raise
    if whole:
        return read.decode("utf-8-sig", "replace")
    # The "…" also tells the engine that a secret at the end may be cut, and it masks what is left of it.
    return read[:longest].decode("utf-8-sig", "replace").rstrip("\ufffd") + "…"


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
