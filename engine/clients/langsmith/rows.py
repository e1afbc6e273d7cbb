"""What goes to LangSmith's API and comes from it, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from engine.core.errors import Discard
from engine.core.feedback import feedback_error
from engine.core.masking import shortened
from engine.core.times import time_of

T = TypeVar("T")

#: Ids in one query, and items in one addition to a queue: the API takes no more.
BATCH: Final = 100
#: How much of LangSmith's words is passed on, in characters.
_LONGEST_TEXT: Final = 300


def batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as the API takes."""
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def is_uuid(text: object) -> bool:
    """Whether a text is an id of LangSmith's."""
    try:
        UUID(text if isinstance(text, str) else "")
    except ValueError:
        return False
    return True


def uuid_of(run: Mapping[str, Any], name: str) -> str | None:
    """A run's id of some kind, if it has a usable one."""
    value = run.get(name)
    return value if is_uuid(value) else None


def check_run_id(run: Mapping[str, Any]) -> None:
    """Do nothing if LangSmith can be asked about a run.

    Raises:
        Discard: its id is none of LangSmith's.
    """
    if uuid_of(run, "id") is None:
        raise Discard(f"the run's id {run.get('id')!r} is not one of LangSmith's: they are UUIDs")


def refuse_error(row: Mapping[str, Any], key: str) -> None:
    """Do nothing if a feedback row judges something.

    Raises:
        Discard: LangSmith recorded it as an error.
    """
    if (why := feedback_error(row)) is not None:
        raise Discard(
            f"LangSmith recorded the feedback {key!r} as an error: {shortened(why, _LONGEST_TEXT)}"
            " (make it fit the key's configuration in LangSmith, or change that, then replay this delivery)"
        )


def queue_item(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as an annotation queue takes it, with what locates it."""
    start = time_of(run.get("start_time"))
    located = {"session_id": uuid_of(run, "session_id"), "start_time": start.isoformat() if start else None}
    return {"item_type": "RUN", "run_id": run["id"], **{key: value for key, value in located.items() if value}}


def selected(row: Mapping[str, Any], selects: Sequence[str]) -> dict[str, Any]:
    """The columns of a run that were asked for, and its id."""
    return {"id": str(row["id"]), **{name: row.get(name) for name in selects}}
