"""The admin listener's OpenAPI document. A test holds real answers against it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine.admin.query import DELIVERY_STATES, EVENT_STATES, MOST_ROWS
from engine.event import Kind
from engine.registry import DISTRIBUTION

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_BOOL: Schema = {"type": "boolean"}
_SECONDS: Schema = {"type": "number", "minimum": 0, "description": "seconds"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_OBJECT: Schema = {"type": "object"}
_OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}


def engine_version() -> str:
    """The installed version, or ``0`` for a checkout that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"


def openapi_document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "langsmith-rules-engine, admin listener",
            "version": engine_version(),
            "description": (
                "Events, deliveries, replay and the configuration at work. Secrets are masked in every answer. "
                "Unsafe methods take application/json only. Where ENGINE_ADMIN_TOKEN is set, everything takes it "
                "as Authorization: Bearer."
            ),
        },
        "security": [{}, {"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    replay = _operation("Make deliveries or events due again", "Replayed", errors=(400, 404))
    replay["requestBody"] = {"required": True, "content": _content(_ref("Replay"))}
    resume = _operation("Let deliveries go to a destination again", "Resumed", errors=(400, 404))
    resume["requestBody"] = {"required": True, "content": _content(_ref("Resume"))}
    reload = _operation("Load the configuration file as it is now", "Reload")
    reload["requestBody"] = {"required": False, "content": _content(_OBJECT)}
    mute = _operation(
        "Mute a route: what matches it counts as matched, and nothing is done", "Muted", errors=(400, 404)
    )
    mute["requestBody"] = {"required": True, "content": _content(_ref("Mute"))}
    by_route = {"name": "id", "in": "path", "required": True, "schema": _TEXT, "description": "a route's id or name"}
    reload["responses"]["422"] = _answer("The file cannot be used; the rules of before stay at work", "ReloadRefused")
    return {
        "/api/v1/events": {"get": _operation("Events, newest first", "Events", _event_words(), errors=(400,))},
        "/api/v1/events/{id}": {"get": _one("An event with payload, decisions and deliveries", "EventDetail")},
        "/api/v1/deliveries": {
            "get": _operation("Deliveries, newest first", "Deliveries", _delivery_words(), errors=(400, 404))
        },
        "/api/v1/deliveries/{id}": {"get": _one("A delivery with its attempts", "DeliveryDetail")},
        "/api/v1/replay": {"post": replay},
        "/api/v1/routes": {"get": _operation("The routes, in the order of the file", "Routes")},
        "/api/v1/actions": {"get": _operation("The actions that routes can use", "Actions")},
        "/api/v1/config": {"get": _operation("The configuration at work and its latest reload", "Config")},
        "/api/v1/destinations": {"get": _operation("Where deliveries go; those that are shut first", "Destinations")},
        "/api/v1/destinations/resume": {"post": resume},
        "/api/v1/mutes": {
            "get": _operation("The routes that are muted", "Mutes"),
            "post": mute,
        },
        "/api/v1/mutes/{id}": {
            "delete": _operation("Let a muted route act again", "Unmuted", [by_route], errors=(404,))
        },
        "/api/v1/backlog": {"get": _operation("How much waits", "Backlog")},
        "/-/reload": {"post": reload},
    }


def _operation(
    summary: str, schema: str, parameters: list[Schema] | None = None, errors: tuple[int, ...] = ()
) -> dict[str, Any]:
    words = {400: "The question makes no sense", 404: "Nothing goes by that id"}
    responses = {"200": _answer(summary, schema)}
    responses |= {str(status): _answer(words[status], "Error") for status in errors}
    operation: dict[str, Any] = {"summary": summary, "responses": responses | {"default": _answer("Refused", "Error")}}
    return operation | ({"parameters": parameters} if parameters else {})


def _one(summary: str, schema: str) -> dict[str, Any]:
    by_id = {"name": "id", "in": "path", "required": True, "schema": _TEXT, "description": "an id, or its start"}
    return _operation(summary, schema, [by_id], errors=(404,))


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _content(_ref(schema))}


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, description: str, schema: Schema = _TEXT) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _shared_words() -> list[Schema]:
    moment = "30m, 2h, 7d (that long ago), a time in ISO 8601, or Unix seconds"
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50}
    return [_query("since", moment), _query("until", moment), _query("limit", "how many rows at most", limit)]


