"""Hydration: fetches what a webhook does not contain, when a filter or an action reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from engine.clients.langsmith import LangSmith
from engine.clients.langsmith.request_limits import RequestTooSlow, request_limits
from engine.clients.network import Origin, origin_of
from engine.clients.object_storage import CONCURRENCY, OBJECT_LIMIT, DataUnavailable, ObjectStorage
from engine.core.document import STORED_PARTS, Fetched, presigned_url, run_id, runs_at
from engine.core.errors import DataTooLarge, EngineError, NotNow
from engine.core.event import Event
from engine.core.json_text import MAX_VALUES
from engine.core.memory_budget import Account, Memory
from engine.core.times import time_of

#: The longest time of a fetch, in seconds.
TIMEOUT = 30.0
#: The share of it for reading objects; the rest is for asking LangSmith for those that could not be read.
_OBJECTS_SHARE = 0.5
#: How long before the start of its runs a runs query begins, because of clocks and rounding.
_SLACK = timedelta(minutes=1)
#: The destination of requests to LangSmith, named as by its actions.
READ_FROM = "langsmith"
#: How many copies of a parsed response the SDK holds: as JSON, as objects, as JSON again.
_COPIES = 3
#: How long after its time limit a request to LangSmith may still wait for its turn, in seconds.
_GRACE = 0.5
#: Why LangSmith cannot be asked for a run.
_NO_ID = "without an id, LangSmith can't be asked for it"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Data to fetch: a part of a run, or its feedback. ``key`` is the run's key in ``Fetched``."""

    need: str
    key: str
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Value:
    """A fetched value, its size in bytes, and the account that it counts against."""

    value: Any
    size: int
    account: Account


#: Identifies data: an event's id, a need, a run's key.
_Key = tuple[str, str, str]
#: A value, or why it could not be fetched.
_Answer = _Value | EngineError
_Load = Callable[[Mapping[_Key, _Wanted], Account], Awaitable[Mapping[_Key, _Answer]]]


