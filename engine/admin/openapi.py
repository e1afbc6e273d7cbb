"""The admin listener's OpenAPI document. A test holds real answers against it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine.action.registry import DISTRIBUTION
from engine.admin.openapi_schemas import (
    BOOL,
    COUNT,
    OBJECT,
    OBJECT_OR_NULL,
    SECONDS,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    TIME_OR_NULL,
    Schema,
    delivery_schemas,
    event_schemas,
    explain_schemas,
    list_of,
    object_of,
    ref,
    rules_schema,
)
from engine.admin.operations import Operation

_ERRORS = {
    400: "The question makes no sense",
    404: "Nothing goes by that id",
    422: "The file cannot be used; the previous rules stay in use",
}


def openapi_document(operations: Iterable[Operation[Any]]) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "langsmith-rules-engine, admin listener",
            "version": _version(),
            "description": (
                "Events, deliveries, replay and the configuration in use. Secrets are masked in every answer. "
                "Unsafe methods take application/json only. Where ENGINE_ADMIN_TOKEN is set, everything takes it "
                "as Authorization: Bearer."
            ),
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _version() -> str:
    """The installed version, or ``0`` for a checkout that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"


def _operation(operation: Operation[Any]) -> dict[str, Any]:
    statuses = {200: (operation.summary, operation.answer)}
    statuses |= {status: (_ERRORS[status], "Error") for status in operation.errors}
    if operation.refusal:
        statuses[422] = (_ERRORS[422], operation.refusal)
    responses = {str(status): _answer(*about) for status, about in statuses.items()}
    made: dict[str, Any] = {
        "summary": operation.summary,
        "responses": responses | {"default": _answer("Refused", "Error")},
    }
    parameters = list(operation.query)
    if operation.id:
        by_id = {"name": "id", "in": "path", "required": True, "schema": TEXT, "description": operation.id}
        parameters.append(by_id)
    if operation.body is not None:
        made["requestBody"] = {"required": operation.body is not OBJECT, "content": _content(operation.body)}
    return made | ({"parameters": parameters} if parameters else {})


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": _content(ref(schema))}


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schemas() -> dict[str, Schema]:
    return {
        **event_schemas(),
        **delivery_schemas(),
        **_rule_schemas(),
        **_destination_schemas(),
        **_config_schemas(),
        **explain_schemas(),
    }


def _rule_schemas() -> dict[str, Schema]:
    retry = object_of({"policy": TEXT, "attempts": COUNT, "within": SECONDS}) | {"type": ["object", "null"]}
    routed = {
        "name": TEXT,
        "type": TEXT,
        "when": list_of(TEXT),
        "params": {},
        "timeout": {"type": ["number", "null"], "description": "seconds"},
        "retry": retry,
        "throttle": OBJECT_OR_NULL,
        "digest": OBJECT_OR_NULL,
        "active": OBJECT_OR_NULL,
    }
    route = {
        "id": TEXT,
        "key": TEXT,
        "keys": list_of(TEXT),
        "name": TEXT_OR_NULL,
        "enabled": BOOL,
        "for_each": {"enum": ["run", "event"]},
        "stop": BOOL,
        "sample": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "conditions": list_of(TEXT),
        "needs": list_of(TEXT),
        "active": OBJECT_OR_NULL,
        "wait_for": OBJECT_OR_NULL,
        "muted": {"anyOf": [ref("MutedRoute"), {"type": "null"}]},
        "undecided": {"anyOf": [ref("UndecidedRoute"), {"type": "null"}]},
        "actions": list_of(ref("RoutedAction")),
        "on_dead": list_of(ref("RoutedAction")),
    }
    undecided = {
        "absent": COUNT | {"description": "verdicts that were undecided because a value was absent"},
        "verdicts": COUNT | {"description": "all verdicts since the configuration in use was loaded"},
        "mostly": BOOL | {"description": "whether these are more than half"},
        "part": TEXT | {"description": "what was absent most often"},
    }
    muted = {"route": TEXT, "until": TIME_OR_NULL, "since": TIME, "by": TEXT, "reason": TEXT}
    parameter = {"name": TEXT, "type": TEXT, "required": BOOL, "default": {}, "description": TEXT}
    action = {
        "name": TEXT,
        "summary": TEXT,
        "doc": TEXT,
        "origin": TEXT,
        "builtin": BOOL,
        "needs": list_of(TEXT),
        "lacks": TEXT | {"description": "what has to be installed for it to work; empty where nothing has"},
        "parameters": list_of(object_of(parameter)),
        "example": TEXT,
        "short": TEXT | {"description": "with its main parameter alone; empty where that is not enough"},
    }
    return {
        "RoutedAction": object_of(routed),
        "MutedRoute": object_of(muted),
        "UndecidedRoute": object_of(undecided),
        "Mutes": object_of({"mutes": list_of(ref("MutedRoute"))}),
        "Muted": object_of({"mute": ref("MutedRoute"), "replaced": {"anyOf": [ref("MutedRoute"), {"type": "null"}]}}),
        "Unmuted": object_of(
            {
                "route": TEXT,
                "muted": BOOL | {"description": "whether it was muted before"},
                "held_back": list_of(TEXT) | {"description": "events whose matches the mute held back, newest first"},
            }
        ),
        "Mute": object_of(
            {
                "route": TEXT | {"description": "a route's id, or its name where one route has it"},
                "for": {"type": ["string", "number", "null"], "description": "30m, 2h, 7d; null: until it is unmuted"},
                "reason": TEXT,
                "by": TEXT,
            },
            optional=("for", "reason", "by"),
        ),
        "Route": object_of(route),
        "Routes": object_of({"routes": list_of(ref("Route"))}),
        "Action": object_of(action),
        "Actions": object_of({"actions": list_of(ref("Action")), "broken": list_of(ref("Problem"))}),
    }


