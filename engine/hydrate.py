"""Hydration: what LangSmith did not send along, fetched when a filter or an action reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from engine import coding
from engine.document import STORED_PARTS, Fetched, presigned_url, run_id, runs_at
from engine.egress import Refused, origin_of, trusting
from engine.errors import BadBody, EngineError
from engine.event import Event, parse_json
from engine.langsmith import LangSmith
from engine.times import time_of

#: The largest object read from a presigned URL, decompressed, in bytes.
OBJECT_LIMIT = 64 * 1024 * 1024
#: Objects read at once by one hydrator, over all events.
CONCURRENCY = 32
#: How long a fetch may take in all, in seconds.
TIMEOUT = 30.0
#: What of that its objects may take; the rest is for LangSmith to make up for those that did not come.
_OBJECTS_SHARE = 0.5
#: Objects up to so many bytes are parsed on the loop; the rest in a thread.
_PARSED_INLINE = 256 * 1024
#: How the first bytes of compressed data look that was stored without saying so.
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
#: How much earlier than its runs start a runs query looks, for clocks and rounding.
_SLACK = timedelta(minutes=1)

_logger = logging.getLogger(__name__)


class _NotHad(EngineError):  # noqa: N818 - what came of it, in words for people
    """Why a piece of data could not be had. Never quotes a presigned URL's query: it is a signature."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One piece of data to fetch: a part of a run, or its feedback. ``key`` is the run's in ``Fetched``."""

    need: str
    key: str
    run: Mapping[str, Any]


#: What is fetched: an event's id, a need, a run's key.
_Key = tuple[str, str, str]
#: A value, or why it could not be had. Futures of these never fail, so nobody need look at every one.
_Answer = asyncio.Future[tuple[bool, Any]]


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
        object_limit: int = OBJECT_LIMIT,
        concurrency: int = CONCURRENCY,
        timeout: float = TIMEOUT,
    ) -> None:
        """Both clients are asked for at every fetch, so that a reload's new settings count at once.

        Args:
            langsmith: the door to LangSmith under the settings of now.
            http: the session that reads objects.
            object_limit: the largest object, decompressed, in bytes.
            concurrency: how many objects are read at once.
            timeout: how many seconds a fetch may take in all, waiting for its turn included.
        """
        self._langsmith = langsmith
        self._http = http
        self._object_limit = object_limit
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._objects_timeout = timeout * _OBJECTS_SHARE
        self._under_way: dict[_Key, _Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fetch(
        self,
        event: Event,
        wanted: Collection[str],
        indexes: Iterable[int] | None,
        have: Fetched,
        *,
        refresh: bool = False,
    ) -> Fetched:
        """``have`` and what of ``wanted`` was not in it, for the runs at some places (None or -1: for all).

        ``refresh`` asks for feedback anew, though some is there: more may have come meanwhile.

        Feedback is fetched for all runs of the event, whichever is asked for: it is one call
        either way, and its siblings need none. Returns ``have`` itself when there is nothing to
        fetch. What could not be had in time stands in ``errors``; nothing is raised but
        cancellation, which leaves the fetch to others who wait for it.
        """
        known = replace(have, feedback=None) if refresh else have
        lacking = _lacking(event, wanted, [-1] if indexes is None else indexes, known)
        if not lacking:
            return have
        answers = self._ask(event, lacking)
        await asyncio.wait(set(answers.values()))
        return have.merge(_collect({item: answer.result() for item, answer in answers.items()}))

    async def close(self) -> None:
        """Give up what is under way; whoever waits for it is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(self, event: Event, lacking: Mapping[tuple[str, str], _Wanted]) -> dict[tuple[str, str], _Answer]:
        """Per piece the answer that somebody waits for already, else a new one, and a task for all the new ones."""
        loop = asyncio.get_running_loop()
        answers: dict[tuple[str, str], _Answer] = {}
        new: dict[_Key, _Wanted] = {}
        for item, wanted in lacking.items():
            key = (event.id, *item)
            if key not in self._under_way:
                self._under_way[key] = loop.create_future()
                new[key] = wanted
            answers[item] = self._under_way[key]
        for group in _by_kind(new):
            task = loop.create_task(self._load(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answers

    async def _load(self, group: Mapping[_Key, _Wanted]) -> None:
        """Answer a group of pieces, whatever happens."""
        answers: Mapping[_Key, tuple[bool, Any]] = {}
        reason = "it was given up"
        try:
            if next(iter(group.values())).need == "feedback":
                answers = await self._load_feedback(group)
            else:
                answers = await self._load_parts(group)
        except EngineError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"LangSmith did not answer within {self._timeout:g} s"
        except Exception as error:
            _logger.exception("hydration failed")
            reason = f"an unexpected {type(error).__name__}; see the log"
        finally:
            for key in group:
                self._under_way.pop(key).set_result(answers.get(key, (False, reason)))

    async def _load_feedback(self, group: Mapping[_Key, _Wanted]) -> dict[_Key, tuple[bool, Any]]:
        async with asyncio.timeout(self._timeout):
            rows = await self._langsmith().list_feedback([wanted.key for wanted in group.values()])
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_run.setdefault(str(row.get("run_id")), []).append(row)
        return {key: (True, by_run.get(wanted.key, [])) for key, wanted in group.items()}

    async def _load_parts(self, group: Mapping[_Key, _Wanted]) -> dict[_Key, tuple[bool, Any]]:
        """From object storage, then for all that failed there from LangSmith itself."""
        read = await asyncio.gather(*(self._read_object(wanted) for wanted in group.values()))
        answers = dict(zip(group, read, strict=True))
        failed = {key: group[key] for key, (had, _) in answers.items() if not had}
        if failed:
            queried = await self._query(list(failed.values()))
            for key, wanted in failed.items():
                had, value = queried(wanted)
                answers[key] = (had, value if had else f"{answers[key][1]}; {value}")
        return answers

    async def _read_object(self, wanted: _Wanted) -> tuple[bool, Any]:
        url = presigned_url(wanted.run, wanted.need) or ""
        try:
            async with asyncio.timeout(self._objects_timeout), self._slots:
                return True, await self._get(url)
        except TimeoutError:
            return False, f"{_masked(url)} did not answer within {self._objects_timeout:g} s"
        except (_NotHad, Refused, coding.TooLarge, coding.BrokenCoding, BadBody) as error:
            return False, f"{_masked(url)}: {error}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # An aiohttp error's own text may quote the whole URL.
            return False, f"{_masked(url)} could not be read ({type(error).__name__})"

    async def _get(self, url: str) -> Any:
        """An object's JSON. The URL goes out as it was signed."""
        http = await self._http()
        # LangSmith may hand objects out itself, and its origin is the author's. Its host's other ports are not: a run
        # says where its data lies, and behind them may be anything. A store there stands under `network: {allow}`.
        endpoint = urlsplit(self._langsmith().settings.endpoint)
        own = origin_of(endpoint.scheme, endpoint.hostname or "", str(endpoint.port or ""))
        with trusting(frozenset({own} if own else ())):
            return await self._read(http.get(URL(url, encoded=True)))

    async def _read(self, asked: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Any:
        async with asked as response:
            if response.status in (400, 401, 403, 404, 410):
                raise _NotHad(f"HTTP {response.status} (the link may have expired)")
            if response.status != 200:
                raise _NotHad(f"HTTP {response.status}")
            body = await self._read_body(response)
        stored_as = next((name for magic, name in _MAGIC if body.startswith(magic)), "")
        if stored_as or len(body) > _PARSED_INLINE:
            return await asyncio.to_thread(self._parse, body, stored_as)
        return self._parse(body, stored_as)

    def _parse(self, body: bytes, stored_as: str) -> Any:
        return parse_json(coding.decode(body, stored_as, self._object_limit))[0]

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self._object_limit:
                raise coding.TooLarge(f"more than {self._object_limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def _query(self, lacking: Sequence[_Wanted]) -> _Lookup:
        """One batched runs query for every run that needs it. LangSmith allows 15 of these in 10 s, so no more."""
        runs = {id_: wanted.run for wanted in lacking if (id_ := run_id(wanted.run)) is not None}
        if not runs:
            return _Lookup({}, "without an id, LangSmith can't be asked for it")
        needs = {wanted.need for wanted in lacking}
        try:
            async with asyncio.timeout(self._timeout - self._objects_timeout):
                found = await self._langsmith().query_runs(
                    list(runs),
                    project_ids=sorted({str(run["session_id"]) for run in runs.values() if run.get("session_id")}),
                    selects=[part for part in STORED_PARTS if part in needs],
                    since=_earliest(runs.values()),
                )
        except EngineError as error:
            return _Lookup({}, f"and from LangSmith: {error}")
        except TimeoutError:
            return _Lookup({}, f"and LangSmith did not answer within {self._timeout - self._objects_timeout:g} s")
        return _Lookup(found, "and LangSmith does not have it any more")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """What a runs query found, and what to say of the rest."""

    found: Mapping[str, Mapping[str, Any]]
    otherwise: str

    def __call__(self, wanted: _Wanted) -> tuple[bool, Any]:
        value = self.found.get(wanted.key, {}).get(wanted.need)
        return (False, self.otherwise) if value is None else (True, value)


def _lacking(
    event: Event, wanted: Collection[str], indexes: Iterable[int], have: Fetched
) -> dict[tuple[str, str], _Wanted]:
    """What is to be fetched, by need and run. Feedback is for all runs at once: it is one call either way."""
    lacking: dict[tuple[str, str], _Wanted] = {}
    got = {"inputs": have.inputs, "outputs": have.outputs}
    for index in indexes:
        for key, run in runs_at(event, index):
            for part in STORED_PARTS:
                if part in wanted and key not in got[part] and presigned_url(run, part) is not None:
                    lacking[part, key] = _Wanted(part, key, run)
    if "feedback" in wanted:
        known = have.feedback or {}
        for _key, run in runs_at(event, -1):
            if (id_ := run_id(run)) is not None and id_ not in known:
                lacking["feedback", id_] = _Wanted("feedback", id_, run)
    return lacking


def _by_kind(new: Mapping[_Key, _Wanted]) -> list[dict[_Key, _Wanted]]:
    feedback = {key: wanted for key, wanted in new.items() if wanted.need == "feedback"}
    parts = {key: wanted for key, wanted in new.items() if wanted.need != "feedback"}
    return [group for group in (feedback, parts) if group]


def _collect(answers: Mapping[tuple[str, str], tuple[bool, Any]]) -> Fetched:
    got: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}, "feedback": {}}
    reasons: dict[str, list[str]] = {}
    for (need, key), (had, value) in answers.items():
        if had:
            got[need][key] = value
        else:
            reasons.setdefault(need, []).append(value)
    errors = {need: _summary(texts) for need, texts in reasons.items()}
    return Fetched(got["inputs"], got["outputs"], got["feedback"] or None, errors)


def _summary(reasons: Sequence[str]) -> str:
    """The first reason, and how many runs had another."""
    others = len(set(reasons)) - 1
    return reasons[0] if not others else f"{reasons[0]} (and {others} more like it)"


def _earliest(runs: Iterable[Mapping[str, Any]]) -> datetime | None:
    starts = [time_of(run.get("start_time")) for run in runs]
    known = [start for start in starts if start is not None]
    return min(known) - _SLACK if len(known) == len(starts) else None


def _masked(url: str) -> str:
    """A presigned URL's host and path; what follows them is a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a link that is no URL"
    return f"{parts.hostname or 'a link without a host'}{parts.path}"
