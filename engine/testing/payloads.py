"""Webhook bodies as LangSmith sends them: its documentation's own, and builders of variations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4, uuid5

from engine.core.times import time_of
from engine.testing.langsmith.rows import PROJECT_ID, TENANT_ID, Row

#: The rule of the documentation's payload.
RULE_ID = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
_NAMESPACE = UUID("6ab80f10-d79c-4fa2-b441-922ed6feb630")
#: The length of a rule's window if the payload does not have it.
_WINDOW = timedelta(minutes=5)
#: Fields with the time of a webhook, by kind. The first that exists is set to now.
_MOMENTS = ("timestamp", "created_at", "triggered_at", "created")


def seed() -> Row:
    """The documentation's full example, unchanged: one run, without inputs or outputs."""
    return _read("seed.json")


def feedback_stats() -> Row:
    """The documentation's example of ``feedback_stats``, unchanged."""
    stats: Row = _read("feedback_stats.json")["feedback_stats"]
    return stats


def complete() -> Row:
    """The same rule's payload with three whole runs: data, metadata, tags, costs, statistics of their own.

    One with a low score, one with a high score, and one that failed, slow and expensive.
    """
    return _read("complete.json")


def run(number: int = 0, **changes: Any) -> Row:
    """The ``number``-th run of a series of complete, successful runs, with columns changed.

    The same number is always the same run: its id is derived from it.
    """
    run_id = str(uuid5(_NAMESPACE, str(number)))
    first: Row = complete()["runs"][0]
    own = {
        "id": run_id,
        "trace_id": run_id,
        "dotted_order": f"20240405T012840085646Z{run_id}",
        "app_path": f"/o/{TENANT_ID}/projects/p/{PROJECT_ID}/r/{run_id}?trace_id={run_id}"
        f"&start_time={first['start_time']}",
    }
    return first | own | changes


def rule(runs: Sequence[Mapping[str, Any]] | None = None, *, rule_id: str = RULE_ID, **changes: Any) -> Row:
    """A rule's payload with ``runs`` (by default one complete run) and top-level keys changed."""
    rows = [run()] if runs is None else [dict(one) for one in runs]
    return seed() | {"rule_id": rule_id, "runs": rows} | changes


def several(count: int, *, rule_id: str = RULE_ID, **changes: Any) -> Row:
    """A rule's payload with that many different runs."""
    return rule([run(number) for number in range(count)], rule_id=rule_id, **changes)


def with_s3(one: Mapping[str, Any], *, inputs: str | None = None, outputs: str | None = None) -> Row:
    """A run with presigned URLs instead of inputs or outputs."""
    row = dict(one)
    for name, url in (("inputs", inputs), ("outputs", outputs)):
        if url is not None:
            row[name] = None
            row[f"{name}_s3_urls"] = {"ROOT": {"presigned_url": url, "s3_url": url.partition("?")[0]}}
    return row


def threads(count: int = 1, *, rule_id: str = RULE_ID, **changes: Any) -> Row:
    """A thread rule's payload: ``threads`` instead of ``runs``.

    What an element holds is not documented: the matched conversation and its runs, in one way or another.
    """
    rows = [
        {
            "thread_id": f"thread-{number + 1}",
            "session_id": PROJECT_ID,
            "trace_ids": [str(uuid5(_NAMESPACE, f"thread {number}"))],
            "start_time": "2024-04-05T01:28:40.085646+00:00",
            "last_activity_at": "2024-04-05T01:28:54.085649+00:00",
            "runs": [run(number)],
        }
        for number in range(count)
    ]
    window = {key: value for key, value in seed().items() if key != "runs"}
    return window | {"rule_id": rule_id, "threads": rows} | changes


def alert(**changes: Any) -> Row:
    """An alert: the twelve keys that LangSmith merges into the body that the user wrote."""
    rule_id = str(uuid5(_NAMESPACE, "alert"))
    project = f"https://smith.langchain.com/o/{TENANT_ID}/projects/p/{PROJECT_ID}"
    return {
        "project_name": "classifier",
        "workspace_name": "Acme",
        "alert_rule_id": rule_id,
        "alert_rule_name": "Latency over 5 s",
        "alert_rule_description": "The classifier answers too slowly",
        "alert_rule_type": "threshold",
        "alert_rule_attribute": "latency",
        "alert_rule_url": f"{project}/alerts/{rule_id}",
        "runs_url": f"{project}?tab=0",
        "triggered_metric_value": 7.25,
        "triggered_threshold": 5.0,
        "timestamp": "2024-04-05T01:30:00+00:00",
    } | changes


