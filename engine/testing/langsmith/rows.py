"""Rows as LangSmith returns them: complete, so that a strict client can read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from engine.testing.langsmith.endpoints import unprocessable

#: The workspace of everything a stand-in holds; the one of LangSmith's documentation.
TENANT_ID = "2ebda79f-2946-4491-a9ad-d642f49e0815"
#: The project that runs belong to when they name none.
PROJECT_ID = "6a3be6a2-9a8c-4fc8-b4c6-a8983b286cc5"

Row = dict[str, Any]


def now() -> str:
    """The current time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def parse_time(text: str) -> datetime:
    """An ISO 8601 time; LangSmith's naive ones are UTC.

    Raises:
        Refused: 422, it is not one.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise unprocessable("time", f"{text!r} is not a valid datetime") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def checked_uuid(value: Any, where: str) -> str:
    """The canonical text of a UUID.

    Raises:
        Refused: 422, it is not one.
    """
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise unprocessable(where, f"Input should be a valid UUID, got {value!r}") from None


def optional_uuid(body: Mapping[str, Any], key: str) -> str | None:
    """The UUID under a key, None if it is absent or null.

    Raises:
        Refused: 422, it is something else.
    """
    return None if body.get(key) is None else checked_uuid(body[key], key)


def checked_text(body: Mapping[str, Any], key: str, *, most: int = 1_000_000) -> str:
    """The text under a required key.

    Raises:
        Refused: 422, it is missing, empty, too long or something else.
    """
    value = body.get(key)
    if not isinstance(value, str) or not value or len(value) > most:
        raise unprocessable(key, f"Field required: a string of 1 to {most} characters")
    return value


def dataset_row(name: str, *, row_id: str | None = None, **fields: Any) -> Row:
    """A dataset. ``fields`` are additional columns."""
    return {
        "id": row_id or str(uuid4()),
        "name": name,
        "description": None,
        "data_type": "kv",
        "tenant_id": TENANT_ID,
        "example_count": 0,
        "session_count": 0,
        "created_at": now(),
        "modified_at": now(),
        "last_session_start_time": None,
        "inputs_schema_definition": None,
        "outputs_schema_definition": None,
        "externally_managed": False,
        "transformations": None,
        "metadata": None,
        "baseline_experiment_id": None,
    } | fields


def example_row(dataset_id: str, body: Mapping[str, Any]) -> Row:
    """An example, from a posted body. The split is kept in the metadata, as LangSmith does."""
    split = body.get("split") or "base"
    metadata = dict(body.get("metadata") or {}) | {"dataset_split": [split] if isinstance(split, str) else split}
    example_id = optional_uuid(body, "id") or str(uuid4())
    return {
        "id": example_id,
        "dataset_id": dataset_id,
        "name": f"#{example_id[:4]}",
        "inputs": body.get("inputs") or {},
        "outputs": body.get("outputs"),
        "metadata": metadata,
        "source_run_id": optional_uuid(body, "source_run_id"),
        "created_at": body.get("created_at") or now(),
        "modified_at": now(),
        "attachment_urls": None,
    }


def feedback_row(body: Mapping[str, Any]) -> Row:
    """A feedback, from a posted body."""
    source = dict(body.get("feedback_source") or {"type": "api"})
    moment = now()
    return {
        "id": optional_uuid(body, "id") or str(uuid4()),
        "run_id": optional_uuid(body, "run_id"),
        "session_id": optional_uuid(body, "session_id"),
        "trace_id": optional_uuid(body, "trace_id"),
        "start_time": body.get("start_time"),
        "key": checked_text(body, "key", most=180),
        "score": body.get("score"),
        "value": body.get("value"),
        "comment": body.get("comment"),
        "correction": body.get("correction"),
        "created_at": body.get("created_at") or moment,
        "modified_at": body.get("modified_at") or moment,
        "feedback_source": {"type": "api", "metadata": {}, "user_id": None, "ls_user_id": None, "user_name": None}
        | source,
        "feedback_group_id": optional_uuid(body, "feedback_group_id"),
        "comparative_experiment_id": None,
        "feedback_thread_id": None,
        "is_root": True,
        "extra": body.get("extra") or ({"error": True} if body.get("error") else None),
    }


def queue_row(name: str, *, row_id: str | None = None, **fields: Any) -> Row:
    """An annotation queue with its rubric."""
    return {
        "id": row_id or str(uuid4()),
        "name": name,
        "description": None,
        "tenant_id": TENANT_ID,
        "created_at": now(),
        "updated_at": now(),
        "queue_type": "single",
        "num_reviewers_per_item": 1,
        "enable_reservations": True,
        "reservation_minutes": 1,
        "reviewer_access_mode": "any",
        "source_rule_id": None,
        "run_rule_id": None,
        "default_dataset": None,
        "metadata": None,
        "assigned_reviewers": [],
        "rubric_items": [],
        "rubric_instructions": None,
    } | fields


def queue_item_row(queue_id: str, item: Mapping[str, Any]) -> Row:
    """A run or thread in an annotation queue."""
    project_id = optional_uuid(item, "project_id") or optional_uuid(item, "session_id")
    return {
        "id": str(uuid4()),
        "queue_id": queue_id,
        "item_type": item.get("item_type", "RUN"),
        "run_id": optional_uuid(item, "run_id"),
        "project_id": project_id,
        "thread_id": item.get("thread_id"),
        "start_time": item.get("start_time"),
        "source_proposed_example_id": optional_uuid(item, "source_proposed_example_id"),
        "added_at": now(),
        "last_reviewed_time": None,
    }


def run_row(run: Mapping[str, Any]) -> Row:
    """A run with every column; columns that ``run`` lacks get plausible values."""
    run_id = str(run.get("id") or uuid4())
    project = str(run.get("session_id") or PROJECT_ID)
    start = run.get("start_time") or now()
    stamp = parse_time(start).strftime("%Y%m%dT%H%M%S%fZ")
    return _RUN_DEFAULTS | {
        "id": run_id,
        "trace_id": run_id,
        "session_id": project,
        "start_time": start,
        "end_time": start,
        "dotted_order": f"{stamp}{run_id}",
        "app_path": f"/o/{TENANT_ID}/projects/p/{project}/r/{run_id}?trace_id={run_id}&start_time={start}",
        **run,
    }


_RUN_DEFAULTS: Row = {
    "name": "Search",
    "run_type": "chain",
    "status": "success",
    "error": None,
    "is_root": True,
    "inputs": None,
    "inputs_preview": None,
    "inputs_s3_urls": None,
    "outputs": None,
    "outputs_preview": None,
    "outputs_s3_urls": None,
    "s3_urls": None,
    "extra": None,
    "events": None,
    "tags": None,
    "serialized": None,
    "execution_order": 1,
    "parent_run_id": None,
    "parent_run_ids": [],
    "child_run_ids": None,
    "direct_child_run_ids": None,
    "feedback_stats": None,
    "reference_example_id": None,
    "reference_dataset_id": None,
    "total_tokens": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_cost": None,
    "prompt_cost": None,
    "completion_cost": None,
    "first_token_time": None,
    "in_dataset": False,
    "last_queued_at": None,
    "share_token": None,
    "trace_tier": None,
    "thread_id": None,
}


def project_row(project_id: str) -> Row:
    """A tracing project (formerly called a session)."""
    return {
        "id": project_id,
        "name": "default",
        "tenant_id": TENANT_ID,
        "start_time": now(),
        "end_time": None,
        "extra": None,
        "description": None,
        "default_dataset_id": None,
        "reference_dataset_id": None,
        "trace_tier": "shortlived",
    }


def rule_row(name: str, *, row_id: str | None = None, **fields: Any) -> Row:
    """An automation rule. ``webhooks`` is a list of ``{url, headers}``."""
    return {
        "id": row_id or str(uuid4()),
        "tenant_id": TENANT_ID,
        "display_name": name,
        "sampling_rate": 1.0,
        "is_enabled": True,
        "session_id": PROJECT_ID,
        "session_name": "default",
        "dataset_id": None,
        "dataset_name": None,
        "filter": None,
        "trace_filter": None,
        "tree_filter": None,
        "webhooks": [],
        "alerts": None,
        "evaluators": None,
        "code_evaluators": None,
        "extend_only": False,
        "include_extended_stats": False,
        "transient": False,
        "evaluator_version": 3,
        "created_at": now(),
        "updated_at": now(),
    } | fields
