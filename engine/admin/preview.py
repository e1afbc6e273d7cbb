"""What a replay of a delivery would send, by today's rules: rendered as it would be, sending nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.action.contract import whole_payload
from engine.core.document import STORED_PARTS, Fetched
from engine.core.error_text import named_error
from engine.core.errors import DataMissing, ParamsError
from engine.core.event import Event
from engine.rules.reload import Loaded
from engine.rules.route import RoutedAction

#: What stands as the reason where data is not at hand.
WOULD_FETCH = "would be fetched from LangSmith"
#: The data that may be fetched.
FETCHED_PARTS = (*STORED_PARTS, "feedback")


#: A document: an event, the place of a run in it (-1: the whole event), and what was fetched for it.
Place = tuple[Event, int, Fetched]


def preview(loaded: Loaded, places: Sequence[Place], delivery: Mapping[str, Any], *, gone: int = 0) -> dict[str, Any]:
    """What a delivery (as JSON for people) would come to, see ``rendered``; secrets are masked.

    ``places`` is the document that it is about, or of a digest those of its first items, without the ``gone``, whose
    events are no longer kept. ``note`` says what of it is not shown.
    """
    found = loaded.router.find(delivery["route"], delivery["action"])
    if found is None:
        reason = f"{delivery['route']} → {delivery['action']} is not in today's configuration: it waits until it is"
        return {"would": "wait", "params": None, "error": reason, "note": ""}
    route, action = found
    seen = [(event, index, _untold(fetched)) for event, index, fetched in places]
    shown = rendered(loaded.router.delivery_document(route, action, seen, delivery["words"]), action)
    note = _note(action, len(places), gone, len(delivery["items"]))
    masked: dict[str, Any] = loaded.masker.tree({**shown, "note": note})
    return masked


def _untold(fetched: Fetched) -> Fetched:
    return replace(fetched, errors=dict.fromkeys(FETCHED_PARTS, WOULD_FETCH) | dict(fetched.errors))


def _note(action: RoutedAction, shown: int, gone: int, items: int) -> str:
    """What is to be known of a digest beside what is shown."""
    notes = []
    if gone:
        notes.append(f"{gone} of the first {shown + gone} items are no longer kept, so it can't be replayed")
    if not action.digests and items > 1:
        notes.append("no digest any more: its other items would be sent on their own")
    elif shown + gone < items:
        notes.append(f"shown with the first {shown + gone} of {items} items")
    return "; ".join(notes)


def rendered(document: Mapping[str, Any], action: RoutedAction) -> dict[str, Any]:
    """The action's outline of what would be sent, or why it can't be told.

    ``would`` says what the delivery would come to: ``fire``, ``wait`` for data, or ``die`` at once,
    for the ``reason`` that the store would keep (its ``hint`` stands apart).
    """
    try:
        params = action.params(document)
    except DataMissing as error:
        return {"would": "wait", "params": None, "error": f"not rendered: {error}"}
    except ParamsError as error:
        return {"would": "die", "params": None, "reason": error.message, "error": error.message, "hint": error.hint}
    except BaseException as error:  # noqa: BLE001 - a plug-in's validators end here
        return {"would": "wait", "params": None, "error": f"not rendered: {named_error(error)}"}
    try:
        shown = dict(action.registered.action.outline(params, whole_payload(document, digest=action.digests)))
        return {"would": "fire", "params": shown, "destination": action.registered.action.destination(params)}
    except BaseException as error:  # noqa: BLE001 - a plug-in's own code, asked only to be shown
        return {"would": "fire", "params": None, "error": f"cannot be shown: {named_error(error)}"}
