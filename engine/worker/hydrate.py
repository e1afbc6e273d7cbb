"""Hydration: what LangSmith did not send along, fetched when a filter or an action reads it."""

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
from engine.clients.object_storage import CONCURRENCY, OBJECT_LIMIT, DataUnavailable, ObjectStorage
from engine.clients.origin import Origin, origin_of
from engine.core.document import STORED_PARTS, Fetched, presigned_url, run_id, runs_at
from engine.core.errors import DataTooLarge, EngineError, NotNow
from engine.core.event import Event
from engine.core.json_text import MAX_VALUES
from engine.core.memory_budget import Account, Memory
from engine.core.times import time_of

#: How long a fetch may take in all, in seconds.
TIMEOUT = 30.0
#: What of that its objects may take; the rest is for LangSmith to make up for those that did not come.
_OBJECTS_SHARE = 0.5
#: How much earlier than its runs start a runs query looks, for clocks and rounding.
_SLACK = timedelta(minutes=1)
#: The destination that requests to LangSmith count for, as its actions name it.
READ_FROM = "langsmith"
#: How many times what an answer of LangSmith parses to the SDK holds of it: as JSON, as objects, as JSON again.
_COPIES = 3
#: How long a request to LangSmith that waits for its turn is waited for beyond its time, in seconds.
_GRACE = 0.5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One piece of data to fetch: a part of a run, or its feedback. ``key`` is the run's in ``Fetched``."""

    need: str
    key: str
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Had:
    """A value, how many bytes it takes, and the account that has them."""

    value: Any
    size: int
    account: Account


#: What is fetched: an event's id, a need, a run's key.
_Key = tuple[str, str, str]
#: A value, or why it could not be had.
_Answer = _Had | EngineError
#: Futures of answers never fail, so nobody need look at every one.
_Pending = asyncio.Future[_Answer]