def _event_words() -> list[Schema]:
    return [
        _query("kind", "what kind of webhook", {"enum": [str(kind) for kind in Kind]}),
        _query("rule", "a rule's id, or its name in the configuration"),
        _query("state", "how far it came", {"enum": list(EVENT_STATES)}),
        _query("unmatched", "whether no route matched", _BOOL),
        _query("error", "a part of why it is pending or dead"),
        _query("before", "the id to page on from: `next` of the page before"),
        *_shared_words(),
    ]


def _delivery_words() -> list[Schema]:
    return [
        _query("state", "how far it came", {"enum": list(DELIVERY_STATES)}),
        _query("route", "a route's id"),
        _query("action", "an action's name"),
        _query("event", "an event's id, or its start"),
        _query("error", "a part of the reason it failed for"),
        _query("before", "the id to page on from: `next` of the page before"),
        *_shared_words(),
    ]


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _schemas() -> dict[str, Schema]:
    return {**_event_schemas(), **_delivery_schemas(), **_rule_schemas(), **_destination_schemas(), **_config_schemas()}


def _event_schemas() -> dict[str, Schema]:
    event: dict[str, Schema] = {
        "id": _TEXT,
        "kind": {"enum": [str(kind) for kind in Kind]},
        "rule_id": _TEXT_OR_NULL,
        "rule": _TEXT_OR_NULL | {"description": "what the configuration calls the rule"},
        "received_at": _TIME,
        "bytes": _COUNT,
        "repaired": _BOOL,
        "state": {"enum": list(EVENT_STATES)},
        "unmatched_reason": {"enum": ["unknown_rule", "no_match", "unparsed", None]},
        "matched": _COUNT,
        "open": _COUNT,
        "dead": _COUNT,
        "reason": _TEXT,
        "copies": _COUNT | {"description": "how many more times the webhook came, and was not acted on"},
    }
    detail = event | {
        "payload": _OBJECT_OR_NULL,
        "unparsed": _TEXT_OR_NULL | {"description": "why the payload is null though the body is kept"},
        "fetched": _OBJECT_OR_NULL,
        "evaluations": _list(_ref("Evaluation")),
        "deliveries": _list(_ref("Delivery")),
        "history": _list(_ref("Attempt")),
    }
    decision = {
        "route": _TEXT,
        "index": {"type": "integer", "minimum": -1},
        "verdict": {"enum": ["true", "false", "undecided", "wanting"]},
        "run_id": _TEXT_OR_NULL,
        "reason": _TEXT,
        "fires": _list(_TEXT),
        "skipped": {"type": "object", "additionalProperties": _TEXT},
        "pending": _list(_TEXT),
        "notes": {"type": "object", "additionalProperties": _TEXT},
        "absent": _TEXT | {"description": "what was absent, where the route or an action is undecided for that reason"},
        "collected": {"type": "object", "additionalProperties": _TEXT, "description": "a digest's delivery by action"},
    }
    said = ("run_id", "reason", "fires", "skipped", "pending", "notes", "absent", "collected")
    return {
        "Event": _object(event),
        "EventDetail": _object(detail),
        "Events": _object({"events": _list(_ref("Event")), "next": _TEXT_OR_NULL}),
        "Decision": _object(decision, optional=said),
        "Evaluation": {
            "type": "object",
            "properties": {"decided_at": _TIME, "config_hash": _TEXT, "decisions": _list(_ref("Decision"))},
            "required": ["decided_at", "config_hash", "decisions"],
        },
        "Error": _object({"error": _TEXT, "hint": _TEXT}),
    }


