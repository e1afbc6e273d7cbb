"""What a route sees: the payload as LangSmith documents it, narrowed to one run, with the engine's words beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from engine.core.errors import NotNow
from engine.core.event import Event, Kind
from engine.core.feedback import feedback_error
from engine.core.missing import Missing
from engine.core.run_link import run_link
from engine.core.times import iso_second, seconds_between, time_of
from engine.core.vocabulary import ITEM_WORDS

#: Parts of a run that LangSmith may leave in object storage.
STORED_PARTS = ("inputs", "outputs")
#: When a feedback row was changed that doesn't tell.
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What hydration got for one event; see ``run_key`` for the keys.

    ``feedback`` is None when it was never asked for. ``errors`` says per need ("inputs",
    "outputs", "feedback") why data could not be had. ``lost`` says per need and run that it is too large to be fetched,
    ``later`` per need that it can't be asked for at the moment. These three are not stored.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    feedback: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], str] = field(default_factory=dict)
    later: Mapping[str, NotNow] = field(default_factory=dict)

    @classmethod
    def nothing(cls) -> Fetched:
        """What is there before anything was fetched."""
        return cls()

    def merge(self, other: Fetched) -> Fetched:
        """Both together. What ``other`` got counts; an error stands until its need brings something."""
        feedback = self.feedback
        if other.feedback is not None:
            feedback = {**(self.feedback or {}), **other.feedback}
        came = {"inputs": other.inputs, "outputs": other.outputs, "feedback": other.feedback}
        open_ = {need for need in self.errors if not came.get(need) and need not in other.errors}
        return Fetched(
            {**self.inputs, **other.inputs},
            {**self.outputs, **other.outputs},
            feedback,
            {**{need: self.errors[need] for need in self.errors if need in open_}, **other.errors},
            {**self.lost, **other.lost},
            {**{need: why for need, why in self.later.items() if need in open_}, **other.later},
        )

    def beyond(self, other: Fetched) -> Fetched:
        """What is not in ``other``, or is not the same there."""
        feedback = _new(self.feedback or {}, other.feedback or {})
        return Fetched(_new(self.inputs, other.inputs), _new(self.outputs, other.outputs), feedback or None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.inputs or self.outputs or self.feedback)

    def later_for(self, needs: Collection[str]) -> NotNow | None:
        """Why some of the data can't be asked for at the moment; where there are several reasons, the longest one."""
        found = [why for need, why in self.later.items() if need in needs]
        return max(found, key=lambda why: why.due_at(0.0), default=None)

    def to_json(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "feedback": self.feedback}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Fetched:
        """Back from the store; None is nothing."""
        if not data:
            return cls()
        return cls(data.get("inputs") or {}, data.get("outputs") or {}, data.get("feedback"))


_ABSENT = object()