class Hydrator:
    """Fetches for all events of one event loop; fetches of the same data at the same time are made once.

    Objects are read from the presigned URLs that came with a run. Where that fails (they
    expire), one batched runs query asks LangSmith for all of them; feedback is one batched
    call for all runs of an event. Nothing is tried twice here: retrying is up to whoever wants the data.
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
        """Both clients are asked for at every fetch, so that a reload's new settings count at once.

        Args:
            langsmith: the door to LangSmith under the settings of now.
            http: the session that reads objects.
            turn: lets a request to a destination pass when it is its turn; see ``Gateway.turn``.
            object_limit: the largest object, decompressed, in bytes.
            max_values: how many JSON values an object may have.
            concurrency: how many objects are read at once from one host.
            timeout: how many seconds a fetch may take in all, waiting for its turn included.
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
        self._under_way: dict[_Key, _Pending] = {}
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
        """``have`` and what of ``wanted`` was not in it, for the runs at some places (None or -1: for all).

        ``refresh`` asks for feedback anew, though some is there: more may have come meanwhile. ``account`` is what the
        data counts against; without one, nothing limits it.

        Feedback is fetched for all runs of the event, whichever is asked for: it is one call
        either way, and its siblings need none. Returns ``have`` itself when there is nothing to
        fetch. What could not be had in time stands in ``errors``; nothing is raised but
        cancellation, which leaves the fetch to others who wait for it.
        """
        known = replace(have, feedback=None) if refresh else have
        lacking = _lacking(event, wanted, [-1] if indexes is None else indexes, known)
        if not lacking:
            return have
        account = account or Memory().account()
        pending = self._ask(event, lacking, account)
        await asyncio.wait(set(pending.values()))
        answers = {item: answer.result() for item, answer in pending.items()}
        _take_over(answers.values(), account)
        return have.merge(_collect(answers))

    async def close(self) -> None:
        """Give up what is under way; whoever waits for it is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(
        self, event: Event, lacking: Mapping[tuple[str, str], _Wanted], account: Account
    ) -> dict[tuple[str, str], _Pending]:
        """Per piece the answer that somebody waits for already, else a new one, and a task for all the new ones."""
        loop = asyncio.get_running_loop()
        answers: dict[tuple[str, str], _Pending] = {}
        new: dict[_Key, _Wanted] = {}
        for item, wanted in lacking.items():
            key = (event.id, *item)
            if key not in self._under_way:
                self._under_way[key] = loop.create_future()
                new[key] = wanted
            answers[item] = self._under_way[key]
        for group in _by_kind(new):
            task = loop.create_task(self._load(group, account))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answers

    async def _load(self, group: Mapping[_Key, _Wanted], account: Account) -> None:
        """Answer a group of pieces, whatever happens."""
        answers: Mapping[_Key, _Answer] = {}
        failure = EngineError("it was given up")
        try:
            if next(iter(group.values())).need == "feedback":
                answers = await self._load_feedback(group, account)
            else:
                answers = await self._load_parts(group, account)
        except EngineError as error:
            failure = _bare(error)
        except TimeoutError:
            failure = EngineError(f"LangSmith did not answer within {self._timeout:g} s")
        except Exception as error:
            _logger.exception("hydration failed")
            failure = EngineError(f"an unexpected {type(error).__name__}; see the log")
        finally:
            for key in group:
                self._under_way.pop(key).set_result(answers.get(key, failure))

    async def _load_feedback(self, group: Mapping[_Key, _Wanted], account: Account) -> dict[_Key, _Answer]:
        async with self._read(account, self._timeout) as read:
            rows = await self._langsmith().list_feedback([wanted.key for wanted in group.values()])
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_run.setdefault(str(row.get("run_id")), []).append(row)
        size = read.kept // len(group)
        return {key: _Had(by_run.get(wanted.key, []), size, account) for key, wanted in group.items()}

    async def _load_parts(self, group: Mapping[_Key, _Wanted], account: Account) -> dict[_Key, _Answer]:
        """From object storage, then for all that failed there from LangSmith itself."""
        read = await asyncio.gather(*(self._read_object(wanted, account) for wanted in group.values()))
        answers: dict[_Key, _Answer] = dict(zip(group, read, strict=True))
        for key, answer in answers.items():
            # Read at once they may have been in each other's way: whether it fits is seen when it is read alone.
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
            return _Had(*await self._objects.read(presigned_url(wanted.run, wanted.need) or "", account), account)
        except (DataUnavailable, DataTooLarge, NotNow) as error:
            return _bare(error)

    def _trusted(self) -> Origin | None:
        """LangSmith's own origin: it may hand objects out itself, and it is the author's.

        Its host's other ports are not: a run says where its data lies, and behind them may be anything. A store there
        stands under `network: {allow}`.
        """
        endpoint = urlsplit(self._langsmith().settings.endpoint)
        return origin_of(endpoint.scheme, endpoint.hostname or "", str(endpoint.port or ""))

    async def _query(self, lacking: Sequence[_Wanted], account: Account) -> Mapping[str, _Answer]:
        """What LangSmith has of the runs, by their keys: one batched query, or several where one is too large."""
        runs = {id_: wanted.run for wanted in lacking if (id_ := run_id(wanted.run)) is not None}
        found: dict[str, _Answer] = {wanted.key: EngineError(_NO_ID) for wanted in lacking}
        needs = {wanted.need for wanted in lacking}
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
                return found | dict.fromkeys(runs, _bare(error))
            except EngineError as error:
                return found | dict.fromkeys(runs, EngineError(f"and from LangSmith: {error}"))
            except TimeoutError:
                return found | dict.fromkeys(runs, EngineError(f"and LangSmith did not answer within {seconds:g} s"))
            else:
                found |= {id_: _Had(rows.get(id_, {}), read.kept // len(batch), account) for id_ in batch}
        return found

    @asynccontextmanager
    async def _read(self, account: Account, seconds: float) -> AsyncIterator[_Reading]:
        """Requests to LangSmith made inside take turns, and count against an account; in so many seconds altogether."""
        read = _Reading(self._turn, account, asyncio.get_running_loop().time() + seconds)
        try:
            async with asyncio.timeout(seconds + _GRACE):
                with request_limits(read):
                    yield read
        except BaseException:
            account.shrink(read.held)
            raise
        account.shrink(read.held - read.kept)


#: Why LangSmith is not asked for a run.
_NO_ID = "without an id, LangSmith can't be asked for it"


class _Reading:
    """What requests to LangSmith for one fetch respect; see ``langsmith.request_limits``."""

    def __init__(
        self, turn: Callable[[str], AbstractAsyncContextManager[None]], account: Account, deadline: float
    ) -> None:
        self._turn, self._account, self._deadline = turn, account, deadline
        #: How many bytes are held while the answers are read, and how many of them what they parse to takes.
        self.held = self.kept = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One request."""
        async with self._turn(READ_FROM):
            try:
                async with asyncio.timeout_at(self._deadline):
                    yield
            except TimeoutError as error:
                raise RequestTooSlow(str(error) or "timed out") from error

    async def grow(self, size: int) -> None:
        """Hold so many bytes more."""
        await self._account.grow(size)
        self.held += size

    async def parse(self, size: int) -> None:
        """Hold what an answer parses to."""
        await self.grow(_COPIES * size)
        self.kept += size


