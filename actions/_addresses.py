"""Addresses that parameters name."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from yarl import URL

#: What would end a URL, or a line, early.
_BREAKING = re.compile(r"[\x00-\x20\x7f]")
#: What no host's name holds (URL Standard, "forbidden domain code point"; ``<NAME>`` stands for a variable).
_NO_HOST = re.compile(r"[%\\^`{|}\"]")
#: Encoded once or several times, also as the overlong UTF-8 and the %u that some servers decode.
_DOT = r"(?:\.|%(?:25)*(?:2e|u002e|c0%(?:25)*ae))"
_SLASH = r"(?:[/\\]|%(?:25)*(?:2f|5c|u002f|u005c|c0%(?:25)*af|c1%(?:25)*9c))"
#: Segments that a client, a proxy or a server may resolve. Some servers end one at a semicolon, or at a NUL.
_DOTS = re.compile(rf"(?:^|{_SLASH}){_DOT}{{1,2}}(?={_SLASH}|;|%(?:25)*(?:3b|00)|$)", re.IGNORECASE)


def absolute_url(url: str, name: str, example: str) -> str:
    """The URL, if a request can be made to it and its path is the one that is written.

    Raises:
        ValueError: says what is wrong with it; ``name`` is the parameter's, ``example`` shows one that is right.
    """
    if _BREAKING.search(url):
        raise ValueError(
            f"{name} holds a space or a control character: what comes out of an event needs | urlencode there"
        )
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{name} must be absolute, like {example}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        URL(url)  # as aiohttp reads it
    except ValueError as error:
        raise ValueError(f"{name} cannot be parsed: {error}") from None
    if not host:
        raise ValueError(f"{name} must be absolute, like {example}")
    if port == 0:
        raise ValueError(f"{name} has no usable port")
    if ":" not in host and (wrong := _NO_HOST.search(host)):
        raise ValueError(f"{name} cannot be parsed: no host holds {wrong[0]!r}")
    if _DOTS.search(parts.path):
        raise ValueError(
            f"{name} holds /../ or /./, maybe encoded, which would lead to another path than the one that is written"
        )
    return url