class Hydrator:
    """Fetches data of events. Data that several want at the same time is fetched once.

    Objects are read from the presigned URLs of a run. If that fails, for example because they expired, one runs query
    asks LangSmith for all of them. Feedback is one request for all runs of an event. Retries are up to the caller.
    """

    def __init__(
        self,
        langsmith: Callable[[], LangSmith],
        http: Callable[[], Awaitable[aiohttp.ClientSession]],
        *,
        turn: Callable[[str], AbstractAsyncContextManager[None]] = lambda _destination: nullcontext(),
        object_limit: int = OBJECT_LIMIT,
        max_values: int = MAX_VALUES,
        concurrency: int = CONCURRENCY,
        timeout: float = TIMEOUT,
    ) -> None:
        """``langsmith`` and ``http`` are called for every fetch, so that a reload takes effect at once.

        Args:
            langsmith: returns the LangSmith client.
            http: returns the session that reads objects.
            turn: admits a request to a destination; see ``Gateway.turn``.
            object_limit: the largest object, decompressed, in bytes.
            max_values: the largest number of JSON values in an object.
            concurrency: how many objects are read at once from one host.
            timeout: the longest time of a fetch in seconds, including the wait for its turn.
        """
        self._langsmith, self._turn = langsmith, turn
        self._timeout = timeout
        self._objects_timeout = timeout * _OBJECTS_SHARE
        self._objects = ObjectStorage(
            http,
            self._trusted,
            object_limit=object_limit,
            max_values=max_values,
            concurrency=concurrency,
            timeout=self._objects_timeout,
        )
        #: The answers that are being fetched. These futures never fail.
        self._in_progress: dict[_Key, asyncio.Future[_Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fetch(
        self,
        event: Event,
        wanted: Collection[str],
        indexes: Iterable[int] | None,
        have: Fetched,
        *,
        refresh: bool = False,
        account: Account | None = None,
    ) -> Fetched:
        """Returns ``have`` with what of ``wanted`` was missing; ``have`` itself if nothing was.

        Feedback is fetched for all runs of the event, because it is one request either way. ``errors`` has what could
        not be fetched in time. If the caller is cancelled, the fetch continues for others that wait for it.

        Args:
            event: the event.
            wanted: the kinds of data.
            indexes: the runs (None or -1: all).
            have: what was fetched before.
            refresh: fetch feedback again, because more may have come.
            account: what the data counts against; without one there is no limit.
        """
        known = replace(have, feedback=None) if refresh else have
        missing = _missing(event, wanted, [-1] if indexes is None else indexes, known)
        if not missing:
            return have
        account = account or Memory().account()
        pending = self._request(missing, account)
        await asyncio.wait(set(pending.values()))
        answers = {key: answer.result() for key, answer in pending.items()}
        for each in answers.values():
            if isinstance(each, _Value) and each.account is not account:  # the account it was fetched for may be gone
                account.add(each.size)
        return have.merge(_collect(answers))

    async def close(self) -> None:
        """Cancel the fetches in progress; their callers get an error."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _request(self, missing: Mapping[_Key, _Wanted], account: Account) -> dict[_Key, asyncio.Future[_Answer]]:
        """The pending answers; new ones are requested in two tasks, one for feedback, one for parts."""
        loop = asyncio.get_running_loop()
        new = {key: wanted for key, wanted in missing.items() if key not in self._in_progress}
        self._in_progress.update((key, loop.create_future()) for key in new)
        for load, is_feedback in ((self._load_feedback, True), (self._load_parts, False)):
            group = {key: wanted for key, wanted in new.items() if (wanted.need == "feedback") == is_feedback}
            if group:
                task = loop.create_task(self._load(load, group, account))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return {key: self._in_progress[key] for key in missing}

    async def _load(self, load: _Load, group: Mapping[_Key, _Wanted], account: Account) -> None:
        """Set the answers of a group, whatever happens."""
        answers: Mapping[_Key, _Answer] = {}
        failure = EngineError("it was cancelled")
        try:
            answers = await load(group, account)
        except EngineError as error:
            failure = _without_traceback(error)
        except TimeoutError:
            failure = EngineError(f"LangSmith did not answer within {self._timeout:g} s")
        except Exception as error:
            _logger.exception("hydration failed")
            failure = EngineError(f"an unexpected {type(error).__name__}; see the log")
        finally:
            for key in group:
                self._in_progress.pop(key).set_result(answers.get(key, failure))

    async def _load_feedback(self, group: Mapping[_Key, _Wanted], account: Account) -> dict[_Key, _Answer]:
        async with self._read(account, self._timeout) as read:
            rows = await self._langsmith().list_feedback([wanted.key for wanted in group.values()])
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_run.setdefault(str(row.get("run_id")), []).append(row)
        size = read.kept // len(group)
        return {key: _Value(by_run.get(wanted.key, []), size, account) for key, wanted in group.items()}

    async def _load_parts(self, group: Mapping[_Key, _Wanted], account: Account) -> dict[_Key, _Answer]:
        """Read parts from object storage, then ask LangSmith for all that could not be read."""
        read = await asyncio.gather(*(self._read_object(wanted, account) for wanted in group.values()))
        answers: dict[_Key, _Answer] = dict(zip(group, read, strict=True))
        for key, answer in answers.items():
            # Objects that are read at once may exceed the limit together: read this one alone.
            if isinstance(answer, DataTooLarge):
                answers[key] = await self._read_object(group[key], account)
        failed = {key: (group[key], answer) for key, answer in answers.items() if isinstance(answer, DataUnavailable)}
        if failed:
            queried = await self._query([wanted for wanted, _ in failed.values()], account)
            for key, (wanted, why) in failed.items():
                answers[key] = _either(why, queried[wanted.key], wanted.need)
        return answers

    async def _read_object(self, wanted: _Wanted, account: Account) -> _Answer:
        try:
            return _Value(*await self._objects.read(presigned_url(wanted.run, wanted.need) or "", account), account)
        except (DataUnavailable, DataTooLarge, NotNow) as error:
            return _without_traceback(error)

    def _trusted(self) -> Origin | None:
        """LangSmith's own origin, which may serve objects itself.

        Other ports of its host are not trusted: the URLs come from a run. An object store there has to be listed in
        `network: {allow}`.
        """
        endpoint = urlsplit(self._langsmith().settings.endpoint)
        return origin_of(endpoint.scheme, endpoint.hostname or "", str(endpoint.port or ""))

    async def _query(self, missing: Sequence[_Wanted], account: Account) -> Mapping[str, _Answer]:
        """Query LangSmith for runs, in several queries if a response is too large. Answers are by the runs' keys."""
        runs = {id_: wanted.run for wanted in missing if (id_ := run_id(wanted.run)) is not None}
        found: dict[str, _Answer] = {wanted.key: EngineError(_NO_ID) for wanted in missing}
        needs = {wanted.need for wanted in missing}
        seconds = self._timeout - self._objects_timeout
        batches = [list(runs)] if runs else []
        while batches:
            batch = batches.pop(0)
            try:
                async with self._read(account, seconds) as read:
                    rows = await self._langsmith().query_runs(
                        batch,
                        project_ids=sorted(
                            {str(runs[id_]["session_id"]) for id_ in batch if runs[id_].get("session_id")}
                        ),
                        selects=[part for part in STORED_PARTS if part in needs],
                        since=_earliest(runs[id_] for id_ in batch),
                    )
            except DataTooLarge as error:
                if len(batch) > 1:
                    batches[:0] = batch[: len(batch) // 2], batch[len(batch) // 2 :]
                else:
                    found[batch[0]] = DataTooLarge(f"and from LangSmith: {error}")
            except NotNow as error:
                return found | dict.fromkeys(runs, _without_traceback(error))
            except EngineError as error:
                return found | dict.fromkeys(runs, EngineError(f"and from LangSmith: {error}"))
            except TimeoutError:
                return found | dict.fromkeys(runs, EngineError(f"and LangSmith did not answer within {seconds:g} s"))
            else:
                found |= {id_: _Value(rows.get(id_, {}), read.kept // len(batch), account) for id_ in batch}
        return found

    @asynccontextmanager
    async def _read(self, account: Account, seconds: float) -> AsyncIterator[_Reading]:
        """The context of requests to LangSmith: they take turns, count against an account, and have a time limit."""
        read = _Reading(self._turn, account, asyncio.get_running_loop().time() + seconds)
        try:
            async with asyncio.timeout(seconds + _GRACE):
                with request_limits(read):
                    yield read
        except BaseException:
            account.shrink(read.held)
            raise
        account.shrink(read.held - read.kept)


class _Reading:
    """The limits for requests to LangSmith of one fetch; see ``langsmith.request_limits``."""

    def __init__(
        self, turn: Callable[[str], AbstractAsyncContextManager[None]], account: Account, deadline: float
    ) -> None:
        self._turn, self._account, self._deadline = turn, account, deadline
        #: The bytes that are reserved while the responses are read, and those that the parsed data needs.
        self.held = self.kept = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Admit one request."""
        async with self._turn(READ_FROM):
            try:
                async with asyncio.timeout_at(self._deadline):
                    yield
            except TimeoutError as error:
                raise RequestTooSlow(str(error) or "timed out") from error

    async def grow(self, size: int) -> None:
        """Reserve more bytes."""
        await self._account.grow(size)
        self.held += size

    async def parse(self, size: int) -> None:
        """Reserve bytes for a parsed response."""
        await self.grow(_COPIES * size)
        self.kept += size


def _without_traceback(error: EngineError) -> EngineError:
    """The exception without its traceback, which would keep in memory what was read until then."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _either(why: DataUnavailable, queried: _Answer, need: str) -> _Answer:
    """What LangSmith returned for a run, or why neither it nor object storage has the data."""
    if isinstance(queried, _Value):
        value = queried.value.get(need)
        if value is not None:
            return replace(queried, value=value)
        return EngineError(f"{why}; and LangSmith does not have it any more")
    if isinstance(queried, NotNow):
        return queried
    return type(queried)(f"{why}; {queried}")


def _missing(event: Event, wanted: Collection[str], indexes: Iterable[int], have: Fetched) -> dict[_Key, _Wanted]:
    """What has to be fetched."""
    missing: dict[_Key, _Wanted] = {}
    got = {"inputs": have.inputs, "outputs": have.outputs}
    for index in indexes:
        for key, run in runs_at(event, index):
            for part in STORED_PARTS:
                done = key in got[part] or (part, key) in have.too_large
                if part in wanted and not done and presigned_url(run, part) is not None:
                    missing[event.id, part, key] = _Wanted(part, key, run)
    for _key, run in runs_at(event, -1) if "feedback" in wanted else ():
        id_ = run_id(run)
        if id_ is not None and id_ not in (have.feedback or {}) and ("feedback", id_) not in have.too_large:
            missing[event.id, "feedback", id_] = _Wanted("feedback", id_, run)
    return missing


def _collect(answers: Mapping[_Key, _Answer]) -> Fetched:
    got: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}, "feedback": {}}
    reasons: dict[str, list[str]] = {}
    too_large: dict[tuple[str, str], str] = {}
    later: dict[str, NotNow] = {}
    for (_, need, key), answer in answers.items():
        if isinstance(answer, _Value):
            got[need][key] = answer.value
            continue
        reasons.setdefault(need, []).append(str(answer))
        if isinstance(answer, DataTooLarge):
            too_large[need, key] = str(answer)
        elif isinstance(answer, NotNow):
            later[need] = answer
    errors = {need: _summary(texts) for need, texts in reasons.items()}
    return Fetched(got["inputs"], got["outputs"], got["feedback"] or None, errors, too_large, later)


def _summary(reasons: Sequence[str]) -> str:
    """The first reason, and how many others there are."""
    others = len(set(reasons)) - 1
    return reasons[0] if not others else f"{reasons[0]} (and {others} more like it)"


def _earliest(runs: Iterable[Mapping[str, Any]]) -> datetime | None:
    starts = [time_of(run.get("start_time")) for run in runs]
    known = [start for start in starts if start is not None]
    return min(known) - _SLACK if len(known) == len(starts) else None
