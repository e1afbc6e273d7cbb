"""The LangSmith client: the SDK without its own retries, without settings from the environment, and with a cache."""

from __future__ import annotations

import asyncio
import time
import weakref
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from engine.clients.langsmith.failure import LangSmithFailure, failure_of, own_error
from engine.clients.langsmith.name_cache import NameCache
from engine.clients.langsmith.rows import BATCH, check_run_id, is_uuid, queue_item, refuse_error, selected, uuid_of
from engine.clients.langsmith.settings import LangSmithSettings
from engine.clients.langsmith.sunset import Sunsets
from engine.core.batches import batches
from engine.core.errors import Discard, Retry
from engine.core.feedback import feedback_error
from engine.core.times import time_of

if TYPE_CHECKING:
    from engine.clients.langsmith.sdk import Sdk

#: For how many seconds a backend without queue items is not asked for them again.
_OLD_BACKEND_TTL = 300.0
#: Status codes of a backend that does not have an endpoint yet, and of one that no longer has it.
_NOT_FOUND, _NOT_FOUND_OR_GONE = frozenset({404, 405}), frozenset({404, 405, 410})

T = TypeVar("T")


class LangSmith:
    """The engine's requests to LangSmith. One instance per event loop; the SDK is imported at first use.

    Its connections are closed by ``aclose``, or when the instance is garbage-collected.

    No method repeats a request. In addition to the exceptions it documents, each method raises:

        LangSmithFailure: LangSmith did not respond with 2xx, or not at all.
        Retry: no API key is configured; waiting work continues when one is.
        Discard: a run's id is not a UUID.
    """

    def __init__(
        self,
        settings: LangSmithSettings,
        *,
        sunsets: Sunsets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._sunsets = sunsets or Sunsets()
        self._sdk: Sdk | None = None
        self._closes: weakref.finalize[[AbstractEventLoop, Sdk], LangSmith] | None = None
        self._opening = asyncio.Lock()
        self._datasets = NameCache(clock)
        self._queues = NameCache(clock)
        self._items_missing_until = 0.0
        self._clock = clock

    async def warm_up(self) -> None:
        """Import the SDK now, which takes a second or more, instead of during the first event that needs it."""
        if (self.settings.api_key or "").strip():
            await self._ready()

    async def aclose(self) -> None:
        """Close the connections. Running look-ups are cancelled."""
        self._datasets.close()
        self._queues.close()
        sdk, self._sdk = self._sdk, None
        if sdk is not None and self._closes is not None:
            self._closes.detach()
            await sdk.aclose()

    async def dataset_id(self, name: str) -> str | None:
        """The id of a dataset by its name, or None. A name that is an id is returned unchanged."""
        return name if is_uuid(name) else await self._datasets.get(name, self._find_dataset)

    def forget_dataset(self, name: str) -> None:
        """Forget the cached id of a dataset, because it is stale."""
        self._datasets.forget(name)

    async def create_dataset(self, name: str, *, description: str | None = None) -> str:
        """Create a key-value dataset and return its id. Status 409: a dataset with this name exists."""
        given = _given(description=description or None)
        async with self._request(f"create the dataset {name!r}") as sdk:
            dataset = await sdk.client.create_dataset(name, data_type="kv", **given)
        self._datasets.keep(name, str(dataset.id))
        return str(dataset.id)

    async def add_example(
        self,
        *,
        example_id: str,
        dataset_id: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        split: str | Sequence[str] | None = None,
        source_run_id: str | None = None,
    ) -> None:
        """Add an example with an id chosen by the engine. Status 409: the id exists; 404: no such dataset."""
        # The SDK calls the id `id`. It ignores an unknown field such as `example_id` and makes a random id.
        source = source_run_id if is_uuid(source_run_id) else None
        given = _given(id=example_id, metadata=metadata, split=split, source_run_id=source)
        reference = None if outputs is None else dict(outputs)
        async with self._request("add the example") as sdk:
            await sdk.client.create_example(dict(inputs), reference, dataset_id=dataset_id, **given)

    async def read_example(self, example_id: str) -> Mapping[str, Any]:
        """An example as JSON: ``dataset_id inputs outputs metadata source_run_id …``. Status 404: no such example."""
        async with self._request("read the example") as sdk:
            example = await sdk.client.read_example(example_id)
        row: Mapping[str, Any] = example.model_dump(mode="json")
        return row

    async def update_example(
        self,
        example_id: str,
        *,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        split: str | Sequence[str] | None = None,
    ) -> None:
        """Change an example. Arguments that are None leave their field unchanged (API: PATCH ``/examples/{id}``)."""
        given = _given(inputs=inputs, outputs=outputs, metadata=metadata, split=split)
        async with self._request("update the example") as sdk:
            # AsyncClient has no update_example, so the generated client's generic verb does it.
            await sdk.generated.patch(f"/api/v1/examples/{UUID(example_id)}", cast_to=object, body=given)

    async def create_feedback(
        self,
        run: Mapping[str, Any],
        *,
        feedback_id: str,
        key: str,
        score: float | bool | None = None,
        value: Any = None,
        comment: str | None = None,
        correction: Mapping[str, Any] | str | None = None,
        extend_trace_retention: bool = False,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        """Create feedback for a run with an id chosen by the engine. Status 404: LangSmith does not have the run (yet).

        ``run`` is a run of a webhook: its ``id session_id trace_id start_time`` locate it. Scores are rounded to 4
        decimals, as LangSmith requires.

        Raises ``Discard`` if LangSmith recorded the feedback as an error, because it violates its key's configuration.
        """
        check_run_id(run)
        async with self._request(f"give feedback {key!r}") as sdk:
            row = await sdk.create_feedback(
                run["id"],
                key,
                score=score,
                value=value,
                comment=comment,
                correction=correction,
                feedback_id=feedback_id,
                session_id=uuid_of(run, "session_id"),
                trace_id=uuid_of(run, "trace_id"),
                start_time=time_of(run.get("start_time")),
                source_info=dict(source) if source else None,
                extend_trace_retention=extend_trace_retention,
            )
        refuse_error(row, key)

    async def check_feedback(self, feedback_id: str) -> None:
        """Check the stored feedback with this id. Deleted feedback is not an error.

        Raises ``Discard`` if LangSmith recorded it as an error.
        """
        try:
            async with self._request("read the feedback") as sdk:
                row = await sdk.read_feedback(feedback_id)
        except LangSmithFailure as failure:
            if failure.status == 404:
                return
            raise
        refuse_error(row, str(row.get("key")))

    async def read_feedback(self, feedback_id: str) -> Mapping[str, Any]:
        """Feedback as JSON: ``key score value comment correction …``. Status 404: no such feedback.

        ``error`` says why LangSmith recorded it as an error; None if it did not.
        """
        async with self._request("read the feedback") as sdk:
            row: object = await sdk.generated.get(f"/api/v1/feedback/{UUID(feedback_id)}", cast_to=object)
        found = row if isinstance(row, Mapping) else {}
        return {**found, "error": feedback_error(found)}

    async def update_feedback(self, feedback_id: str, changes: Mapping[str, Any]) -> None:
        """Change ``score value comment correction`` of feedback. Missing fields are unchanged; None clears a field.

        Raises ``Discard`` if LangSmith recorded the result as an error.
        """
        async with self._request("update the feedback") as sdk:
            # AsyncClient has no update_feedback, so the generated client's generic verb does it.
            await sdk.generated.patch(f"/api/v1/feedback/{UUID(feedback_id)}", cast_to=object, body=dict(changes))
        await self.check_feedback(feedback_id)

    async def queue_id(self, name: str) -> str | None:
        """The id of an annotation queue by its name, or None. A name that is an id is returned unchanged."""
        return name if is_uuid(name) else await self._queues.get(name, self._find_queue)

    def forget_queue(self, name: str) -> None:
        """Forget the cached id of a queue, because it is stale."""
        self._queues.forget(name)

    async def add_to_queue(self, queue_id: str, *runs: Mapping[str, Any], extend_trace_retention: bool = False) -> None:
        """Add runs to an annotation queue, 100 per request. Status 404: no such queue, or a run does not exist (yet).

        If LangSmith rejects a request because of one run, the other runs are still added. Among several runs, one that
        is in the queue already (409) is not a failure. Self-hosted backends before 0.16.14 have no queue items; the
        older endpoint is used for them.
        """
        for run in runs:
            check_run_id(run)
        if len(runs) == 1:
            return await self._add_runs(queue_id, runs, extend=extend_trace_retention)
        missing: LangSmithFailure | None = None
        for batch in batches(runs, BATCH):
            missing = await self._add_batch(queue_id, batch, extend=extend_trace_retention) or missing
        if missing is not None:
            raise missing
        return None

    async def _add_batch(
        self, queue_id: str, runs: Sequence[Mapping[str, Any]], *, extend: bool
    ) -> LangSmithFailure | None:
        """Add runs together, or else one by one. Returns the failure of a run that LangSmith does not have, if any."""
        try:
            await self._add_runs(queue_id, runs, extend=extend)
        except LangSmithFailure as failure:
            if failure.status not in (404, 409):
                raise
        else:
            return None
        async with self._request("read the queue") as sdk:  # a 404 may be about the queue itself
            await sdk.client.read_annotation_queue(queue_id)
        missing: LangSmithFailure | None = None
        for run in runs:
            try:
                await self._add_runs(queue_id, [run], extend=extend)
            except LangSmithFailure as failure:
                if failure.status not in (404, 409):
                    raise
                missing = failure if failure.status == 404 else missing
        return missing

    async def _add_runs(self, queue_id: str, runs: Sequence[Mapping[str, Any]], *, extend: bool) -> None:
        async def older() -> None:
            await self._add_ids(queue_id, runs, extend=extend)
            self._items_missing_until = self._clock() + _OLD_BACKEND_TTL

        if self._clock() < self._items_missing_until:
            await older()
        else:
            await self._with_fallback(lambda: self._add_items(queue_id, runs, extend=extend), older)

    async def _add_items(self, queue_id: str, runs: Sequence[Mapping[str, Any]], *, extend: bool) -> None:
        items: Any = [queue_item(run) for run in runs]
        async with self._request("add to the queue") as sdk:
            await sdk.generated.annotation_queues.items.create(queue_id, items=items, extend_trace_retention=extend)

    async def _add_ids(self, queue_id: str, runs: Sequence[Mapping[str, Any]], *, extend: bool) -> None:
        ids: Any = [run["id"] for run in runs]
        async with self._request("add to the queue") as sdk:
            await sdk.generated.annotation_queues.runs.create(queue_id, body=ids, extend_trace_retention=extend)

    async def list_feedback(self, run_ids: Iterable[str]) -> list[dict[str, Any]]:
        """All feedback of some runs, as JSON rows in no particular order.

        Each row has its ``run_id``, and under ``error`` why it is an error, else None.
        """
        ids = [run_id for run_id in dict.fromkeys(run_ids) if is_uuid(run_id)]
        rows: list[dict[str, Any]] = []
        for batch in batches(ids, BATCH):
            async with self._request("list feedback") as sdk:
                rows += await sdk.list_feedback(batch)
        return rows

    async def query_runs(
        self,
        ids: Iterable[str],
        project_ids: Iterable[str] = (),
        selects: Sequence[str] = ("inputs", "outputs"),
        *,
        since: datetime | str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Query runs by id. Returns for each id the ``id`` and the selected columns (lower-case names).

        ``since`` is the earliest start time to search; by default LangSmith's whole retention. Runs that LangSmith does
        not have are left out. Version 1 of the query is used for self-hosted backends without version 2, and if no
        project id is given.

        Raises ``Discard`` for runs without a project id on LangSmith's cloud, which has version 2 only.
        """
        wanted = [run_id for run_id in dict.fromkeys(ids) if is_uuid(run_id)]
        projects = [project for project in dict.fromkeys(project_ids) if is_uuid(project)]
        runs: dict[str, dict[str, Any]] = {}
        for batch in batches(wanted, BATCH):
            runs |= await self._query_batch(batch, projects, selects, since)
        return runs

    async def _query_batch(
        self, ids: Sequence[str], projects: Sequence[str], selects: Sequence[str], since: datetime | str | None
    ) -> dict[str, dict[str, Any]]:
        if self.settings.on_cloud and not projects:
            raise Discard("a run without a session_id can't be queried: LangSmith requires its project")
        if not projects:
            return await self._query_v1(ids, selects)
        return await self._with_fallback(
            lambda: self._query_v2(ids, projects, selects, since), lambda: self._query_v1(ids, selects)
        )

    async def _with_fallback(self, call: Callable[[], Awaitable[T]], older: Callable[[], Awaitable[T]]) -> T:
        """The result of a call, or of an older call if a self-hosted backend does not have the newer one."""
        try:
            return await call()
        except LangSmithFailure as failure:
            if self.settings.on_cloud or failure.status not in _NOT_FOUND:
                raise
            try:
                return await older()
            except LangSmithFailure as again:
                # The older endpoint is gone, so the newer one exists, and its 404 was about the requested object.
                raise failure if again.status in _NOT_FOUND_OR_GONE else again from again

    async def _query_v2(
        self, ids: Sequence[str], projects: Sequence[str], selects: Sequence[str], since: datetime | str | None
    ) -> dict[str, dict[str, Any]]:
        columns: Any = ["ID", *(name.upper() for name in selects if name.lower() != "id")]
        earliest = time_of(since) or datetime.now(UTC) - self.settings.trace_retention
        async with self._request("query runs") as sdk:
            pages = sdk.generated.runs.query_v2(
                ids=list(ids), project_ids=list(projects), selects=columns, min_start_time=earliest.isoformat()
            )
            return await selected(pages, selects)

    async def _query_v1(self, ids: Sequence[str], selects: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = list(dict.fromkeys(["id", "name", "run_type", "start_time", "trace_id", *selects]))
        async with self._request("query runs") as sdk:
            listed = sdk.client.list_runs(run_ids=ids, select=columns, limit=len(ids))
            return await selected(listed, selects)

    async def _find_dataset(self, name: str) -> str | None:
        async with self._request(f"look up the dataset {name!r}") as sdk:
            return await sdk.find_dataset(name)

    async def _find_queue(self, name: str) -> str | None:
        async with self._request(f"look up the annotation queue {name!r}") as sdk:
            return await sdk.find_queue(name)

    @asynccontextmanager
    async def _request(self, task: str) -> AsyncIterator[Sdk]:
        """The SDK, in a context that converts its two families of exceptions into ``LangSmithFailure``."""
        sdk = await self._ready()
        try:
            yield sdk
        except sdk.faults as error:
            raise own_error(error) or failure_of(error, task) from error
        except RecursionError:
            raise Discard(f"the data is nested too deeply to {task}") from None

    async def _ready(self) -> Sdk:
        if self._sdk is not None:
            return self._sdk
        if not (self.settings.api_key or "").strip():
            raise Retry("there is no LangSmith API key: set langsmith.api_key in the configuration")
        async with self._opening:
            if self._sdk is None:
                # The import takes most of a second, so it must not block the loop.
                self._sdk = await asyncio.to_thread(self._load)
                self._closes = weakref.finalize(self, _close_soon, asyncio.get_running_loop(), self._sdk)
                self._closes.atexit = False
            return self._sdk

    def _load(self) -> Sdk:
        from engine.clients.langsmith.sdk import Sdk

        return Sdk(self.settings, self._sunsets)


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _close_soon(loop: AbstractEventLoop, sdk: Sdk) -> None:
    """Close the connections of a garbage-collected client, on their loop."""
    with suppress(RuntimeError):  # the loop is closed, and the connections with it
        loop.call_soon_threadsafe(lambda: loop.create_task(sdk.aclose()))
