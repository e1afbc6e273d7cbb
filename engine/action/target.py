"""What decides where an action's deliveries go: its URL, its credential, the service behind it, as they are written."""

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
    """Parameters as they are written, templates and all; it notes which of them are read."""

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


def target_of(
    registered: Registered,
    tree: Any,
    author: Mapping[str, Any],
    services: Collection[LangSmithSettings | SlackSettings],
) -> str:
    """A hash that changes with the destination or the credential of an action. It is neither shown nor stored: short
    secrets could be guessed from it.

    ``tree`` are the parameters with what ``author`` (the ``vars``) alone decides filled in; ``services`` are the
    settings of what the action goes through. A template counts as it is written: what an event makes of it is not
    known beforehand. Of a plug-in every parameter counts, and its file.
    """
    leads = _leading(registered, tree) if registered.builtin else tree
    text = _json(plain(leads))
    named = author if "vars" in text else None
    return _hash([registered.name, registered.code, text, named, *map(_settings, services)])


def service_target(settings: LangSmithSettings | SlackSettings) -> str:
    """The same of a service that the engine itself asks."""
    return _hash(_settings(settings))


def _leading(registered: Registered, tree: Any) -> Any:
    """Those of the parameters that the action reads to tell its destination; all where it can't tell from templates."""
    if not isinstance(tree, Mapping):
        return tree
    written = _AsWritten(registered, tree)
    try:
        registered.action.destination(written)
        registered.action.scope(written)
    except Exception:  # noqa: BLE001 - templates are not what an action expects
        return tree
    return {name: tree.get(name) for name in sorted(written.read)}


def _settings(settings: LangSmithSettings | SlackSettings) -> Mapping[str, Any]:
    """All but how long traces are kept, which leads nowhere."""
    return {name: value for name, value in asdict(settings).items() if name != "retention"}


def _hash(value: object) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=str)
