"""The types of the fields in a rule's webhook, by LangSmith's schema.

From the OpenAPI document of LangSmith's API (``RunSchema``) and the documented payload. LangSmith may add fields at any
time and omits some: use this for warnings, never for decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

#: One step of a path into the document: a name, an index, or None if it is not known before evaluation (such as ``*``).
Step = str | int | None
Kind = Literal["text", "number", "boolean", "time", "list", "object"]

# fmt: off
_FIELDS: Final[dict[Kind, frozenset[str]]] = {
    "text": frozenset({
        "app_path", "completion_cost", "dotted_order", "error", "id", "inputs_preview", "manifest_id", "manifest_s3_id",
        "name", "outputs_preview", "parent_run_id", "price_model_id", "prompt_cost", "reference_dataset_id",
        "reference_example_id", "run_type", "session_id", "share_token", "status", "tenant_id", "thread_id",
        "total_cost", "trace_id", "trace_tier",
    }),
    "number": frozenset({
        "completion_tokens", "execution_order", "prompt_tokens", "total_tokens", "ttl_seconds",
    }),
    "boolean": frozenset({"in_dataset", "is_root", "trace_upgrade"}),
    "time": frozenset({
        "end_time", "first_token_time", "last_queued_at", "modified_at", "start_time", "trace_first_received_at",
        "trace_max_start_time", "trace_min_start_time",
    }),
    "list": frozenset({
        "child_run_ids", "child_runs", "direct_child_run_ids", "events", "messages", "parent_run_ids", "tags",
    }),
    "object": frozenset({
        "completion_cost_details", "completion_token_details", "extra", "feedback_stats", "inputs", "inputs_s3_urls",
        "outputs", "outputs_s3_urls", "prompt_cost_details", "prompt_token_details", "s3_urls", "serialized",
    }),
}
# fmt: on
RUN_KINDS: Final[dict[str, Kind]] = {name: kind for kind, names in _FIELDS.items() for name in names}
#: The fields that the engine adds to ``run``.
_COMPUTED_KINDS: Final[dict[str, Kind]] = {"url": "text", "latency": "number", "cost": "number"}
#: The elements of a run's lists.
_ELEMENTS: Final[dict[str, Kind]] = {"tags": "text", "events": "object", "child_runs": "object"}
#: Every documented field of a run.
RUN_FIELDS: Final = frozenset(RUN_KINDS)
#: The fields of every run in a rule's webhook: those of LangSmith's documented payload, and two that are null in most
#: runs and therefore missing in its example.
# fmt: off
SENT_FIELDS: Final = frozenset({
    "app_path", "child_run_ids", "completion_cost", "completion_tokens", "direct_child_run_ids", "dotted_order",
    "end_time", "error", "events", "extra", "feedback_stats", "first_token_time", "id", "in_dataset", "inputs",
    "inputs_s3_urls", "last_queued_at", "name", "outputs", "outputs_s3_urls", "parent_run_id", "parent_run_ids",
    "prompt_cost", "prompt_tokens", "run_type", "serialized", "session_id", "share_token", "start_time", "status",
    "total_cost", "total_tokens", "trace_id",
})
# fmt: on
#: The fields that are lists, and those that are texts (or null), including times.
ARRAY_FIELDS: Final = _FIELDS["list"]
TEXT_FIELDS: Final = _FIELDS["text"] | _FIELDS["time"] | {"url"}
#: Fields that are null or absent in many runs, such as those without error, cost or parent.
OFTEN_NULL: Final = frozenset(
    {
        "completion_cost",
        "cost",
        "error",
        "first_token_time",
        "outputs",
        "parent_run_id",
        "prompt_cost",
        "reference_example_id",
        "share_token",
        "thread_id",
        "total_cost",
    }
)  # fmt: skip
#: Numbers that LangSmith's schema defines as texts, and objects with such values.
DECIMAL_TEXTS: Final = frozenset({"total_cost", "prompt_cost", "completion_cost"})
DECIMAL_OBJECTS: Final = frozenset({"prompt_cost_details", "completion_cost_details"})
#: The values of enumerated fields (``query.RunStatus`` and ``RunTypeEnum``), and other words for them.
VALUES: Final[dict[str, frozenset[str]]] = {
    "status": frozenset({"success", "error", "pending"}),
    "run_type": frozenset({"tool", "chain", "llm", "retriever", "embedding", "prompt", "parser"}),
}
VALUE_SYNONYMS: Final[dict[str, str]] = {
    "failed": "error",
    "failure": "error",
    "fail": "error",
    "errored": "error",
    "exception": "error",
    "ok": "success",
    "succeeded": "success",
    "successful": "success",
    "completed": "success",
    "complete": "success",
    "done": "success",
    "finished": "success",
    "running": "pending",
    "in_progress": "pending",
    "started": "pending",
    "model": "llm",
    "chat_model": "llm",
    "agent": "chain",
    "function": "tool",
    "embeddings": "embedding",
}
#: The statistics of a feedback key.
STATISTICS: Final[dict[str, Kind]] = {
    "n": "number", "avg": "number", "stdev": "number", "show_feedback_arrow": "boolean", "values": "object",
}  # fmt: skip
_TOP: Final[dict[str, Kind]] = {
    "rule_id": "text",
    "start_time": "time",
    "end_time": "time",
    "runs": "list",
    "threads": "list",
    "feedbacks": "list",
    "run": "object",
    "payload": "object",
    "feedback": "object",
    "feedback_stats": "object",
    "event": "object",
    "route": "object",
    "vars": "object",
}


def run_steps(steps: Sequence[Step]) -> tuple[Step, ...] | None:
    """The steps below a run: ``x`` of ``run.x``, ``runs[*].x`` and ``payload.runs[0].x``; None for other paths."""
    own = tuple(steps[1:] if steps and steps[0] == "payload" else steps)
    if len(own) > 1 and own[0] == "runs" and not isinstance(own[1], str):
        return own[2:]
    return tuple(steps[1:]) if steps and steps[0] == "run" else None


def statistics_steps(steps: Sequence[Step]) -> tuple[Step, ...] | None:
    """The steps below ``feedback_stats`` of a run or the event; None for other paths."""
    own = run_steps(steps)
    if own is None:
        own = tuple(steps[1:] if steps and steps[0] == "payload" else steps)
    return own[1:] if own and own[0] == "feedback_stats" else None


def kind_at(steps: Sequence[Step]) -> Kind | None:
    """The type of the value at a path, by LangSmith's schema; None if the schema does not define it."""
    match statistics_steps(steps):
        case (_,):
            return "object"
        case (_, str(name)):
            return STATISTICS.get(name)
        case (_, _, *_):
            return None
    match run_steps(steps):
        case None:
            return _at_top(steps)
        case () | ("extra", "metadata"):
            return "object"
        case (str(field),):
            return _COMPUTED_KINDS.get(field) or RUN_KINDS.get(field)
        case (str(field), int() | None):
            return _ELEMENTS.get(field)
    return None


