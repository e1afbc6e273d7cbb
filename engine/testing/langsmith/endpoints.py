"""Endpoints by method and path template."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.testing.server import Answer, Recorded, Refused


@dataclass(frozen=True, slots=True)
class Call:
    """A request that reached an endpoint; ``args`` are the values of the template's ``{names}``."""

    recorded: Recorded
    args: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            Refused: 422, it is something else.
        """
        if not isinstance(self.recorded.body, dict):
            raise unprocessable("body", "Input should be a valid dictionary")
        return self.recorded.body

    @property
    def rows(self) -> list[Any]:
        """The JSON array in the body.

        Raises:
            Refused: 422, it is something else.
        """
        if not isinstance(self.recorded.body, list):
            raise unprocessable("body", "Input should be a valid list")
        return self.recorded.body

    def one(self, name: str, default: str = "") -> str:
        """The first query parameter of a name."""
        return self.recorded.query.get(name, default)

    def many(self, name: str) -> list[str]:
        """All query parameters of a name."""
        return self.recorded.query.getall(name, [])

    def note(self, words: str) -> None:
        """Describe briefly what happened, for people."""
        self.recorded.note = words

    def page(self, rows: list[Any]) -> list[Any]:
        """The rows between ``offset`` and ``offset + limit``.

        Raises:
            Refused: 422, a limit that is not between 1 and 100.
        """
        offset, limit = self.one("offset", "0"), self.one("limit", "100")
        if not (offset.isdecimal() and limit.isdecimal() and 1 <= int(limit) <= 100):
            raise unprocessable("limit", "Input should be between 1 and 100")
        return rows[int(offset) : int(offset) + int(limit)]

    def cursor_page(self, rows: list[Any], size_name: str) -> tuple[list[Any], str | None]:
        """A page of the rows and the next one's cursor, from the query parameters.

        Raises:
            Refused: 422, an invalid size, or an unknown cursor.
        """
        return cut_page(rows, self.one("cursor", "0"), self.one(size_name, "100"))


Handler = Callable[[Call], Answer]
#: Method, path template, handler.
Endpoint = tuple[str, str, Handler]


def unprocessable(where: str, message: str) -> Refused:
    """FastAPI's response to a request of the wrong shape."""
    return Refused(422, {"detail": [{"loc": ["body", where], "msg": message, "type": "value_error"}]})


def cut_page(rows: list[Any], cursor: Any, size: Any, *, most: int = 100) -> tuple[list[Any], str | None]:
    """A page of ``size`` rows, and the next one's cursor: how many rows come before it.

    Raises:
        Refused: 422, a size that is not between 1 and ``most``, or an unknown cursor.
    """
    if not (str(size).isdecimal() and 1 <= int(size) <= most):
        raise unprocessable("limit", f"Input should be between 1 and {most}")
    if not str(cursor).isdecimal():
        raise unprocessable("cursor", "Invalid cursor")
    end = int(cursor) + int(size)
    return rows[int(cursor) : end], str(end) if end < len(rows) else None


class Table:
    """Finds the endpoint of a request."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = [(method, _compile(template), handler) for method, template, handler in endpoints]

    def answer(self, recorded: Recorded) -> Answer:
        """Call the endpoint.

        Raises:
            Refused: 404 or 405, there is none; or the endpoint refuses the request.
        """
        allowed = set()
        for method, pattern, handler in self._endpoints:
            if match := pattern.fullmatch(recorded.route):
                if method == recorded.method:
                    return handler(Call(recorded, match.groupdict()))
                allowed.add(method)
        if allowed:
            raise Refused(405, {"detail": "Method Not Allowed"}, {"Allow": ", ".join(sorted(allowed))})
        raise Refused(404, {"detail": "Not Found"})


def _compile(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)))
