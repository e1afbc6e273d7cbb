"""An action's parameters by name, with the defaults that the action adds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from engine.action.registry import Registered
from engine.config import ActionConfig, comment_hint, kind_of
from engine.core.error_text import named_error
from engine.core.positions import Source


def completed(written: ActionConfig, registered: Registered, words: Collection[str], source: Source) -> ActionConfig:
    """The action with its parameters as a mapping. If they cannot be one, that is reported to ``source``.

    ``words`` are those that its templates see besides the words of every document.
    """
    where, params = written.params_where, registered.parameters(written.params)
    if params is None:
        message = f"the parameters of {written.type!r} must be a mapping (key: value), not {kind_of(written.params)}"
        source.report(where, message, f"see 'engine actions {written.type}' for what it takes")
        return replace(written, params={})
    if not params and registered.action.main and (hint := comment_hint(source, where)):
        source.report(where, f"{written.type!r} has no value", hint, at_key=True)
        return replace(written, params={})
    try:
        added = registered.action.defaults(params, words)
    except BaseException as error:  # noqa: BLE001 - a plug-in may raise anything
        source.report(where, f"{written.type}.defaults raised {named_error(error)}", "fix the plug-in", at_key=True)
        added = {}
    return replace(written, params={**added, **params})
