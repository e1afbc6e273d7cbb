"""Running one attempt. Touches no store: what it came to is a value, settled elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from engine.action.contract import ActionContext, payload_of
from engine.action.error_place import package_of, short_place
from engine.action.failures import Failure, Scope, classify
from engine.clients.guard import trusting
from engine.clients.session import Clients
from engine.core.error_text import error_text, named_error
from engine.core.errors import TemplateError, TookTooLong
from engine.core.event import Event
from engine.core.json_text import MAX_LEVELS, is_deeper, restore_long_numbers
from engine.core.log_context import Facts as LogFacts
from engine.core.log_context import logging_as
from engine.core.masking import CUT
from engine.core.offload import Offload, in_thread
from engine.core.trace import Facts, Span, Spans, carrying
from engine.rules.route import Route, RoutedAction
from engine.store.records import Work
from engine.worker.plugin_loop import NotStarted, PluginLoops

Result = Mapping[str, Any] | None
T = TypeVar("T")

#: Bodies of so many bytes are parsed once more on the event loop; larger ones in a thread.
_INLINE = 256 * 1024
#: The most that is kept of what an action returns, in bytes of JSON.
_LONGEST_RESULT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery about to be attempted, bound to the route and action as they are now."""

    work: Work
    event: Event
    route: Route
    action: RoutedAction
    document: Mapping[str, Any]
    #: What earlier attempts noted; the action adds to it.
    progress: dict[str, Any] = field(default_factory=dict)
    #: The bodies that it is about, each with the place of its run; empty where no number is beyond 64 bits.
    bodies: Sequence[tuple[bytes, int]] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """What one attempt came to: ``failure`` is None on success. ``seconds`` is how long the action took.

    ``result`` is what it returned, as JSON and of bounded size.
    """

    failure: Failure | None
    result: Result
    destination: str
    started_at: float
    seconds: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A delivery whose parameters are rendered, so that its destination is known, and what answers are about."""

    job: Job
    params: BaseModel
    destination: str
    scope: Scope = field(default_factory=Scope)


class Executor:
    """Renders a delivery's parameters and runs its action under its timeout, built-ins here, plug-ins over there."""

    def __init__(
        self,
        clients: Clients,
        plugins: PluginLoops[Clients],
        clock: Callable[[], float] = time.time,
        spans: Spans | None = None,
        fingerprint: Callable[[str], str] | None = None,
    ) -> None:
        self._clients = clients
        self._plugins = plugins
        self.offload = Offload()
        self._clock = clock
        self._spans = spans or Spans()
        self._fingerprint = fingerprint
        #: The attempts that plug-ins are at, by delivery.
        self.in_plugins: dict[str, Job] = {}

    async def prepare(self, job: Job) -> Ready | Ran:
        """Render the parameters and ask where they lead; what went wrong is an attempt that failed.

        Raises:
            NotStarted: the plug-ins' loop was blocked; nothing of it ran.
            CancelledError: this process gives the attempt up, not the action.
        """
        ready, ran = await self._guarded(job, self._ready(job), "")
        return ran if ready is None else ready

    async def run(self, ready: Ready) -> Ran:
        """One attempt. Whatever the action raises is classified, never passed on.

        Raises:
            NotStarted: the plug-ins' loop was blocked; nothing of the attempt ran.
            CancelledError: this process gives the attempt up, not the action.
        """
        span = self._spans.begin("attempt", ready.job.event.trace, "client", _facts(ready))
        try:
            result, ran = await self._guarded(ready.job, self._run(ready, span.traceparent), ready.destination)
        except BaseException:
            span.end(error="given up")
            raise
        _end(span, ran)
        return replace(ran, result=result)

    async def _guarded(self, job: Job, work: Coroutine[Any, Any, T], destination: str) -> tuple[T | None, Ran]:
        """What a piece of an attempt came to, and how it went."""
        started_at, begun = self._clock(), time.perf_counter()
        came: T | None = None
        failure: Failure | None = None
        trouble: BaseException | None = None
        try:
            came = await work
        except NotStarted:
            raise
        except asyncio.CancelledError as error:
            if _we_are_cancelled():
                raise
            failure, trouble = Failure(retry=True, reason="the action cancelled itself", expected=False), error
        except Exception as error:  # noqa: BLE001 - an attempt is where foreign work ends
            trouble = _only(error)
            failure = _failure(job, trouble)
        return came, Ran(failure, None, destination, started_at, time.perf_counter() - begun, trouble)

    async def _ready(self, job: Job) -> Ready:
        if not job.action.registered.builtin:
            return await self._over_there(job, lambda _: _foreign_ready(job))
        params = job.action.static_params
        if params is None:
            params = await self._params(job)
        return Ready(job, params, _destination(job, params), job.action.registered.action.scope(params))

    async def _params(self, job: Job) -> BaseModel:
        """The parameters, rendered. What a template may do on the loop is limited whatever the size of the event."""
        kind, size = (job.route.id, job.action.name), len(job.event.body)
        try:
            return await self.offload.run(kind, partial(job.action.params, job.document), size=size)
        except TookTooLong as error:
            raise TemplateError(f"rendering the parameters {error}") from error

    async def _run(self, ready: Ready, trace: str) -> Result:
        if ready.job.action.registered.builtin:
            return await self._attempt(ready, trace, self._clients)
        return await self._over_there(ready.job, partial(self._attempt, ready, trace))

    async def _attempt(self, ready: Ready, trace: str, clients: Clients) -> Result:
        job = ready.job
        context = await context_of(job, clients)
        if self._fingerprint is not None:
            context = replace(context, fingerprint=self._fingerprint)
        with trusting(job.action.origins), carrying(trace):
            return _kept(await _within(job.action.timeout, job.action.registered.action.run(ready.params, context)))

    async def _over_there(self, job: Job, make: Callable[[Clients], Coroutine[Any, Any, T]]) -> T:
        async def work(clients: Clients) -> T:
            with logging_as(_log_facts(job)):
                return await make(clients)

        self.in_plugins[job.work.id] = job
        try:
            return await self._plugins.call(type(job.action.registered.action), work, job.action.timeout)
        finally:
            self.in_plugins.pop(job.work.id, None)


