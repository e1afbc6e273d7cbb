"""Answers of HTTP servers that are no success, as an exception."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.errors import EngineError
from engine.core.masking import shortened

#: How much of an answer a reason quotes, in characters.
_LONGEST_EXCERPT = 200


class HttpFailure(EngineError):  # noqa: N818 - what came back, not a fault of ours
    """A destination answered with something other than 2xx."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str = "") -> None:
        words = _redirection(headers) if 300 <= status < 400 else shortened(" ".join(body.split()), _LONGEST_EXCERPT)
        super().__init__(f"HTTP {status}" + (f": {words}" if words else ""))
        self.status = status
        self.headers = headers


def _redirection(headers: Mapping[str, str]) -> str:
    """Where a 3xx leads, and what to do about it."""
    target = " ".join(next((value for name, value in headers.items() if name.lower() == "location"), "").split())
    where = f"it redirects to {shortened(target, _LONGEST_EXCERPT)}, and " if target else ""
    return f"{where}redirects are not followed: configure the final address"


def check_response(status: int, headers: Mapping[str, str], body: str = "") -> None:
    """Do nothing for a 2xx; for anything else raise what the retry policy understands.

    ``read_response`` does this and reads the answer.

    Args:
        status: The HTTP status.
        headers: Of the answer; ``Retry-After`` counts.
        body: Of the answer, as text; 200 characters of it are kept in the reason.

    Raises:
        HttpFailure: the status is not 2xx. ``body`` helps the person who reads the reason.
    """
    if not 200 <= status < 300:
        raise HttpFailure(status, headers, body)
