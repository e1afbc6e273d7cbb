"""Validates URLs in parameters."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from yarl import URL

#: Characters that would end a URL or a line early.
_BREAKING = re.compile(r"[\x00-\x20\x7f]")
#: Characters that are invalid in host names (URL Standard, "forbidden domain code point"). ``<NAME>`` is a variable.
_NO_HOST = re.compile(r"[%\\^`{|}\"]")
#: Encoded once or several times, also in the overlong UTF-8 and %u forms that some servers decode.
_DOT = r"(?:\.|%(?:25)*(?:2e|u002e|c0%(?:25)*ae))"
_SLASH = r"(?:[/\\]|%(?:25)*(?:2f|5c|u002f|u005c|c0%(?:25)*af|c1%(?:25)*9c))"
#: Path segments that a client, a proxy or a server may resolve. Some servers end a segment at a semicolon or a NUL.
_DOTS = re.compile(rf"(?:^|{_SLASH}){_DOT}{{1,2}}(?={_SLASH}|;|%(?:25)*(?:3b|00)|$)", re.IGNORECASE)


def absolute_url(url: str, name: str, example: str) -> str:
    """Return the URL if it is absolute and its path cannot be resolved to another one.

    Raises:
        ValueError: with a message for the author. ``name`` is the parameter, ``example`` a valid URL.
    """
    if _BREAKING.search(url):
        raise ValueError(f"{name} contains a space or a control character: event data needs | urlencode there")
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
        raise ValueError(f"{name} cannot be parsed: a host cannot contain {wrong[0]!r}")
    if _DOTS.search(parts.path):
        raise ValueError(
            f"{name} contains /../ or /./, maybe encoded, which would lead to another path than the one that is written"
        )
    return url
