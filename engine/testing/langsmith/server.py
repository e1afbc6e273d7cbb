"""A stand-in for LangSmith: every endpoint that its SDK calls on the engine's behalf."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.testing.langsmith.datasets import Datasets
from engine.testing.langsmith.endpoints import Call, Endpoint, Table
from engine.testing.langsmith.feedback import Feedback
from engine.testing.langsmith.queues import Queues
from engine.testing.langsmith.rows import Row, dataset_row, feedback_row, queue_row, rule_row, run_row
from engine.testing.langsmith.runs import Runs
from engine.testing.langsmith.state import State
from engine.testing.rate_limits import RateLimit, RateLimiter
from engine.testing.server import Answer, Recorded, Refused, StandIn

#: The version of the simulated backend: the first with queue items is 0.16.14.
VERSION = "0.16.20"
_PREFIX = re.compile(r"^(?:/api)?(?:/v1)?(?=/)")


class LangSmithStandIn(StandIn):
    """LangSmith on loopback, in all its path styles: ``/x``, ``/api/v1/x``, ``/v1/platform/x``, ``/api/v2/x``.

    With ``api_key`` every other key is a 401; with ``org_scoped`` a call needs ``X-Tenant-Id``
    as well. ``flags`` are the instance flags of ``/info``. ``rate_limits`` is none, or
    ``LANGSMITH_LIMITS``. What is not documented can be chosen: ``feedback_conflict``,
    ``queue_conflict``, ``unknown_runs`` and ``creates_missing`` (see ``State``).
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        api_key: str | None = None,
        org_scoped: bool = False,
        flags: Mapping[str, Any] | None = None,
        rate_limits: Sequence[RateLimit] = (),
        feedback_conflict: bool = False,
        queue_conflict: bool = False,
        unknown_runs: bool = True,
        creates_missing: bool = False,
        on_request: Callable[[Recorded], None] | None = None,
    ) -> None:
        super().__init__(host=host, port=port, on_request=on_request)
        self.api_key = api_key
        self.org_scoped = org_scoped
        self.limiter = RateLimiter(rate_limits)
        self.state = State(
            feedback_conflict, queue_conflict, unknown_runs, creates_missing, _DEFAULT_FLAGS | dict(flags or {})
        )
        self._table = Table(self._endpoints())

    @property
    def datasets(self) -> dict[str, Row]:
        """Datasets by id."""
        return self.state.datasets

    @property
    def examples(self) -> dict[str, Row]:
        """Examples by id."""
        return self.state.examples

    @property
    def feedback(self) -> dict[str, Row]:
        """Feedback by id."""
        return self.state.feedback

    @property
    def queues(self) -> dict[str, Row]:
        """Annotation queues by id."""
        return self.state.queues

    @property
    def queue_items(self) -> list[Row]:
        """The items of the queues, oldest first."""
        return list(self.state.queue_items.values())

    @property
    def runs(self) -> dict[str, Row]:
        """Runs by id."""
        return self.state.runs

    def add_dataset(self, name: str, *, dataset_id: str | None = None) -> str:
        """Create a dataset. Returns its id."""
        row = dataset_row(name, row_id=dataset_id)
        self.state.datasets[row["id"]] = row
        return str(row["id"])

    def add_queue(self, name: str, *, queue_id: str | None = None) -> str:
        """Create an annotation queue. Returns its id."""
        row = queue_row(name, row_id=queue_id)
        self.state.queues[row["id"]] = row
        return str(row["id"])

    def add_feedback(self, run_id: str, *, key: str, **fields: Any) -> str:
        """Add feedback (``score``, ``value``, ``comment``, ``correction``, ``modified_at``, …). Returns its id."""
        row = feedback_row({"run_id": run_id, "key": key, "feedback_source": {"type": "app"}, **fields})
        self.state.feedback[row["id"]] = row
        return str(row["id"])

    def configure_feedback(self, key: str, **config: Any) -> None:
        """Configure a feedback key: ``type`` continuous (``min max``) or categorical (``categories``)."""
        self.state.feedback_configs[key] = config

    def add_run(self, run: Mapping[str, Any]) -> str:
        """Add a run; missing columns are filled in. Returns its id."""
        row = run_row(run)
        self.state.runs[row["id"]] = row
        return str(row["id"])

    def add_rule(self, name: str, *, rule_id: str | None = None, **fields: Any) -> str:
        """Add an automation rule. Returns its id."""
        row = rule_row(name, row_id=rule_id, **fields)
        self.state.rules[row["id"]] = row
        return str(row["id"])

    def route_of(self, path: str) -> str:
        """The path without ``/api`` and ``/v1``."""
        return _PREFIX.sub("", path).rstrip("/") or "/"

    def fault_body(self, recorded: Recorded, status: int) -> Any:
        """LangSmith's message for a status, if it is known."""
        return {"detail": "Rate limit exceeded"} if status == 429 else super().fault_body(recorded, status)

    async def answer(self, recorded: Recorded) -> Answer:
        """Check the key and its limits, then respond like LangSmith."""
        key = recorded.headers.get("X-API-Key", "")
        if recorded.route not in ("/info", "/ok"):
            self._authenticate(key, recorded)
        wait = self.limiter.refuse(f"{recorded.method} {recorded.route}", key)
        if wait is not None:
            raise Refused(429, {"detail": "Rate limit exceeded"}, {"Retry-After": str(wait)})
        answer = self._table.answer(recorded)
        goes = _SUNSET.get(f"{recorded.method} {_ID.sub('{id}', recorded.route)}")
        return answer if goes is None else replace(answer, headers={**answer.headers, **_sunset(*goes)})

    def _authenticate(self, key: str, recorded: Recorded) -> None:
        if self.api_key is not None and key != self.api_key:
            raise Refused(401, {"detail": "Invalid token"})
        if self.org_scoped and not recorded.headers.get("X-Tenant-Id"):
            raise Refused(403, {"error": "org_scoped_key_requires_workspace"})

    def _endpoints(self) -> list[Endpoint]:
        desks = (Datasets(self.state), Feedback(self.state), Queues(self.state), Runs(self.state))
        info: list[Endpoint] = [("GET", "/info", self._info), ("GET", "/ok", lambda _: Answer({"ok": True}))]
        return [*info, *(endpoint for desk in desks for endpoint in desk.endpoints())]

    def _info(self, _call: Call) -> Answer:
        return Answer(
            {
                "version": VERSION,
                "license_expiration_time": None,
                "batch_ingest_config": _BATCH_INGEST,
                "instance_flags": self.state.flags,
            }
        )


