"""What is configured and what can be: routes, actions and the state of the configuration, as JSON for people."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.action.params import models_in
from engine.action.registry import Registered, Registry
from engine.admin.mutes import mute_view
from engine.admin.views import iso, problem_views
from engine.config import ActionConfig, GateSpec, RouteConfig, WaitSpec, dump_masked
from engine.core.error_text import named_error
from engine.core.schedule import Active
from engine.core.vocabulary import ON_DEAD
from engine.rules.conditions import Filter
from engine.rules.decision import is_muting
from engine.rules.reload import LastReload, Loaded
from engine.rules.route import Route, RoutedAction
from engine.store.records import Control

_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}


def describe_routes(
    loaded: Loaded,
    mutes: Mapping[str, Control] | None = None,
    now: float = 0.0,
    undecided: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Every route in the order of the file, the disabled ones too, with what mutes it. Secrets are masked.

    ``undecided`` tells by route how often it was undecided for absence (see ``engine.telemetry.metrics``).
    """
    open_ones = undecided or {}
    muted = {route: mute_view(mute) for route, mute in (mutes or {}).items() if is_muting(mute, now)}
    routes = [
        _route(written, loaded.router.routes.get(written.id), now)
        | {"muted": muted.get(written.id), "undecided": open_ones.get(written.id)}
        for written in loaded.config.routes
    ]
    masked: list[dict[str, Any]] = loaded.masker.tree(routes)
    return masked


def _route(written: RouteConfig, live: Route | None, now: float) -> dict[str, Any]:
    return {
        "id": written.id,
        "key": written.key,
        "keys": list(written.keys),
        "name": written.name or None,
        "enabled": written.enabled,
        "for_each": written.for_each,
        "stop": written.stop,
        "sample": written.sample,
        "conditions": _conditions(live.filter if live else None, written.filters),
        "needs": sorted(live.reads) if live else [],
        "active": _active(written.active, now),
        "wait_for": None if written.wait_for is None else _wait(written.wait_for),
        "actions": [_action(action, _live_action(live, action.name), now) for action in written.actions],
        "on_dead": [_action(action, _live_action(live, f"{ON_DEAD}{action.name}"), now) for action in written.on_dead],
    }


def _live_action(route: Route | None, name: str) -> RoutedAction | None:
    actions = (*route.actions, *route.on_dead) if route else ()
    return next((action for action in actions if action.name == name), None)


def _active(active: Active | None, now: float) -> dict[str, Any] | None:
    """Its hours, and whether now is one of them."""
    if active is None:
        return None
    return {"hours": str(active.schedule), "otherwise": active.otherwise, "open": active.schedule.is_open(now)}


def _wait(wait: WaitSpec) -> dict[str, Any]:
    return {"feedback": list(wait.feedback), "up_to": wait.up_to}


def _gate(spec: GateSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {"every": spec.every, "by": spec.by} | ({"max": spec.most} if spec.most else {})


def _action(written: ActionConfig, live: RoutedAction | None, now: float) -> dict[str, Any]:
    retry = None
    if live is not None:
        retry = {"policy": live.retry.kind, "attempts": live.retry.attempts, "within": live.retry.within}
    return {
        "name": written.name,
        "type": written.type,
        "when": [] if written.when is None else _conditions(live.when if live else None, written.when),
        "params": written.params,
        "timeout": live.timeout if live else written.timeout,
        "retry": retry,
        "throttle": _gate(written.throttle),
        "digest": _gate(written.digest),
        "active": _active(written.active, now),
    }


def _conditions(compiled: Filter | None, raw: Any) -> list[str]:
    """One line each: as compiled, or (of a disabled route) as written."""
    if compiled is not None:
        return [condition.text for condition in compiled.conditions]
    return [json.dumps(condition, ensure_ascii=False, default=str) for condition in raw or ()]


def describe_actions(registry: Registry) -> list[dict[str, Any]]:
    """Every action that can be used, by name."""
    return [describe_action(registered) for registered in registry]


def describe_action(registered: Registered) -> dict[str, Any]:
    """One action: its documentation, its parameters, where it comes from, and how it is written in YAML."""
    return {
        "name": registered.name,
        "summary": registered.summary,
        "doc": inspect.getdoc(registered.action) or "",
        "origin": registered.origin,
        "builtin": registered.builtin,
        "needs": sorted(registered.action.needs),
        "lacks": _lacks(registered),
        "parameters": list(_parameters(registered.params)),
        "example": example_of(registered),
        "short": short_example_of(registered),
    }


def _lacks(registered: Registered) -> str:
    """What is missing here for the action to work, with the way to get it."""
    try:
        return registered.action.lacks()
    except BaseException as error:  # noqa: BLE001 - foreign code, asked only to be shown
        return named_error(error)


def _parameters(model: type[BaseModel], prefix: str = "") -> Iterator[dict[str, Any]]:
    """One row a parameter; those of a nested model follow it, under its name."""
    for name, field in model.model_fields.items():
        shown = f"{prefix}{field.alias or name}"
        yield {
            "name": shown,
            "type": type_in_words(field.annotation),
            "required": field.is_required(),
            "default": None if field.is_required() else _default(field),
            "description": field.description or "",
        }
        for nested in models_in(field.annotation):
            yield from _parameters(nested, f"{shown}.")


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True, validated_data={})
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else json.loads(json.dumps(value, default=str))