def prompt_commit(**changes: Any) -> Row:
    """A prompt's new commit."""
    return {
        "prompt_id": str(uuid5(_NAMESPACE, "prompt")),
        "prompt_name": "classify-issue",
        "commit_hash": "5b3f1c9e2a7d4f60a1b2c3d4e5f60718293a4b5c",
        "created_at": "2024-04-05T01:28:54.734491+00:00",
        "created_by": "harrison@example.com",
        "event": "commit",
        "tag_name": None,
        "manifest": {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "prompts", "chat", "ChatPromptTemplate"],
            "kwargs": {"input_variables": ["title", "body"]},
        },
    } | changes


def issue(kind: str = "issue.created", **changes: Any) -> Row:
    """An event of LangSmith's issues: ``issue.created``, ``issue.trace.added``, ``issue.agent_run.failed``."""
    issue_id = str(uuid5(_NAMESPACE, "issue"))
    data: Row = {
        "object": {
            "id": issue_id,
            "title": "Classifier calls bugs questions",
            "description": "Since revision 9f2c1d7 reports of bugs are classified as questions.",
            "severity": 1,
            "status": "open",
            "session_id": PROJECT_ID,
            "url": f"https://smith.langchain.com/o/{TENANT_ID}/issues/{issue_id}",
        }
    }
    if kind == "issue.trace.added":
        data["trace"] = {"trace_id": run()["trace_id"], "session_id": PROJECT_ID}
    return {
        "id": str(uuid5(_NAMESPACE, kind)),
        "type": kind,
        "created": 1712280534,
        "request_id": str(uuid5(_NAMESPACE, "request")),
        "data": data,
    } | changes


def context_hub_commit(*, repo: str = "triage-agent", repo_type: str = "agent", **changes: Any) -> Row:
    """A commit to an agent or skill in LangSmith's Context Hub."""
    commit = {
        "repo_handle": repo,
        "repo_type": repo_type,
        "commit_hash": "9c1d4e7a2b5f8036a1c2d3e4f5061728394a5b6c",
        "files_changed": [
            {"path": "AGENTS.md", "action": "modified"},
            {"path": "skills/classify/SKILL.md", "action": "added"},
        ],
    }
    return {
        "id": str(uuid5(_NAMESPACE, f"context hub {repo}")),
        "type": "context_hub.commit.created.v1",
        "created": 1712280534,
        "data": {"commit": commit},
    } | changes


def to_body(payload: Mapping[str, Any]) -> bytes:
    """The bytes to send."""
    return json.dumps(payload, ensure_ascii=False).encode()


def _read(name: str) -> Row:
    row: Row = json.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return row


def renew_payload(payload: Mapping[str, Any], now: datetime | None = None) -> dict[str, Any]:
    """A copy that LangSmith could have sent now, so that it is not a duplicate.

    A rule's window ends now and keeps its length; its runs are unchanged, so that their data is still found. Other
    webhooks get a new time, and a new ``id`` if they have one.
    """
    now = now or datetime.now(UTC)
    renewed = dict(payload)
    if "start_time" in renewed or "end_time" in renewed or "rule_id" in renewed:
        renewed |= {"start_time": (now - _length(payload)).isoformat(), "end_time": now.isoformat()}
        return renewed
    if isinstance(renewed.get("id"), str):
        renewed["id"] = str(uuid4())
    moment = next((key for key in _MOMENTS if key in renewed), _MOMENTS[0])
    renewed[moment] = now.timestamp() if isinstance(renewed.get(moment), (int, float)) else now.isoformat()
    return renewed


def _length(payload: Mapping[str, Any]) -> timedelta:
    start, end = time_of(payload.get("start_time")), time_of(payload.get("end_time"))
    return end - start if start is not None and end is not None and end > start else _WINDOW