def _log_facts(job: Job) -> LogFacts:
    """What each log line of a plug-in has: the names of the engine's own lines (docs/operations.md)."""
    work = job.work
    return {
        "delivery": work.id,
        "event": work.event_id,
        "route": work.route,
        "action": work.action,
        "action_type": job.action.registered.name,
        "run": work.run_id or "-",
        "attempt": work.attempts + 1,
    }


def _facts(ready: Ready) -> Facts:
    """What a span says of an attempt. Of addresses no query: it may hold a secret."""
    work = ready.job.work
    return {
        "engine.event": work.event_id,
        "engine.delivery": work.id,
        "engine.route": work.route,
        "engine.action": work.action,
        "engine.attempt": work.attempts + 1,
        "engine.replay": work.replays,
        "engine.destination": ready.destination.partition("?")[0],
    }


def _end(span: Span, ran: Ran) -> None:
    if ran.failure is None:
        span.end({}, "")
    else:
        status = ran.failure.status
        span.end({} if status is None else {"http.response.status_code": status}, ran.failure.reason_class)


def _destination(job: Job, params: BaseModel) -> str:
    return str(job.action.registered.action.destination(params) or job.action.registered.name)


async def _foreign_ready(job: Job) -> Ready:
    """All of it over there, for validators and ``destination`` may block as well as ``run``.

    The document is a copy: what a plug-in does to it must not reach other deliveries.
    """
    seen: dict[int, Any] = {}
    try:
        own: Mapping[str, Any] = {key: _copy(value, seen) for key, value in job.document.items()}
    except RecursionError:  # deeper than Python goes, and so than a plug-in can look
        own = job.document
    job = replace(job, document=own)
    params = job.action.params(own)
    return Ready(job, params, _destination(job, params), job.action.registered.action.scope(params))


def _copy(value: Any, seen: dict[int, Any]) -> Any:
    """Mappings and lists anew; one that stands in two places stays one (``run`` and ``runs[0]``)."""
    if not isinstance(value, (dict, list)):
        return value
    twin = seen.get(id(value))
    if twin is None:
        if isinstance(value, dict):
            twin = {key: _copy(item, seen) for key, item in value.items()}
        else:
            twin = [_copy(item, seen) for item in value]
        seen[id(value)] = twin
    return twin


