"""Schemas of the API's OpenAPI document: their building blocks, and those of events, deliveries and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.admin.query import DELIVERY_STATES, EVENT_STATES, MOST_ROWS
from engine.core.event import Kind

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOL: Schema = {"type": "boolean"}
SECONDS: Schema = {"type": "number", "minimum": 0, "description": "seconds"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
OBJECT: Schema = {"type": "object"}
OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}


def object_of(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def list_of(items: Schema) -> Schema:
    """An array of them."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def query_parameter(name: str, description: str, schema: Schema = TEXT) -> Schema:
    """A parameter of a query string."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _shared_words() -> tuple[Schema, ...]:
    moment = "30m, 2h, 7d (that long ago), a time in ISO 8601, or Unix seconds"
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50}
    return (
        query_parameter("since", moment),
        query_parameter("until", moment),
        query_parameter("limit", "how many rows at most", limit),
    )


def event_words() -> tuple[Schema, ...]:
    """What a query for events takes."""
    return (
        query_parameter("kind", "what kind of webhook", {"enum": [str(kind) for kind in Kind]}),
        query_parameter("rule", "a rule's id, or its name in the configuration"),
        query_parameter("state", "how far it came", {"enum": list(EVENT_STATES)}),
        query_parameter("unmatched", "whether no route but * matched", BOOL),
        query_parameter("error", "a part of why it is pending or dead"),
        query_parameter("before", "the id to page on from: `next` of the page before"),
        *_shared_words(),
    )


def delivery_words() -> tuple[Schema, ...]:
    """What a query for deliveries takes."""
    return (
        query_parameter("state", "how far it came", {"enum": list(DELIVERY_STATES)}),
        query_parameter("route", "a route's id"),
        query_parameter("action", "an action's name"),
        query_parameter("event", "an event's id, or its start of at least 8 characters"),
        query_parameter("error", "a part of the reason it failed for"),
        query_parameter("before", "the id to page on from: `next` of the page before"),
        *_shared_words(),
    )


def event_schemas() -> dict[str, Schema]:
    """Of events, their decisions and their attempts."""
    event: dict[str, Schema] = {
        "id": TEXT,
        "kind": {"enum": [str(kind) for kind in Kind]},
        "rule_id": TEXT_OR_NULL,
        "rule": TEXT_OR_NULL | {"description": "what the configuration calls the rule"},
        "received_at": TIME,
        "bytes": COUNT,
        "repaired": BOOL,
        "state": {"enum": list(EVENT_STATES)},
        "unmatched_reason": {"enum": ["unknown_rule", "no_match", "undecided", "unparsed", None]},
        "matched": COUNT | {"description": "how many runs a route matched; an event without runs counts as one"},
        "fallback": {
            "type": ["integer", "null"],
            "description": "for how many runs routes under unmatched fired; null: by an older version, part of matched",
        },
        "open": COUNT,
        "dead": COUNT,
        "reason": TEXT,
        "copies": COUNT | {"description": "how many more times the webhook came, and was not acted on"},
        "held": {"type": "object", "additionalProperties": COUNT, "description": "matches held back, by what"},
    }
    detail = event | {
        "payload": OBJECT_OR_NULL,
        "unparsed": TEXT_OR_NULL | {"description": "why the payload is null though the body is kept"},
        "fetched": OBJECT_OR_NULL,
        "evaluations": list_of(ref("Evaluation")),
        "deliveries": list_of(ref("Delivery")),
        "history": list_of(ref("Attempt")),
    }
    decision = {
        "route": TEXT,
        "index": {"type": "integer", "minimum": -1},
        "verdict": {"enum": ["true", "false", "undecided", "wanting"]},
        "run_id": TEXT_OR_NULL,
        "reason": TEXT,
        "fires": list_of(TEXT),
        "skipped": {"type": "object", "additionalProperties": TEXT},
        "pending": list_of(TEXT),
        "notes": {"type": "object", "additionalProperties": TEXT},
        "absent": TEXT | {"description": "what was absent, where the route or an action is undecided for that reason"},
        "collected": {"type": "object", "additionalProperties": TEXT, "description": "a digest's delivery by action"},
    }
    said = ("run_id", "reason", "fires", "skipped", "pending", "notes", "absent", "collected")
    return {
        "Event": object_of(event),
        "EventDetail": object_of(detail),
        "Events": object_of({"events": list_of(ref("Event")), "next": TEXT_OR_NULL}),
        "Decision": object_of(decision, optional=said),
        "Evaluation": {
            "type": "object",
            "properties": {"decided_at": TIME, "config_hash": TEXT, "decisions": list_of(ref("Decision"))},
            "required": ["decided_at", "config_hash", "decisions"],
        },
        "Error": object_of(
            {"error": TEXT, "hint": TEXT, "candidates": list_of(object_of({"id": TEXT, "kind": TEXT, "about": TEXT}))},
            optional=("candidates",),
        ),
    }


def delivery_schemas() -> dict[str, Schema]:
    """Of deliveries, their attempts, and what replay and discard answer."""
    delivery: dict[str, Schema] = {
        "id": TEXT,
        "event_id": TEXT,
        "route": TEXT,
        "action": TEXT,
        "run_index": {"type": "integer", "minimum": -1},
        "run_id": TEXT_OR_NULL,
        "state": {"enum": list(DELIVERY_STATES)},
        "attempts": COUNT,
        "replays": COUNT,
        "created_at": TIME,
        "updated_at": TIME,
        "due_at": TIME_OR_NULL,
        "reason": TEXT,
        "item_count": COUNT | {"description": "how many items a digest has; 0 where it is none"},
        "destination": TEXT | {"description": "where it waits to go or last went; empty where that is not known"},
    }
    attempt = {
        "number": COUNT,
        "replay": COUNT,
        "started_at": TIME,
        "seconds": SECONDS,
        "outcome": {"enum": ["succeeded", "again", "dead", "discarded"]},
        "reason": TEXT,
        "status": {"type": ["integer", "null"]},
        "destination": TEXT,
        "detail": OBJECT_OR_NULL,
        "worker": TEXT,
    }
    item = {key: delivery[key] for key in ("event_id", "run_index", "run_id")}
    beside = {
        "history": list_of(ref("Attempt")),
        "items": list_of(object_of(item)) | {"description": "a digest's, in the order in which they are sent"},
        "words": OBJECT_OR_NULL | {"description": "what its templates see beside the event: throttle, delivery"},
    }
    words = {word["name"]: word["schema"] | {"description": word["description"]} for word in delivery_words()}
    ids = {"type": "array", "items": TEXT, "minItems": 1}
    replay = {"deliveries": ids, "events": ids, **words, "dry_run": BOOL}
    replay["limit"] = {"type": "integer", "minimum": 1}
    done = {"deliveries": list_of(TEXT), "events": list_of(TEXT), "count": COUNT, "dry_run": BOOL}
    return {
        "Delivery": object_of(delivery),
        "DeliveryDetail": object_of(delivery | beside),
        "Deliveries": object_of({"deliveries": list_of(ref("Delivery")), "next": TEXT_OR_NULL}),
        "Attempt": object_of(attempt),
        "Replay": object_of(replay, optional=tuple(replay)),
        "Discard": object_of(
            given_up := {k: v for k, v in replay.items() if k != "state"} | {"by": TEXT, "reason": TEXT},
            optional=tuple(given_up),
        ),
        "Replayed": object_of(done | {"hurried": list_of(object_of({"id": TEXT, "was_due": TIME_OR_NULL}))}),
        "Discarded": object_of(done),
    }


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
    """Which rules are in use, and the state of their file."""
    return object_of(
        {
            "file": TEXT,
            "path": TEXT,
            "hash": TEXT,
            "loaded_at": TIME,
            "file_is": {"enum": ["in_use", "refused", "changed"]},
            "problems": COUNT | {"description": "of the latest reload"},
        }
    )