def _at_top(steps: Sequence[Step]) -> Kind | None:
    own = tuple(steps)
    if len(own) > 1 and own[0] == "payload":
        # Below payload is what LangSmith sent: its ``event`` is not the engine's.
        own = own[1:] if own[1] not in ("event", "route", "vars", "run", "feedback") else ("",)
    match own:
        case (str(name),):
            return _TOP.get(name)
        case ("feedback" | "feedbacks", _):
            return "object"
    return None


def is_open(steps: Sequence[Step]) -> tuple[Step, ...] | None:
    """The part of a path that may be absent: a user-defined key, or a field that is often null. None if always present.

    The result is normalized: ``run.extra.metadata.env`` and ``$.runs[*].extra.metadata.env`` both give
    ``("extra", "metadata", "env")``.
    """
    statistics = statistics_steps(steps)
    if statistics:
        return ("feedback_stats", statistics[0])
    if len(steps) > 1 and steps[0] == "feedback":
        return ("feedback", steps[1])
    own = run_steps(steps)
    if not own:
        return None
    if own[:2] == ("extra", "metadata"):
        return own[:3] if len(own) > 2 else None
    return own[:1] if own[0] in OFTEN_NULL else None


def anchored(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The normalized steps of a path; see ``is_open``."""
    statistics = statistics_steps(steps)
    if statistics is not None:
        return ("feedback_stats", *statistics)
    own = run_steps(steps)
    return tuple(steps) if own is None else own
