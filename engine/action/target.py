"""An action's destination as far as its parameters as written determine it, and a hash of what determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from engine.action.registry import Registered
from engine.clients.langsmith.settings import LangSmithSettings
from engine.clients.slack import SlackSettings
from engine.core.variables import plain


class _AsWritten:
    """Parameters as written, including templates. Records which of them are read."""

    def __init__(self, registered: Registered, tree: Mapping[str, Any]) -> None:
        self._fields, self._tree = registered.params.model_fields, tree
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name not in self._fields:
            raise AttributeError(name)
        self.read.add(name)
        if name in self._tree:
            return self._tree[name]
        return self._fields[name].get_default(call_default_factory=True, validated_data={})


def static_destination(registered: Registered, tree: Any, templated: Collection[object]) -> str | None:
    """The destination of all deliveries of an action; None if it depends on the event.

    ``templated`` are the parameters that depend on the event. Call it for built-in actions only: their ``destination``
    accepts parameters that are not validated yet.
    """
    if not isinstance(tree, Mapping):
        return None
    written = _AsWritten(registered, tree)
    try:
        destination = str(registered.action.destination(written) or registered.name)
    except Exception:  # noqa: BLE001 - invalid parameters are reported elsewhere, and actions do not expect templates
        return None
    return destination if written.read.isdisjoint(templated) else None


def target_of(
    registered: Registered,
    tree: Any,
    author: Mapping[str, Any],
    services: Collection[LangSmithSettings | SlackSettings],
) -> str:
    """A hash that changes with the destination or the credential of an action. It is neither shown nor stored: short
    secrets could be guessed from it.

    ``tree`` are the parameters, with templates that only use ``author`` (the ``vars``) rendered. ``services`` are the
    settings of the services that the action uses. Other templates are hashed as written, because their values depend on
    the event. For a plug-in all parameters and its file are included.
    """
    leads = _leading(registered, tree) if registered.builtin else tree
    text = _json(plain(leads))
    named = author if "vars" in text else None
    return _hash([registered.name, registered.code, text, named, *map(_settings, services)])


def service_target(settings: LangSmithSettings | SlackSettings) -> str:
    """The same for a service that the engine itself uses."""
    return _hash(_settings(settings))


def _leading(registered: Registered, tree: Any) -> Any:
    """The parameters that the action reads to compute its destination; all if it fails on templates."""
    if not isinstance(tree, Mapping):
        return tree
    written = _AsWritten(registered, tree)
    try:
        registered.action.destination(written)
        registered.action.scope(written)
    except Exception:  # noqa: BLE001 - actions do not expect templates
        return tree
    return {name: tree.get(name) for name in sorted(written.read)}


def _settings(settings: LangSmithSettings | SlackSettings) -> Mapping[str, Any]:
    """All settings except the retention of traces, which does not affect the destination."""
    return {name: value for name, value in asdict(settings).items() if name != "retention"}


def _hash(value: object) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=str)