def _delivery_schemas() -> dict[str, Schema]:
    delivery: dict[str, Schema] = {
        "id": _TEXT,
        "event_id": _TEXT,
        "route": _TEXT,
        "action": _TEXT,
        "run_index": {"type": "integer", "minimum": -1},
        "run_id": _TEXT_OR_NULL,
        "state": {"enum": list(DELIVERY_STATES)},
        "attempts": _COUNT,
        "replays": _COUNT,
        "created_at": _TIME,
        "updated_at": _TIME,
        "due_at": _TIME_OR_NULL,
        "reason": _TEXT,
        "item_count": _COUNT | {"description": "how many items a digest has; 0 where it is none"},
    }
    attempt = {
        "number": _COUNT,
        "replay": _COUNT,
        "started_at": _TIME,
        "seconds": _SECONDS,
        "outcome": {"enum": ["succeeded", "again", "dead"]},
        "reason": _TEXT,
        "status": {"type": ["integer", "null"]},
        "destination": _TEXT,
        "detail": _OBJECT_OR_NULL,
        "worker": _TEXT,
    }
    item = {key: delivery[key] for key in ("event_id", "run_index", "run_id")}
    beside = {
        "history": _list(_ref("Attempt")),
        "items": _list(_object(item)) | {"description": "a digest's, in the order in which they are sent"},
        "words": _OBJECT_OR_NULL | {"description": "what its templates see beside the event: throttle, delivery"},
    }
    words = {word["name"]: word["schema"] | {"description": word["description"]} for word in _delivery_words()}
    ids = {"type": "array", "items": _TEXT, "minItems": 1}
    replay = {"deliveries": ids, "events": ids, **words, "dry_run": _BOOL}
    replay["limit"] = {"type": "integer", "minimum": 1}
    return {
        "Delivery": _object(delivery),
        "DeliveryDetail": _object(delivery | beside),
        "Deliveries": _object({"deliveries": _list(_ref("Delivery")), "next": _TEXT_OR_NULL}),
        "Attempt": _object(attempt),
        "Replay": _object(replay, optional=tuple(replay)),
        "Replayed": _object({"deliveries": _list(_TEXT), "events": _list(_TEXT), "count": _COUNT, "dry_run": _BOOL}),
    }


def _rule_schemas() -> dict[str, Schema]:
    retry = _object({"policy": _TEXT, "attempts": _COUNT, "within": _SECONDS}) | {"type": ["object", "null"]}
    routed = {
        "name": _TEXT,
        "type": _TEXT,
        "when": _list(_TEXT),
        "params": {},
        "timeout": {"type": ["number", "null"], "description": "seconds"},
        "retry": retry,
        "throttle": _OBJECT_OR_NULL,
        "digest": _OBJECT_OR_NULL,
        "active": _OBJECT_OR_NULL,
    }
    route = {
        "id": _TEXT,
        "key": _TEXT,
        "keys": _list(_TEXT),
        "name": _TEXT_OR_NULL,
        "enabled": _BOOL,
        "for_each": {"enum": ["run", "event"]},
        "stop": _BOOL,
        "sample": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "conditions": _list(_TEXT),
        "needs": _list(_TEXT),
        "active": _OBJECT_OR_NULL,
        "wait_for": _OBJECT_OR_NULL,
        "muted": {"anyOf": [_ref("MutedRoute"), {"type": "null"}]},
        "undecided": {"anyOf": [_ref("UndecidedRoute"), {"type": "null"}]},
        "actions": _list(_ref("RoutedAction")),
        "on_dead": _list(_ref("RoutedAction")),
    }
    undecided = {
        "absent": _COUNT | {"description": "verdicts that were undecided because a value was absent"},
        "verdicts": _COUNT | {"description": "all verdicts since the configuration at work was loaded"},
        "mostly": _BOOL | {"description": "whether these are more than half"},
        "part": _TEXT | {"description": "what was absent most often"},
    }
    muted = {"route": _TEXT, "until": _TIME_OR_NULL, "since": _TIME, "by": _TEXT, "reason": _TEXT}
    parameter = {"name": _TEXT, "type": _TEXT, "required": _BOOL, "default": {}, "description": _TEXT}
    action = {
        "name": _TEXT,
        "summary": _TEXT,
        "doc": _TEXT,
        "origin": _TEXT,
        "builtin": _BOOL,
        "needs": _list(_TEXT),
        "lacks": _TEXT | {"description": "what has to be installed for it to work; empty where nothing has"},
        "parameters": _list(_object(parameter)),
        "example": _TEXT,
        "short": {"type": "string", "description": "with its main parameter alone; empty where that is not enough"},
    }
    return {
        "RoutedAction": _object(routed),
        "MutedRoute": _object(muted),
        "UndecidedRoute": _object(undecided),
        "Mutes": _object({"mutes": _list(_ref("MutedRoute"))}),
        "Muted": _object({"mute": _ref("MutedRoute"), "replaced": {"anyOf": [_ref("MutedRoute"), {"type": "null"}]}}),
        "Unmuted": _object({"route": _TEXT, "muted": _BOOL | {"description": "whether it was muted before"}}),
        "Mute": _object(
            {
                "route": _TEXT | {"description": "a route's id, or its name where one route has it"},
                "for": {"type": ["string", "number", "null"], "description": "30m, 2h, 7d; null: until it is unmuted"},
                "reason": _TEXT,
                "by": _TEXT,
            },
            optional=("for", "reason", "by"),
        ),
        "Route": _object(route),
        "Routes": _object({"routes": _list(_ref("Route"))}),
        "Action": _object(action),
        "Actions": _object({"actions": _list(_ref("Action")), "broken": _list(_ref("Problem"))}),
    }


