"""Faults on demand, for every stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(slots=True)
class Fault:
    """One fault, for the next ``times`` requests that match (None: until cleared).

    Requests are matched by method and path. A path is a prefix of whole segments (``/examples`` matches
    ``/examples/bulk``), or a pattern if it contains a ``*``.
    """

    status: int | None = None
    times: int | None = 1
    path: str = ""
    method: str = ""
    #: Sent as ``Retry-After``, in seconds.
    retry_after: float | None = None
    #: Seconds to wait before the response.
    hang: float = 0.0
    #: Close the connection with a TCP reset instead of answering.
    reset: bool = False
    #: The exact body of the response: malformed JSON, an HTML error page, or nothing.
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The request takes effect, and only its response is lost or replaced.
    applied: bool = False
    #: Seconds between the two halves of the response's body.
    drip: float = 0.0
    #: The connection is reset after the first half of the response's body.
    cut: bool = False
    #: How often it has happened.
    seen: int = 0

    @property
    def replaces(self) -> bool:
        """Whether it replaces the usual response (a delay alone does not)."""
        return self.reset or self.status is not None or self.body is not None

    @property
    def halves(self) -> bool:
        """Whether the response's body is sent in two halves, or only the first half."""
        return self.cut or self.drip > 0

    def fits(self, method: str, *paths: str) -> bool:
        """Whether it matches a request, given the spellings of its path."""
        if self.method and self.method != method:
            return False
        return not self.path or any(_fits(self.path, path) for path in paths)


def _fits(pattern: str, path: str) -> bool:
    if "*" in pattern:
        return fnmatchcase(path, pattern)
    return path == pattern or path.startswith(pattern.rstrip("/") + "/")


class Faults:
    """The pending faults. The first one that matches a request is used, and counts down."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(
        self,
        *,
        status: int | None = None,
        times: int | None = 1,
        path: str = "",
        method: str = "",
        retry_after: float | None = None,
        hang: float = 0.0,
        reset: bool = False,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        applied: bool = False,
        drip: float = 0.0,
        cut: bool = False,
    ) -> Fault:
        """Add a fault and return it. Its ``seen`` is how often it happened.

        Raises:
            ValueError: the fault would change nothing, or would never happen.
        """
        raw = body.encode() if isinstance(body, str) else body
        fault = Fault(
            status, times, path, method.upper(), retry_after, hang, reset, raw, dict(headers or {}), applied, drip, cut
        )
        if not (fault.replaces or fault.halves or hang > 0):
            raise ValueError("a fault needs a status, a body, a reset, a cut, a drip or a hang")
        if times is not None and times < 1:
            raise ValueError("a fault happens at least once; leave `times` out or pass None for ever")
        self._waiting.append(fault)
        return fault

    def take(self, method: str, *paths: str) -> Fault | None:
        """The fault for this request, which is then counted; None if there is none."""
        for fault in self._waiting:
            if fault.fits(method, *paths):
                fault.seen += 1
                if fault.seen == fault.times:
                    self._waiting.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Remove all faults."""
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