def type_in_words(annotation: Any) -> str:
    """A type as the author of a YAML file thinks of it: ``text or null``, ``list of text``, ``low | high``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_in_words(inner[0])
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_in_words(one) for one in inner))
    if annotation in _NAMES:
        return _NAMES[annotation]
    return _container_in_words(origin or annotation, inner)


def _container_in_words(outer: Any, inner: tuple[Any, ...]) -> str:
    if not inspect.isclass(outer):
        return str(outer).removeprefix("typing.")
    if issubclass(outer, (BaseModel, Mapping)):
        values = type_in_words(inner[1]) if len(inner) == 2 else "anything"
        return "mapping" if values == "anything" else f"mapping to {values}"
    if issubclass(outer, (list, tuple, set, frozenset)):
        return f"list of {type_in_words(inner[0])}" if inner else "list"
    return str(outer.__name__)


def example_of(registered: Registered) -> str:
    """The action as an item of ``actions``: with what it requires or has an example of, or its first parameter."""
    fields = registered.params.model_fields
    shown = {name: field for name, field in fields.items() if field.is_required() or field.examples}
    chosen = shown or dict(list(fields.items())[:1])
    lines = [f"- {registered.name}:" + ("" if chosen else " {}")]
    lines += [f"    {field.alias or name}: {_sample_value(name, field)}" for name, field in chosen.items()]
    return "\n".join(lines)


def short_example_of(registered: Registered) -> str:
    """The action with its main parameter alone; empty where it has none, or cannot do without others."""
    main, fields = registered.action.main, registered.params.model_fields
    if not main:
        return ""
    try:
        added = set(registered.action.defaults({main: ""}, ()))
    except BaseException:  # noqa: BLE001 - foreign code, asked only to be shown
        return ""
    if any(field.is_required() for name, field in fields.items() if name not in {main, *added}):
        return ""
    return f"- {registered.name}: {_sample_value(main, fields[main])}"


def _sample_value(name: str, field: FieldInfo) -> str:
    if field.examples:
        return json.dumps(field.examples[0], ensure_ascii=False)
    words = type_in_words(field.annotation)
    if "url" in name:
        return '["https://example.com/hook"]' if words.startswith("list") else "https://example.com/hook"
    if words.startswith("mapping"):
        return '{answer: "{{ run.outputs }}"}'
    if words.startswith("list"):
        return '["{{ run.name }}"]'
    if " | " in words:
        return words.partition(" | ")[0]
    return {"integer": "1", "number": "1.0", "true or false": "true"}.get(words, '"{{ run.name }}"')


def describe_config(loaded: Loaded, last: LastReload) -> dict[str, Any]:
    """The configuration in use, secrets masked, and how its latest reload went."""
    shown: dict[str, Any] = loaded.masker.tree(
        {
            "file": loaded.config.file,
            "hash": loaded.config.hash,
            "loaded_at": iso(loaded.at),
            "config": dict(loaded.config.shown),
            "yaml": dump_masked(loaded.config),
            "last_reload": {"at": iso(last.at), "good": last.good, "problems": problem_views(last.problems)},
            "broken_plugins": problem_views(loaded.broken),
        }
    )
    return shown