def _destination_schemas() -> dict[str, Schema]:
    per_lane = {"concurrency": _COUNT, "rate": _TEXT_OR_NULL, "burst": {"type": ["integer", "null"]}}
    destination = {
        "name": _TEXT,
        "state": {"enum": ["well", "paused", "failing", "refused", "gone", "probing", "unknown"]},
        "reason": _TEXT,
        "since": _TIME_OR_NULL,
        "until": _TIME_OR_NULL | {"description": "the end of a pause, else the next probe"},
        "under_way": _COUNT,
        "waiting": _COUNT,
        "limits": _object(per_lane) | {"type": ["object", "null"]},
    }
    return {
        "Destinations": _object(
            {"destinations": _list(_object(destination)), "left_out": _COUNT, "unassigned": _COUNT}
        ),
        "Resume": _object({"name": _TEXT}),
        "Resumed": _object({"name": _TEXT, "resumed": _BOOL}),
    }


def _config_schemas() -> dict[str, Schema]:
    problem = {
        "file": _TEXT,
        "line": _COUNT,
        "column": _COUNT,
        "message": _TEXT,
        "hint": _TEXT,
        "source": _TEXT,
        "text": _TEXT,
    }
    problems = _list(_ref("Problem"))
    reloaded = {"hash": _TEXT, "routes": _COUNT, "at": _TIME, "problems": problems, "broken_plugins": problems}
    config = {
        "file": _TEXT,
        "hash": _TEXT,
        "loaded_at": _TIME,
        "config": _OBJECT,
        "yaml": _TEXT,
        "last_reload": _object({"at": _TIME, "good": _BOOL, "problems": problems}),
        "broken_plugins": problems,
    }
    backlog = {
        "evaluations": _COUNT,
        "deliveries": _COUNT,
        "dead": _COUNT,
        "oldest_due_at": _TIME_OR_NULL,
        "oldest_due_seconds": {"type": ["number", "null"], "minimum": 0},
        "by_route": {"type": "object", "additionalProperties": _COUNT},
        "busy": {"type": ["integer", "null"], "minimum": 0},
        "engine": _TEXT | {"description": "the name of the engine that answers: another one after each start"},
    }
    return {
        "Problem": _object(problem),
        "Reload": _object(reloaded),
        "ReloadRefused": _object(reloaded | {"error": _TEXT, "hint": _TEXT}),
        "Config": _object(config),
        "Backlog": _object(backlog),
    }
