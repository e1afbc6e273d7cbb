"""Detects endpoints that LangSmith will remove, by the ``Sunset`` header of responses (RFC 8594)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from threading import Lock

from engine.core.counters import Counts
from engine.core.masking import shortened

_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
#: How many characters of a header are logged.
_LONGEST = 200

_logger = logging.getLogger(__name__)


class Sunsets:
    """Counts responses with a ``Sunset`` header by endpoint, and logs the first of each endpoint.

    All LangSmith clients share one instance, so that a reload or a plug-in loop logs nothing twice.
    """

    def __init__(self) -> None:
        #: By endpoint, such as ``POST /api/v1/runs/query``.
        self.counts = Counts()
        self._lock = Lock()

    def note(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Check the headers of one response."""
        if (sunset := headers.get("Sunset")) is None:
            return
        endpoint = f"{method} {_ID.sub('{id}', path)}"
        with self._lock:
            first = (endpoint,) not in self.counts.read()
            self.counts.add(endpoint)
        if first:
            _logger.warning(
                "LangSmith will remove %s at %s: update this engine, and LangSmith if it is self-hosted,"
                " before then (more: %s)",
                endpoint,
                _shown(sunset),
                _shown(headers.get("Link", "no link was sent")),
            )


def _shown(header: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in shortened(header, _LONGEST))