#: Endpoints that LangSmith will remove: when, and what replaces them.
_SUNSET = {
    "POST /runs/query": ("Sun, 31 Jan 2027 00:00:00 GMT", "/api/v2/runs/query"),
    "GET /runs/{id}": ("Sun, 31 Jan 2027 00:00:00 GMT", "/api/v2/runs/{id}"),
    "POST /annotation-queues/{id}/runs": (
        "Sun, 31 Jan 2027 00:00:00 GMT",
        "/api/v1/platform/annotation-queues/{id}/items",
    ),
    "POST /annotation-queues/{id}/runs/by-key": (
        "Sun, 31 Jan 2027 00:00:00 GMT",
        "/api/v1/platform/annotation-queues/{id}/items",
    ),
    "GET /runs/rules": ("Thu, 01 Apr 2027 00:00:00 GMT", "/api/v2/runs/rules"),
}
_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def _sunset(at: str, successor: str) -> dict[str, str]:
    return {"Deprecation": "true", "Sunset": at, "Link": f'<{successor}>; rel="successor-version"'}


_DEFAULT_FLAGS: dict[str, Any] = {
    "dataset_examples_multipart_enabled": True,
    "examples_multipart_enabled": True,
    "ch_query_enabled": True,
    "sdb_query_enabled": True,
}
_BATCH_INGEST = {
    "use_multipart_endpoint": True,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 16,
    "scale_down_nempty_trigger": 4,
    "size_limit": 100,
    "size_limit_bytes": 20971520,
}
