"""Of the OpenAPI document: what rules make of events."""

from __future__ import annotations

from engine.admin.openapi_pieces import (
    BOOL,
    COUNT,
    OBJECT,
    OBJECT_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    Schema,
    list_of,
    object_of,
)


def explain_schemas() -> dict[str, Schema]:
    """Questions and answers of explain and preview."""
    explain = {
        "event": TEXT | {"description": "an id, or its start"},
        "route": TEXT_OR_NULL | {"description": "only this route, by its id or name"},
        "run": {"type": ["integer", "null"], "minimum": 0, "description": "only this run"},
        "render": BOOL | {"description": "also the parameters of the actions that fire"},
        "fetch": BOOL | {"description": "fetch from LangSmith what the routes read"},
        "feedback": {"description": "rows of feedback, or lists of them by run id"},
        "fetched": OBJECT_OR_NULL | {"description": "inputs, outputs and feedback, each by run id"},
    }
    return {
        "Explain": object_of(explain, optional=tuple(explain)[1:]),
        "Explanation": _explanation_schema(),
        "PreviewOf": object_of({"delivery": TEXT, "event": TEXT}, optional=("delivery", "event")),
        "Preview": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]},
    }


def _explanation_schema() -> Schema:
    document = {"index": {"type": "integer", "minimum": -1}, "run": OBJECT_OR_NULL, "routes": list_of(OBJECT)}
    return object_of(
        {
            "event": OBJECT,
            "config": object_of({"file": TEXT, "hash": TEXT}),
            "matched": BOOL | {"description": "whether a route matched, those under unmatched apart"},
            "counts": object_of({"runs": COUNT, "matched": COUNT, "fallback": COUNT})
            | {"description": "runs; an event without runs counts as one. fallback: where routes under unmatched fire"},
            "unmatched_reason": TEXT_OR_NULL,
            "notes": list_of(TEXT),
            "would_fetch": list_of(TEXT),
            "documents": list_of(object_of(document)),
        }
    )


def rules_schema() -> Schema:
    """Which rules are at work, and what their file is by now."""
    return object_of(
        {
            "file": TEXT,
            "path": TEXT,
            "hash": TEXT,
            "loaded_at": TIME,
            "file_is": {"enum": ["at_work", "refused", "changed"]},
            "problems": COUNT | {"description": "of the latest reload"},
        }
    )
