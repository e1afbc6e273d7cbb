"""Rows of LangSmith's API: ids, and conversions."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from engine.core.errors import Discard
from engine.core.feedback import feedback_error
from engine.core.masking import shortened
from engine.core.times import time_of

#: Ids in one query, and items in one addition to a queue: the API takes no more.
BATCH: Final = 100
#: How many characters of LangSmith's message are quoted.
_LONGEST_TEXT: Final = 300


def is_uuid(text: object) -> bool:
    """Whether a value is a UUID, like every id of LangSmith."""
    try:
        UUID(text if isinstance(text, str) else "")
    except ValueError:
        return False
    return True


def uuid_of(run: Mapping[str, Any], name: str) -> str | None:
    """A field of a run if it is a UUID, else None."""
    value = run.get(name)
    return value if is_uuid(value) else None


def check_run_id(run: Mapping[str, Any]) -> None:
    """Check that a run has a valid id.

    Raises:
        Discard: the id is not a UUID.
    """
    if uuid_of(run, "id") is None:
        raise Discard(f"the run's id {run.get('id')!r} is not a LangSmith id: those are UUIDs")


def refuse_error(row: Mapping[str, Any], key: str) -> None:
    """Check that a feedback row is not an error.

    Raises:
        Discard: LangSmith recorded it as an error.
    """
    if (why := feedback_error(row)) is not None:
        raise Discard(
            f"LangSmith recorded the feedback {key!r} as an error: {shortened(why, _LONGEST_TEXT)}"
            " (make it fit the key's configuration in LangSmith, or change that, then replay this delivery)"
        )


def queue_item(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as an item of an annotation queue, with the fields that locate it."""
    start = time_of(run.get("start_time"))
    located = {"session_id": uuid_of(run, "session_id"), "start_time": start.isoformat() if start else None}
    return {"item_type": "RUN", "run_id": run["id"], **{key: value for key, value in located.items() if value}}


async def selected(runs: AsyncIterable[Any], selects: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The requested columns of runs (models of the SDK), and their ids, by id."""
    rows = [run.model_dump(mode="json") async for run in runs]
    return {str(row["id"]): {"id": str(row["id"]), **{name: row.get(name) for name in selects}} for row in rows}
