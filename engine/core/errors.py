"""Every error the engine raises on purpose, in one tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.core.masking import shortened
from engine.core.terminal_text import snippet

#: Seconds until the next try if the time is unknown: when waiting for capacity, and when waiting for somebody to change
#: something.
_SHORT_REST, _LONG_REST = 5.0, 300.0
#: The maximum length of a response quoted in a reason, in characters.
_LONGEST_EXCERPT = 200


class EngineError(Exception):
    """Base of the engine's errors. The message is for people."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file: where it is, what it is, what to do next.

    Lines and columns count from 1; 0 means unknown.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """``file:line:column``, as editors and terminals understand it."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}"]
        if self.source.strip():
            lines += [f"    {line}" for line in snippet(self.source, self.column)]
        if self.hint:
            lines.append(f"    {self.hint}")
        return "\n".join(lines)


class ConfigError(EngineError):
    """A configuration cannot be used. ``problems`` lists every problem in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PathError(EngineError):
    """A JSONPath cannot be compiled. ``column`` counts from 1 within the path."""

    def __init__(self, message: str, *, column: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.column = column
        self.hint = hint


class TemplateError(EngineError):
    """A template cannot be compiled or rendered.

    ``where`` is the place within the parameter tree, as keys and indexes;
    ``line`` counts from 1 within that one text.
    """

    def __init__(self, message: str, *, where: tuple[str | int, ...] = (), line: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.where = where
        self.line = line
        self.hint = hint


class AbsentValue(TemplateError):  # noqa: N818 - a result, not an error
    """A template or expression needs a value that is absent. ``part`` is the expression for it, as written."""

    def __init__(
        self, message: str, part: str, *, where: tuple[str | int, ...] = (), line: int = 1, hint: str = ""
    ) -> None:
        super().__init__(message, where=where, line=line, hint=hint)
        self.part = part


class ParamsError(TemplateError):
    """The parameters of a delivery could not be rendered. ``str()`` includes the hint; ``message`` does not."""

    def __init__(self, message: str, *, where: tuple[str | int, ...] = (), line: int = 1, hint: str = "") -> None:
        super().__init__("; ".join(filter(None, (message, hint))), where=where, line=line, hint=hint)
        self.message = message


class DataMissing(EngineError):  # noqa: N818 - a state, not an error
    """Data that a filter or template reads is not available (yet). The message says why."""


class TookTooLong(EngineError):  # noqa: N818 - a state, not an error
    """A computation reached its limit of CPU time, in seconds. ``running``: its thread has not ended yet."""

    def __init__(self, seconds: float, *, running: bool = False) -> None:
        super().__init__(f"took longer than {seconds:g} s of CPU time")
        self.running = running


class DataTooLarge(DataMissing):
    """Data that a filter or template reads exceeds the memory limit. Another fetch would fail the same way."""


class NotNow(EngineError):  # noqa: N818 - a state, not an error
    """Something cannot be done now and should be tried later.

    ``until`` is when to try again, in Unix seconds; None means in a few seconds. ``blocked``: the destination accepts
    nothing, so the waiting time counts towards ``within``.
    """

    def __init__(self, reason: str, *, until: float | None = None, blocked: bool = False) -> None:
        super().__init__(reason)
        self.until, self.blocked = until, blocked

    def due_at(self, now: float) -> float:
        """When to try again, in Unix seconds."""
        if self.until is not None:
            return max(self.until, now + 1.0)
        return now + (_LONG_REST if self.blocked else _SHORT_REST)


class BadBody(EngineError):  # noqa: N818 - named after the response
    """A request body is not a JSON object. The response is 400."""


class TooComplex(BadBody):
    """JSON text has too many values or levels to be parsed. Such a webhook is stored unparsed."""


class StoreError(EngineError):
    """The store cannot be used: it is locked, full, damaged, newer than the engine, or not an engine's store."""


class BadQuestion(StoreError):  # noqa: N818 - not an error of the store
    """The store works, but the query is invalid: an unknown state, or an id that does not exist."""


class AmbiguousId(BadQuestion):
    """Several ids begin with the given prefix. ``ids`` are some of them, newest first."""

    def __init__(self, message: str, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.ids = ids


class StoreBusy(StoreError):  # noqa: N818 - a state; the response is 503
    """The store did not answer in time, or its disk is full. Nothing was accepted."""


class StoreGone(StoreBusy):
    """The store's file was moved or deleted. If it does not come back, its content is lost."""


class Retry(EngineError):  # noqa: N818 - raised by actions as a verb
    """Raised by an action: try this delivery again.

    The attempt counts, so after the last one (``retry: {attempts, within}``) the delivery is dead.

    Args:
        reason: For people, in ``engine deliveries`` and the log.
        after: The least number of seconds to wait, an hour at most; None leaves it to the retry policy.

    Attributes:
        after: The same.
    """

    after: float | None
    """The least number of seconds to wait; None leaves it to the retry policy."""

    def __init__(self, reason: str = "the action asked for another attempt", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Discard(EngineError):  # noqa: N818 - raised by actions as a verb
    """Raised by an action: no attempt can ever succeed. The delivery is dead at once and may be replayed.

    Args:
        reason: For people, in ``engine deliveries`` and the log.
    """

    def __init__(self, reason: str = "discarded by the action") -> None:
        super().__init__(reason)


class HttpFailure(EngineError):  # noqa: N818 - a response, not an error of the engine
    """A destination responded with a status other than 2xx."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str = "") -> None:
        detail = _redirection(headers) if 300 <= status < 400 else shortened(" ".join(body.split()), _LONGEST_EXCERPT)
        super().__init__(f"HTTP {status}" + (f": {detail}" if detail else ""))
        self.status = status
        self.headers = headers


def _redirection(headers: Mapping[str, str]) -> str:
    """The target of a redirect, and what to do about it."""
    target = " ".join(next((value for name, value in headers.items() if name.lower() == "location"), "").split())
    to = f"it redirects to {shortened(target, _LONGEST_EXCERPT)}, and " if target else ""
    return f"{to}redirects are not followed: configure the final address"


def check_response(status: int, headers: Mapping[str, str], body: str = "") -> None:
    """Raise for a status other than 2xx, so that the retry policy applies.

    ``read_response`` does this and reads the response.

    Args:
        status: The HTTP status.
        headers: The response headers; ``Retry-After`` is used.
        body: The response body as text. The reason quotes up to 200 characters of it.

    Raises:
        HttpFailure: the status is not 2xx.
    """
    if not 200 <= status < 300:
        raise HttpFailure(status, headers, body)
