"""Runs one attempt. The result is a value; it is stored elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
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
from engine.core.trace import Facts, Spans, carrying
from engine.rules.route import Route, RoutedAction
from engine.store.records import Work
from engine.worker.plugin_loop import NotStarted, PluginLoops

Result = Mapping[str, Any] | None
T = TypeVar("T")

#: Bodies of up to this many bytes are parsed again on the event loop; larger ones in a thread.
_INLINE = 256 * 1024
#: The most that is kept of what an action returns, in bytes of JSON.
_LONGEST_RESULT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery, bound to its route and action as they are now."""

    work: Work
    event: Event
    route: Route
    action: RoutedAction
    document: Mapping[str, Any]
    #: What earlier attempts recorded; the action adds to it.
    progress: dict[str, Any] = field(default_factory=dict)
    #: The body and run index of each document; the body is empty if it has no number beyond 64 bits.
    bodies: Sequence[tuple[bytes, int]] = ()


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of one attempt: ``failure`` is None on success. ``seconds`` is how long the action took.

    ``result`` is what the action returned, as JSON and of bounded size.
    """

    failure: Failure | None
    result: Result
    destination: str
    started_at: float
    seconds: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A delivery with its rendered parameters, its destination, and what answers will be about."""

    job: Job
    params: BaseModel
    destination: str
    scope: Scope


class Executor:
    """Renders a delivery's parameters and runs its action under its timeout. Plug-ins run on their own loops.

    Without ``spans`` nothing is traced, and an event's ``traceparent`` is passed on.
    """

    def __init__(
        self,
        clients: Clients,
        plugins: PluginLoops[Clients],
        fingerprint: Callable[[str], str],
        spans: Spans | None = None,
    ) -> None:
        self._clients, self._plugins, self._fingerprint, self._spans = clients, plugins, fingerprint, spans
        self.offload = Offload()
        #: The attempts that plug-ins run now, by delivery.
        self.in_plugins: dict[str, Job] = {}

    async def prepare(self, job: Job) -> Prepared | AttemptResult:
        """Render the parameters and ask for the destination; an error is the result of a failed attempt.

        Raises:
            NotStarted: the plug-in was busy; nothing of it ran.
            CancelledError: this process gives up the attempt.
        """
        started_at, began = time.time(), time.perf_counter()
        try:
            if not job.action.registered.builtin:
                return await self._in_plugin(job, lambda _: _prepare_plugin(job))
            params = job.action.static_params
            if params is None:
                params = await self._params(job)
            return _prepared(job, params)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the action's code ends here
            return _failed(job, "", started_at, time.perf_counter() - began, error)

    async def run(self, prepared: Prepared) -> AttemptResult:
        """Make one attempt. Exceptions of the action become its result.

        Raises:
            NotStarted: the plug-in was busy; nothing of the attempt ran.
            CancelledError: this process gives up the attempt.
        """
        trace = prepared.job.event.trace
        if self._spans is None and not trace:
            return await self._run(prepared, "")
        span = (self._spans or Spans()).begin("attempt", trace, "client", _facts(prepared))
        try:
            result = await self._run(prepared, span.traceparent)
        except BaseException:
            span.end(error="given up")
            raise
        status = result.failure.status if result.failure else None
        facts = {} if status is None else {"http.response.status_code": status}
        span.end(facts, "" if result.failure is None else result.failure.reason_class)
        return result

    async def _run(self, prepared: Prepared, trace: str) -> AttemptResult:
        job, started_at, began = prepared.job, time.time(), time.perf_counter()
        try:
            if job.action.registered.builtin:
                result = await self._attempt(prepared, trace, self._clients)
            else:
                result = await self._in_plugin(job, partial(self._attempt, prepared, trace))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the action's code ends here
            return _failed(job, prepared.destination, started_at, time.perf_counter() - began, error)
        return AttemptResult(None, result, prepared.destination, started_at, time.perf_counter() - began)

    async def _params(self, job: Job) -> BaseModel:
        """The rendered parameters. A template that takes long on the event loop is rendered in a thread."""
        kind, size = (job.route.id, job.action.name), len(job.event.body)
        try:
            return await self.offload.run(kind, partial(job.action.params, job.document), size=size)
        except TookTooLong as error:
            raise TemplateError(f"rendering the parameters {error}") from error

    async def _attempt(self, prepared: Prepared, trace: str, clients: Clients) -> Result:
        job = prepared.job
        context = await _context_of(job, clients, self._fingerprint)
        with trusting(job.action.origins), carrying(trace) if trace else nullcontext():
            try:
                async with asyncio.timeout(job.action.timeout):
                    return _json_result(await job.action.registered.action.run(prepared.params, context))
            except TimeoutError as error:
                raise TimeoutError(error_text(error) or f"no answer within {job.action.timeout:g} s") from error

    async def _in_plugin(self, job: Job, make: Callable[[Clients], Coroutine[Any, Any, T]]) -> T:
        async def work(clients: Clients) -> T:
            with logging_as(_log_facts(job)):
                return await make(clients)

        self.in_plugins[job.work.id] = job
        try:
            return await self._plugins.call(type(job.action.registered.action), work, job.action.timeout)
        finally:
            self.in_plugins.pop(job.work.id, None)


