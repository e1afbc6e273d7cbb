"""Rows of the store as JSON for people and programs. Times are ISO 8601, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine.core.errors import BadBody, Problem, TooComplex
from engine.core.event import parse_payload
from engine.core.json_text import MAX_LEVELS
from engine.store.queries import Backlog, DeliveryDetail, DeliveryRow, EventDetail, EventRow, ItemRow
from engine.store.records import Attempt

_TOO_DEEP: Final = f"it is nested deeper than {MAX_LEVELS} levels, which is too deep to be shown"


def iso(at: float) -> str:
    """A time in Unix seconds as ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _iso_or_none(at: float | None) -> str | None:
    return None if at is None else iso(at)


def event_view(row: EventRow, rules: Mapping[str, str]) -> dict[str, Any]:
    """An event as lists show it; ``rules`` are the names that the configuration has for rules, by id."""
    return {
        "id": row.id,
        "kind": row.kind,
        "rule_id": row.rule_id,
        "rule": rules.get(row.rule_id or ""),
        "received_at": iso(row.received_at),
        "bytes": row.size,
        "repaired": row.repaired,
        "state": row.state,
        "unmatched_reason": row.unmatched_reason,
        "matched": row.matched,
        "fallback": row.fallback,
        "open": row.open,
        "dead": row.dead,
        "reason": row.reason,
        "copies": row.copies,
        "held": dict(row.held),
    }


def event_detail_view(detail: EventDetail, rules: Mapping[str, str], max_values: int) -> dict[str, Any]:
    """An event whole. ``history`` are evaluations that failed.

    ``payload`` is null once its body was deleted, and where it has more than ``max_values`` values
    or is nested too deep to be parsed: then ``unparsed`` says so, and is null otherwise.
    """
    payload, unparsed = _payload(detail.body, max_values)
    return event_view(detail.row, rules) | {
        "payload": payload,
        "unparsed": unparsed,
        "fetched": _shallow(detail.fetched),
        "evaluations": [_evaluation_view(evaluation) for evaluation in detail.evaluations],
        "deliveries": [delivery_view(row) for row in detail.deliveries],
        "history": [_attempt_view(attempt) for attempt in detail.attempts],
    }


def _payload(body: bytes | None, max_values: int) -> tuple[dict[str, Any] | None, str | None]:
    """A body's payload, where it is kept and parsed, and why it is not parsed, if so."""
    if body is None:
        return None, None
    try:
        return parse_payload(body, max_values)[0], None
    except TooComplex as error:
        return None, str(error)
    except BadBody:
        return None, None


def _shallow(value: Any, levels: int = MAX_LEVELS) -> Any:
    """A copy that can be written as JSON: values below so many levels are replaced by a text that says so."""
    if not isinstance(value, (Mapping, list)):
        return value
    if not levels:
        return _TOO_DEEP
    if isinstance(value, list):
        return [_shallow(item, levels - 1) for item in value]
    return {key: _shallow(item, levels - 1) for key, item in value.items()}


def _evaluation_view(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """One evaluation, with its time in words."""
    view = dict(evaluation)
    decided_at = view.get("decided_at")
    if isinstance(decided_at, (int, float)):
        view["decided_at"] = iso(decided_at)
    return view


def delivery_view(row: DeliveryRow) -> dict[str, Any]:
    """A delivery as lists show it."""
    return {
        "id": row.id,
        "event_id": row.event_id,
        "route": row.route,
        "action": row.action,
        "run_index": row.index,
        "run_id": row.run_id,
        "state": row.state,
        "attempts": row.attempts,
        "replays": row.replays,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "due_at": _iso_or_none(row.due_at),
        "reason": row.reason,
        "item_count": row.items,
        "destination": row.destination,
    }


def delivery_detail_view(detail: DeliveryDetail) -> dict[str, Any]:
    """A delivery with every attempt, oldest first, under ``history``; a digest with its ``items``.

    ``words`` is what its templates see beside the event, null where that is nothing.
    """
    return delivery_view(detail.row) | {
        "history": [_attempt_view(attempt) for attempt in detail.attempts],
        "items": [_item_view(item) for item in detail.items],
        "words": None if detail.variables is None else dict(detail.variables),
    }


def _item_view(item: ItemRow) -> dict[str, Any]:
    return {"event_id": item.event_id, "run_index": item.index, "run_id": item.run_id}


def _attempt_view(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "replay": attempt.replay,
        "started_at": iso(attempt.started_at),
        "seconds": round(attempt.seconds, 6),
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "status": attempt.status,
        "destination": attempt.destination,
        "detail": _shallow(attempt.detail),
        "worker": attempt.worker,
    }


def backlog_view(backlog: Backlog, *, busy: int | None, now: float) -> dict[str, Any]:
    """How much waits. ``busy`` is how many pieces of work are under way, null where nothing runs."""
    oldest = backlog.oldest_due_at
    return {
        "evaluations": backlog.evaluations,
        "deliveries": backlog.deliveries,
        "dead": backlog.dead,
        "oldest_due_at": _iso_or_none(oldest),
        "oldest_due_seconds": None if oldest is None else round(max(now - oldest, 0.0), 3),
        "by_route": dict(backlog.by_route),
        "busy": busy,
    }


def problem_view(problem: Problem) -> dict[str, Any]:
    """One mistake in a file; ``text`` is how the command prints it."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
        "source": problem.source,
        "text": str(problem),
    }


def problem_views(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Several of them."""
    return [problem_view(problem) for problem in problems]