def _bare(error: EngineError) -> EngineError:
    """An exception that is kept as an answer: its traceback would keep all that was read until then in memory."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _either(why: DataUnavailable, queried: _Answer, need: str) -> _Answer:
    """What LangSmith has of a run, or why neither it nor object storage has it."""
    if isinstance(queried, _Had):
        value = queried.value.get(need)
        if value is not None:
            return replace(queried, value=value)
        return EngineError(f"{why}; and LangSmith does not have it any more")
    if isinstance(queried, NotNow):
        return queried
    return type(queried)(f"{why}; {queried}")


def _take_over(answers: Iterable[_Answer], account: Account) -> None:
    """Count what was fetched for another account of the same event, which may be gone."""
    for answer in answers:
        if isinstance(answer, _Had) and answer.account is not account:
            account.add(answer.size)


def _lacking(
    event: Event, wanted: Collection[str], indexes: Iterable[int], have: Fetched
) -> dict[tuple[str, str], _Wanted]:
    """What is to be fetched, by need and run. Feedback is for all runs at once: it is one call either way."""
    lacking: dict[tuple[str, str], _Wanted] = {}
    got = {"inputs": have.inputs, "outputs": have.outputs}
    for index in indexes:
        for key, run in runs_at(event, index):
            for part in STORED_PARTS:
                done = key in got[part] or (part, key) in have.too_large
                if part in wanted and not done and presigned_url(run, part) is not None:
                    lacking[part, key] = _Wanted(part, key, run)
    if "feedback" in wanted:
        known = have.feedback or {}
        for _key, run in runs_at(event, -1):
            if (id_ := run_id(run)) is not None and id_ not in known and ("feedback", id_) not in have.too_large:
                lacking["feedback", id_] = _Wanted("feedback", id_, run)
    return lacking


def _by_kind(new: Mapping[_Key, _Wanted]) -> list[dict[_Key, _Wanted]]:
    feedback = {key: wanted for key, wanted in new.items() if wanted.need == "feedback"}
    parts = {key: wanted for key, wanted in new.items() if wanted.need != "feedback"}
    return [group for group in (feedback, parts) if group]


def _collect(answers: Mapping[tuple[str, str], _Answer]) -> Fetched:
    got: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}, "feedback": {}}
    reasons: dict[str, list[str]] = {}
    lost: dict[tuple[str, str], str] = {}
    later: dict[str, NotNow] = {}
    for (need, key), answer in answers.items():
        if isinstance(answer, _Had):
            got[need][key] = answer.value
            continue
        reasons.setdefault(need, []).append(str(answer))
        if isinstance(answer, DataTooLarge):
            lost[need, key] = str(answer)
        elif isinstance(answer, NotNow):
            later[need] = answer
    errors = {need: _summary(texts) for need, texts in reasons.items()}
    return Fetched(got["inputs"], got["outputs"], got["feedback"] or None, errors, lost, later)


def _summary(reasons: Sequence[str]) -> str:
    """The first reason, and how many runs had another."""
    others = len(set(reasons)) - 1
    return reasons[0] if not others else f"{reasons[0]} (and {others} more like it)"


def _earliest(runs: Iterable[Mapping[str, Any]]) -> datetime | None:
    starts = [time_of(run.get("start_time")) for run in runs]
    known = [start for start in starts if start is not None]
    return min(known) - _SLACK if len(known) == len(starts) else None
