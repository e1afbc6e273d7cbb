"""The data and settings of a LangSmith stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.testing.langsmith.rows import Row
from engine.testing.server import Refused


@dataclass(slots=True)
class State:
    """Tables by id (a queue's items by their identity), and settings for undocumented responses.

    ``feedback_conflict`` and ``queue_conflict``: a second POST of the same id, or of a run that
    is in the queue already, is a 409 instead of a 200. ``unknown_runs``: feedback and queue
    items on runs that are not there are accepted; without it they are a 404, as LangSmith
    answers while a run is still being ingested. ``creates_missing``: a dataset or queue that is
    asked for by its whole name or its id is created on the spot.
    """

    feedback_conflict: bool = False
    queue_conflict: bool = False
    unknown_runs: bool = True
    creates_missing: bool = False
    flags: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, Row] = field(default_factory=dict)
    examples: dict[str, Row] = field(default_factory=dict)
    feedback: dict[str, Row] = field(default_factory=dict)
    feedback_configs: dict[str, Row] = field(default_factory=dict)
    queues: dict[str, Row] = field(default_factory=dict)
    queue_items: dict[tuple[str, ...], Row] = field(default_factory=dict)
    runs: dict[str, Row] = field(default_factory=dict)
    rules: dict[str, Row] = field(default_factory=dict)
    shares: dict[str, str] = field(default_factory=dict)

    @property
    def wants_projects(self) -> bool:
        """Whether the backend uses SmithDB only, which requires the project of feedback."""
        return not self.flags.get("ch_query_enabled", True) and bool(self.flags.get("sdb_query_enabled"))

    def need_run(self, run_id: str | None) -> None:
        """Check that feedback or a queue may refer to this run.

        Raises:
            Refused: 404, it does not exist (yet).
        """
        if not self.unknown_runs and run_id is not None and run_id not in self.runs:
            raise not_found("Run")


def not_found(what: str) -> Refused:
    """LangSmith's 404."""
    return Refused(404, {"detail": f"{what} not found"})


def found(table: dict[str, Row], key: str, what: str) -> Row:
    """A row by its id.

    Raises:
        Refused: 404, there is none.
    """
    if key not in table:
        raise not_found(what)
    return table[key]