def _destination_schemas() -> dict[str, Schema]:
    per_lane = {"concurrency": COUNT, "rate": TEXT_OR_NULL, "burst": {"type": ["integer", "null"]}}
    destination = {
        "name": TEXT,
        "state": {"enum": ["healthy", "erring", "paused", "failing", "unauthorized", "gone", "probing", "unknown"]},
        "reason": TEXT,
        "since": TIME_OR_NULL,
        "until": TIME_OR_NULL | {"description": "the end of a pause, else the next probe"},
        "under_way": COUNT,
        "waiting": COUNT,
        "last_error": TEXT | {"description": "why the latest attempt failed; empty where it did not"},
        "next_at": TIME_OR_NULL | {"description": "when the first that waits is due"},
        "last_attempt_at": TIME_OR_NULL | {"description": "when the latest attempt began, in the last 24 hours"},
        "limits": object_of(per_lane) | {"type": ["object", "null"]},
    }
    return {
        "Destinations": object_of(
            {"destinations": list_of(object_of(destination)), "left_out": COUNT, "unassigned": COUNT}
        ),
        "Resume": object_of({"name": TEXT}),
        "Resumed": object_of({"name": TEXT, "resumed": BOOL, "due": COUNT}),
    }


def _config_schemas() -> dict[str, Schema]:
    problem = {
        "file": TEXT,
        "line": COUNT,
        "column": COUNT,
        "message": TEXT,
        "hint": TEXT,
        "source": TEXT,
        "text": TEXT,
    }
    problems = list_of(ref("Problem"))
    reloaded = {"hash": TEXT, "routes": COUNT, "at": TIME, "problems": problems, "broken_plugins": problems}
    config = {
        "file": TEXT,
        "hash": TEXT,
        "loaded_at": TIME,
        "config": OBJECT,
        "yaml": TEXT,
        "last_reload": object_of({"at": TIME, "good": BOOL, "problems": problems}),
        "broken_plugins": problems,
    }
    backlog = {
        "evaluations": COUNT,
        "deliveries": COUNT,
        "dead": COUNT,
        "oldest_due_at": TIME_OR_NULL,
        "oldest_due_seconds": {"type": ["number", "null"], "minimum": 0},
        "by_route": {"type": "object", "additionalProperties": COUNT},
        "busy": {"type": ["integer", "null"], "minimum": 0},
        "rules": rules_schema(),
        "engine": TEXT | {"description": "the name of the engine that answers: another one after each start"},
    }
    return {
        "Problem": object_of(problem),
        "Reload": object_of(reloaded),
        "ReloadRefused": object_of(reloaded | {"error": TEXT, "hint": TEXT}),
        "Config": object_of(config),
        "Backlog": object_of(backlog),
    }