def _only(error: Exception) -> Exception:
    """The one exception in a group: what a task of an ``asyncio.TaskGroup`` raised."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _failure(job: Job, error: Exception) -> Failure:
    """What an exception means; what a plug-in did not expect is shown with its place."""
    try:
        failure = classify(error)
    except BaseException:  # noqa: BLE001 - a foreign exception's attributes may raise anything
        failure = Failure(retry=True, reason=named_error(error), expected=False)
    if failure.expected or job.action.registered.builtin:
        return failure
    place = short_place(error, package_of(type(job.action.registered.action)))
    return replace(failure, reason=f"{failure.reason} ({place})") if place else failure


async def _within(seconds: float, attempt: Coroutine[Any, Any, Result]) -> Result:
    try:
        async with asyncio.timeout(seconds):
            return await attempt
    except TimeoutError as error:
        raise TimeoutError(error_text(error) or f"no answer within {seconds:g} s") from error


def _we_are_cancelled() -> bool:
    """Whether somebody cancelled the task we are in: an action may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _kept(result: object) -> Result:
    """What an action returned, as it is kept: JSON of bounded size. An odd result is no reason to act again."""
    if result is None:
        return None
    kind = type(result).__name__
    try:
        text = _json(result)
        if len(text) > _LONGEST_RESULT:
            return {"result": text[:_LONGEST_RESULT].decode(errors="ignore") + CUT}
        if is_deeper(text, MAX_LEVELS):
            return {"result": f"a {kind} that is nested deeper than {MAX_LEVELS} levels"}
        data = orjson.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        return {"result": f"a {kind} that cannot be kept as JSON: {error_text(error)}"}
    return data if isinstance(data, dict) else {"result": data}


def _json(result: object) -> bytes:
    try:
        return orjson.dumps(result, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # there are whole numbers beyond 64 bits, or else json has the better words for what is wrong
        return orjson.dumps(json.loads(json.dumps(result, default=_plain), parse_int=_number))


def _number(digits: str) -> int | str:
    """A whole number; as text beyond 64 bits, where JSON of others would round it."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits


def _plain(value: object) -> object:
    """What JSON has no word for. Foreign objects, whose methods may raise even SystemExit."""
    try:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        return dict(value) if isinstance(value, Mapping) else str(value)
    except BaseException as error:  # noqa: BLE001 - it has acted, and must not act again because of this
        return f"a {type(value).__name__} that cannot be shown: {named_error(error)}"


def noted(job: Job) -> Result:
    """The progress of a delivery as it is kept with an attempt that failed; None where there is none to keep."""
    if not job.action.registered.action.keeps_progress or not job.progress:
        return None
    try:
        text = orjson.dumps(job.progress)
    except (TypeError, ValueError, RecursionError):
        return None
    return orjson.loads(text) if len(text) <= _LONGEST_RESULT else None


async def _exact_payloads(job: Job) -> Sequence[Mapping[str, Any]]:
    """The payloads of a job's documents where numbers beyond 64 bits may be in one, else nothing."""
    if not any(body for body, _ in job.bodies):
        return ()
    documents = job.document["items"] if job.action.digests else [job.document]

    def work() -> list[Mapping[str, Any]]:
        pairs = zip(documents, job.bodies, strict=False)
        return [restore_long_numbers(dict(payload_of(document)), body, index) for document, (body, index) in pairs]

    large = sum(len(body) for body, _ in job.bodies) > _INLINE
    return await in_thread(work) if large else work()


async def context_of(job: Job, clients: Clients) -> ActionContext:
    """What an action gets to know and use for one attempt."""
    work, event, run = job.work, job.event, job.document.get("run")
    return ActionContext(
        delivery_id=work.id,
        attempt=work.attempts + 1,
        timeout=job.action.timeout,
        replayed=work.replays > 0,
        event_id=event.id,
        event_kind=str(event.kind),
        rule_id=event.rule_id,
        received_at=datetime.fromtimestamp(event.received_at, UTC),
        route=job.route.id,
        action=job.action.name,
        document=job.document,
        run=run if isinstance(run, Mapping) else None,
        http=await clients.http(),
        langsmith=clients.langsmith,
        slack=clients.slack,
        logger=logging.getLogger(f"engine.action.{job.action.registered.name}"),
        digest=job.action.digests,
        progress=job.progress,
        exact=await _exact_payloads(job),
        threads=clients.threads,
    )
