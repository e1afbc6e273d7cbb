"""Where an action's deliveries go, told from what its author wrote: known before there is an event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from engine.action.registry import Registered


class _Open(Exception):  # noqa: N818 - says that there is no answer yet
    """A parameter was asked for that an event decides."""


class _Written:
    """The parameters as far as they are written; the others raise ``_Open``."""

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


def fixed_destination(registered: Registered, tree: Any, templated: Collection[object]) -> str | None:
    """The destination of every delivery; None where an event decides it.

    ``templated`` are the parameters in which something is left to an event. The action is
    one that the engine trusts to tell its destination from parameters that are not checked yet.
    """
    if not isinstance(tree, Mapping):
        return None
    try:
        return str(registered.action.destination(_Written(registered, tree, templated)) or registered.name)
    except _Open:
        return None
    except Exception:  # noqa: BLE001 - what it makes of odd parameters is told where they are checked
        return None