def _log_facts(job: Job) -> LogFacts:
    """The fields of each log line of a plug-in, named as in the engine's own lines (docs/operations.md)."""
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


def _facts(prepared: Prepared) -> Facts:
    """The attributes of an attempt's span. Without the query of addresses, which may hold a secret."""
    work = prepared.job.work
    return {
        "engine.event": work.event_id,
        "engine.delivery": work.id,
        "engine.route": work.route,
        "engine.action": work.action,
        "engine.attempt": work.attempts + 1,
        "engine.replay": work.replays,
        "engine.destination": prepared.destination.partition("?")[0],
    }


def _prepared(job: Job, params: BaseModel) -> Prepared:
    registered = job.action.registered
    destination = str(registered.action.destination(params) or registered.name)
    return Prepared(job, params, destination, registered.action.scope(params))


async def _prepare_plugin(job: Job) -> Prepared:
    """Render and prepare on the plug-in's loop, because its validators and ``destination`` may block, too.

    The document is a copy, so that changes by the plug-in do not reach other deliveries.
    """
    seen: dict[int, Any] = {}
    try:
        document: Mapping[str, Any] = {key: _copy(value, seen) for key, value in job.document.items()}
    except RecursionError:  # the plug-in cannot reach that depth either
        document = job.document
    return _prepared(replace(job, document=document), job.action.params(document))


def _copy(value: Any, seen: dict[int, Any]) -> Any:
    """A copy of mappings and lists. What is shared stays shared (``run`` and ``runs[0]``)."""
    if not isinstance(value, (dict, list)):
        return value
    if id(value) not in seen:
        if isinstance(value, dict):
            seen[id(value)] = {key: _copy(item, seen) for key, item in value.items()}
        else:
            seen[id(value)] = [_copy(item, seen) for item in value]
    return seen[id(value)]


def _failed(job: Job, destination: str, started_at: float, seconds: float, error: BaseException) -> AttemptResult:
    """The result of an attempt that raised. Raises the exception again if the attempt did not start or is given up."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    if isinstance(error, NotStarted) or (is_cancelled and isinstance(error, asyncio.CancelledError)):
        raise error
    if isinstance(error, asyncio.CancelledError):
        failure = Failure(retry=True, reason="the action cancelled itself", expected=False)
    else:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:  # what a task of a TaskGroup raised
            error = error.exceptions[0]
        failure = _failure(job, error)
    return AttemptResult(failure, None, destination, started_at, seconds, error)


def _failure(job: Job, error: BaseException) -> Failure:
    """The failure that an exception means; with its place if a plug-in did not expect it."""
    try:
        failure = classify(error)
    except BaseException:  # noqa: BLE001 - a plug-in's exception may raise anything itself
        failure = Failure(retry=True, reason=named_error(error), expected=False)
    if failure.expected or job.action.registered.builtin:
        return failure
    place = short_place(error, package_of(type(job.action.registered.action)))
    return replace(failure, reason=f"{failure.reason} ({place})") if place else failure


def _json_result(result: object) -> Result:
    """What an action returned, as JSON of bounded size. An unusable result does not make the attempt fail."""
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
    except TypeError:  # there are integers beyond 64 bits; else the message of ``json`` is better
        return orjson.dumps(json.loads(json.dumps(result, default=_plain), parse_int=_number))


def _number(digits: str) -> int | str:
    """An integer; as text beyond 64 bits, because many JSON readers would round it."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits


def _plain(value: object) -> object:
    """An object that is not JSON. Its methods are a plug-in's and may raise even SystemExit."""
    try:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        return dict(value) if isinstance(value, Mapping) else str(value)
    except BaseException as error:  # noqa: BLE001 - the action must not run again because of this
        return f"a {type(value).__name__} that cannot be shown: {named_error(error)}"


def progress_of(job: Job) -> Result:
    """The progress of a delivery, as stored with a failed attempt; None if there is none."""
    if not job.action.registered.action.keeps_progress or not job.progress:
        return None
    try:
        text = orjson.dumps(job.progress)
    except (TypeError, ValueError, RecursionError):
        return None
    return orjson.loads(text) if len(text) <= _LONGEST_RESULT else None


async def _exact_payloads(job: Job) -> Sequence[Mapping[str, Any]]:
    """The payloads of a job's documents if one may have numbers beyond 64 bits, else nothing."""
    if not any(body for body, _ in job.bodies):
        return ()
    documents = job.document["items"] if job.action.digests else [job.document]

    def work() -> list[Mapping[str, Any]]:
        pairs = zip(documents, job.bodies, strict=False)
        return [restore_long_numbers(dict(payload_of(document)), body, index) for document, (body, index) in pairs]

    large = sum(len(body) for body, _ in job.bodies) > _INLINE
    return await in_thread(work) if large else work()


async def _context_of(job: Job, clients: Clients, fingerprint: Callable[[str], str]) -> ActionContext:
    """What an action knows and uses in one attempt."""
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
        fingerprint=fingerprint,
        exact=await _exact_payloads(job),
        threads=clients.threads,
    )