def _new(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are not known. Equal ones need no look inside where they are the same object."""
    return {
        key: value for key, value in values.items() if (old := known.get(key, _ABSENT)) is not value and old != value
    }


@dataclass(frozen=True, slots=True)
class Site:
    """Where people see runs. ``web_url`` is LangSmith's web address, such as ``https://smith.langchain.com``."""

    web_url: str | None


def run_indexes(event: Event) -> list[int]:
    """The places of the event's runs, or ``[-1]``, the whole event, where it has none."""
    runs = event.payload.get("runs")
    return list(range(len(runs))) if isinstance(runs, list) and runs else [-1]


def runs_in(documents: Collection[int], indexes: Sequence[int]) -> int:
    """How many runs there are in some documents of an event; one that has no runs counts as one."""
    return len(indexes) if -1 in documents else len(documents)


def runs_at(event: Event, index: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The runs that a document is about, with their keys: one, or all at index -1. What is no object is left out."""
    runs = event.payload.get("runs")
    if not isinstance(runs, list):
        return
    for place in range(len(runs)) if index < 0 else (index,):
        if isinstance(run := runs[place], dict):
            yield run_key(run, place), run


def run_id(run: Any) -> str | None:
    """A run's id, or None where it has none that could be asked for."""
    found = run.get("id") if isinstance(run, dict) else None
    return found if isinstance(found, str) and found else None


def has_run_id(event: Event, index: int) -> bool:
    """Whether a document is about a run that LangSmith can be asked about."""
    return any(run_id(run) is not None for _, run in runs_at(event, index))


def run_id_at(event: Event, index: int) -> str | None:
    """The id of the run at a place; the whole event (-1) is about no one run."""
    return next((run_id(run) for _, run in runs_at(event, index)), None) if index >= 0 else None


def run_key(run: Mapping[str, Any], index: int) -> str:
    """What ``Fetched`` files a run under: its id, or its place where it has none."""
    return run_id(run) or f"#{index}"


def presigned_url(run: Mapping[str, Any], part: str) -> str | None:
    """Where LangSmith left a run's ``inputs`` or ``outputs``, if it didn't send them along."""
    if run.get(part) is not None or not (urls := run.get(f"{part}_s3_urls")) or not isinstance(urls, dict):
        return None
    root = urls.get("ROOT")
    url = root.get("presigned_url") if isinstance(root, dict) else None
    return url if isinstance(url, str) and url else None


def build_document(
    event: Event,
    index: int,
    fetched: Fetched,
    *,
    site: Site,
    vars: Mapping[str, Any],  # noqa: A002 - the word in YAML
) -> dict[str, Any]:
    """The document for one run, or for the whole event at index -1. The router adds ``route``.

    Data that LangSmith keeps elsewhere and that isn't in ``fetched`` is ``Missing``. The event's
    own objects are not changed, and shared where they are the same (``event`` is, by all its documents).
    """
    payload = event.payload
    own = _narrow(payload, index, fetched)
    run = own["runs"][0] if index >= 0 else None
    run = run if isinstance(run, dict) else None
    stats = run.get("feedback_stats") if run is not None else None
    feedbacks = _feedbacks(event, index, fetched)
    return {
        **own,
        **(_runs_with_words(own, site) if index < 0 else {}),
        "payload": own,
        "run": None if run is None else _with_words(run, site),
        "feedback": feedbacks if isinstance(feedbacks, Missing) else newest_by_key(feedbacks),
        "feedbacks": feedbacks,
        "feedback_stats": payload.get("feedback_stats") if stats is None else stats,
        "event": event.word,
        "vars": vars,
        **_commit(event),
    }


def _runs_with_words(payload: Mapping[str, Any], site: Site) -> dict[str, Any]:
    """The word ``runs`` of a whole event: each with what ``run`` has beside LangSmith's own fields."""
    if not isinstance(runs := payload.get("runs"), list):
        return {}
    return {"runs": [_with_words(run, site) if isinstance(run, dict) else run for run in runs]}


def _commit(event: Event) -> dict[str, Any]:
    """The word ``commit``: what a Context Hub webhook is about. Other webhooks have none."""
    data = event.payload.get("data") if event.kind is Kind.CONTEXT_HUB else None
    commit = data.get("commit") if isinstance(data, dict) else None
    return {"commit": commit} if isinstance(commit, dict) else {}


def digest_document(documents: Sequence[Mapping[str, Any]], received: Sequence[float]) -> dict[str, Any]:
    """The document of a digest: the first item's, with all of them in ``items``.

    ``received`` are the times at which their events were received, in Unix seconds.
    """
    items = [{word: document[word] for word in ITEM_WORDS if word in document} for document in documents]
    digest = {"count": len(items), "since": iso_second(min(received)), "until": iso_second(max(received))}
    return {**documents[0], "items": items, "digest": digest}


def _narrow(payload: Mapping[str, Any], index: int, fetched: Fetched) -> dict[str, Any]:
    runs = payload.get("runs")
    if not isinstance(runs, list):
        return dict(payload)
    if index >= 0:
        return {**payload, "runs": [_filled(runs[index], index, fetched)]}
    return {**payload, "runs": [_filled(run, place, fetched) for place, run in enumerate(runs)]}


def _filled(run: Any, index: int, fetched: Fetched) -> Any:
    """A copy of a run with what was fetched in its place."""
    if not isinstance(run, dict):
        return run
    copy = run.copy()
    if presigned_url(run, "inputs") is not None:
        copy["inputs"] = _part(run, index, "inputs", fetched.inputs, fetched)
    if presigned_url(run, "outputs") is not None:
        copy["outputs"] = _part(run, index, "outputs", fetched.outputs, fetched)
    return copy


def _part(run: Mapping[str, Any], index: int, part: str, got: Mapping[str, Any], fetched: Fetched) -> Any:
    key = run_key(run, index)
    return got[key] if key in got else _missing(part, key, fetched)


def _missing(need: str, key: str, fetched: Fetched) -> Missing:
    lost = fetched.lost.get((need, key))
    if lost is not None:
        return Missing(need, lost, for_good=True)
    return Missing(need, fetched.errors.get(need, "LangSmith did not send it along, and it was not fetched"))


def lost_for_good(document: Mapping[str, Any], needs: Collection[str]) -> bool:
    """Whether some of the data that is read is missing from a document, and all of that is too large to be fetched."""
    runs = [run for run in document.get("runs") or () if isinstance(run, dict)]
    values = [run.get(need) for need in STORED_PARTS if need in needs for run in runs]
    values += [document["feedbacks"]] if "feedback" in needs else []
    missing = [value for value in values if isinstance(value, Missing)]
    return bool(missing) and all(value.for_good for value in missing)


def _feedbacks(event: Event, index: int, fetched: Fetched) -> list[Mapping[str, Any]] | Missing:
    """The feedback rows of the runs with an id; what has no such run has no feedback."""
    runs = event.payload.get("runs")
    if not isinstance(runs, list):
        return []
    rows: list[Mapping[str, Any]] = []
    for run in runs if index < 0 else (runs[index],):
        if (id_ := run_id(run)) is None:
            continue
        found = fetched.feedback.get(id_) if fetched.feedback is not None else None
        if found is None:
            return _missing("feedback", id_, fetched)
        rows.extend(found)
    return rows


def newest_by_key(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By feedback key the row that was changed last (``modified_at``, else ``created_at``); of equals the later one.

    Rows that are errors judge nothing, so they are left out.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if feedback_error(row) is not None:
            continue
        # Times are read only where two rows compete: most keys have one.
        if isinstance(key := row.get("key"), str) and (key not in newest or _changed(row) >= _changed(newest[key])):
            newest[key] = row
    return newest


def _changed(row: Mapping[str, Any]) -> datetime:
    return time_of(row.get("modified_at")) or time_of(row.get("created_at")) or _NEVER


def _with_words(run: dict[str, Any], site: Site) -> dict[str, Any]:
    words = run.copy()
    words["url"] = run_link(run, site.web_url)
    words["latency"] = seconds_between(run.get("start_time"), run.get("end_time"))
    words["cost"] = _cost(run.get("total_cost"))
    return words


def _cost(value: Any) -> float | None:
    """A number, also of the text that LangSmith writes costs as; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        cost = float(value)
    except ValueError:
        return None
    return cost if isfinite(cost) else None
