"""What a replay of a delivery would send, by today's rules: rendered as it would be, sending nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.document import STORED_PARTS, Fetched
from engine.errors import ParamsError, WantOfData
from engine.event import Event
from engine.reload import Loaded
from engine.route import RoutedAction
from engine.vocabulary import ON_DEAD

#: What stands as the reason where data is not at hand.
WOULD_FETCH = "would be fetched from LangSmith"
#: The data that may be fetched.
FETCHED_PARTS = (*STORED_PARTS, "feedback")


def preview(loaded: Loaded, event: Event, fetched: Fetched, delivery: Mapping[str, Any]) -> dict[str, Any]:
    """What a delivery (as JSON for people) would come to, see ``rendered``; secrets are masked.

    ``note`` says what of it is not known here: a digest's other items, what another delivery died of.
    """
    found = loaded.router.find(delivery["route"], delivery["action"])
    if found is None:
        gone = f"{delivery['route']} → {delivery['action']} is not in today's configuration: it waits until it is"
        return {"would": "wait", "params": None, "error": gone, "note": ""}
    route, action = found
    if action.name.startswith(ON_DEAD):
        return {"would": "unknown", "params": None, "error": "", "note": "it tells what another delivery died of"}
    known = replace(fetched, errors=dict.fromkeys(FETCHED_PARTS, WOULD_FETCH) | dict(fetched.errors))
    place = (event, delivery["run_index"], known)
    note = "a digest: shown with the first of its items alone" if action.digests else ""
    shown = rendered(loaded.router.delivery_document(route, action, [place], None), action)
    masked: dict[str, Any] = loaded.masker.tree({**shown, "note": note})
    return masked


def rendered(document: Mapping[str, Any], action: RoutedAction) -> dict[str, Any]:
    """The parameters exactly as they would be sent, or why they can't be told.

    ``would`` says what the delivery would come to: ``fire``, ``wait`` for data, or ``die`` at once,
    for the ``reason`` that the store would keep (its ``hint`` stands apart).
    """
    try:
        params = action.params(document)
    except WantOfData as error:
        return {"would": "wait", "params": None, "error": f"not rendered: {error}"}
    except ParamsError as error:
        return {"would": "die", "params": None, "reason": error.words, "error": error.words, "hint": error.hint}
    return {
        "would": "fire",
        "params": params.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "destination": action.registered.action.destination(params),
    }
