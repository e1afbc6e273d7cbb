"""Every error the engine raises on purpose, in one tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.core.masking import shortened
from engine.core.terminal_text import snippet

#: When to try again what can't be done for an unknown time, in seconds: what waits for its turn, and what waits for
#: people to change something.
_SHORT_REST, _LONG_REST = 5.0, 300.0
#: How much of an answer a reason quotes, in characters.
_LONGEST_EXCERPT = 200


class EngineError(Exception):
    """Something the engine refuses, with words for the person who reads it."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file: where it is, what it is, what to do next.

    Lines and columns count from 1; 0 means that the place is not known.
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
    """A configuration cannot be used; carries every problem found, in file order."""

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


class AbsentValue(TemplateError):  # noqa: N818 - an answer, not a fault
    """A template or expression needs a value that is absent. ``part`` is how the author wrote that value."""

    def __init__(
        self, message: str, part: str, *, where: tuple[str | int, ...] = (), line: int = 1, hint: str = ""
    ) -> None:
        super().__init__(message, where=where, line=line, hint=hint)
        self.part = part


class ParamsError(TemplateError):
    """An action's parameters could not be made for a delivery. As text it says everything: place, words, hint.

    ``words`` leaves the hint out, for those who show it in a place of its own.
    """

    def __init__(self, words: str, *, where: tuple[str | int, ...] = (), line: int = 1, hint: str = "") -> None:
        super().__init__("; ".join(filter(None, (words, hint))), where=where, line=line, hint=hint)
        self.words = words


class WantOfData(EngineError):  # noqa: N818 - it is a condition, not a fault
    """Data that a filter or template reads could not be had (yet); says why."""


class TookTooLong(EngineError):  # noqa: N818 - a state, not a fault of the engine
    """A computation reached its limit, in seconds of CPU time. ``running``: its thread has not ended yet."""

    def __init__(self, seconds: float, *, running: bool = False) -> None:
        super().__init__(f"took longer than {seconds:g} s of CPU time")
        self.running = running


class DataTooLarge(WantOfData):
    """Data that a filter or template reads is larger than the memory limit allows: another fetch changes nothing."""


class NotNow(EngineError):  # noqa: N818 - it is a condition, not a fault
    """Something can't be done now, and can be later.

    ``until`` is when to try again, in Unix seconds; None: in a few seconds. ``blocked``: a destination takes nothing,
    so the time until then counts towards ``within``.
    """

    def __init__(self, reason: str, *, until: float | None = None, blocked: bool = False) -> None:
        super().__init__(reason)
        self.until, self.blocked = until, blocked

    def due_at(self, now: float) -> float:
        """When to try again, in Unix seconds."""
        if self.until is not None:
            return max(self.until, now + 1.0)
        return now + (_LONG_REST if self.blocked else _SHORT_REST)


class BadBody(EngineError):  # noqa: N818 - reads as the answer it causes
    """A request body is not a JSON object. Answered with 400."""


class TooComplex(BadBody):
    """JSON text has more values or levels than are parsed. A webhook that has is kept all the same, unparsed."""


class StoreError(EngineError):
    """The store cannot take or give anything: locked, foreign, newer, full or broken."""


class BadQuestion(StoreError):  # noqa: N818 - not a fault of the store
    """The store is well, but the question makes no sense: an unknown state, an id that is not there."""


class AmbiguousId(BadQuestion):
    """Several ids begin with what was given as one: ``ids`` are some of them, the newest first."""

    def __init__(self, message: str, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.ids = ids


class StoreBusy(StoreError):  # noqa: N818 - a state, answered with 503
    """The store did not answer in time, or its disk is full. Nothing was accepted."""


class StoreGone(StoreBusy):
    """The store's file is not where it was. It may come back; if it does not, what was in it is lost."""


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
