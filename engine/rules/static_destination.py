"""The destination of an action's deliveries, as far as its configuration alone decides it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from engine.action.registry import Registered


class _Open(Exception):  # noqa: N818 - a signal, not an error
    """A parameter was read that an event decides."""


class _Written:
    """The parameters as written. Reading one that an event decides raises ``_Open``."""

    def __init__(self, registered: Registered, tree: Mapping[str, Any], templated: Collection[object]) -> None:
        self._fields, self._tree, self._templated = registered.params.model_fields, tree, templated

    def __getattr__(self, name: str) -> Any:
        if name in self._templated:
            raise _Open(name)
        if name in self._tree:
            return self._tree[name]
        if name not in self._fields:
            raise AttributeError(name)
        return self._fields[name].get_default(call_default_factory=True, validated_data={})


def static_destination(registered: Registered, tree: Any, templated: Collection[object]) -> str | None:
    """The destination of every delivery; None where an event decides it.

    ``templated`` are the parameters that an event decides. Call it for built-in actions only:
    their ``destination`` accepts parameters that are not checked yet.
    """
    if not isinstance(tree, Mapping):
        return None
    try:
        return str(registered.action.destination(_Written(registered, tree, templated)) or registered.name)
    except _Open:
        return None
    except Exception:  # noqa: BLE001 - invalid parameters are reported by their check
        return None
