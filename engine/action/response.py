"""Reads HTTP responses of any content, up to a maximum size."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from engine.core.errors import check_response

if TYPE_CHECKING:
    import aiohttp

#: The maximum bytes read of a response.
LONGEST_ANSWER = 1 << 20
#: The maximum bytes read of an error response, and the seconds to wait for them.
_EXCERPT, _PATIENCE = 2048, 1.0


async def read_response(response: aiohttp.ClientResponse) -> Any:
    """The content of a 2xx response: the JSON value of its body, else the body as text; None if it is empty.

    The content type is ignored: many services send JSON under a wrong one. A body of more than 1 MiB is returned as a
    text that is cut there and ends in "…".

    Raises:
        HttpFailure: the status is not 2xx. The engine retries or gives up by the table in docs/delivery.md.
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
    """The body of a response as text, whatever its status. An incomplete text ends in "…".

    Args:
        response: the response, within its ``async with``.
        longest: the maximum number of bytes to read.
        patience: seconds to wait for a body that is not essential: if it stalls or the connection breaks, the text is
            cut there. None waits for the whole body, as long as the attempt may take.

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
    # The "…" also makes the engine mask a secret that was cut at the end.
    return read[:longest].decode("utf-8-sig", "replace").rstrip("\ufffd") + "…"


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
