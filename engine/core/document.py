"""Documents: what routes evaluate. LangSmith's payload narrowed to one run, plus the engine's own keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from engine.core.errors import DataMissing, DataTooLarge, NotNow
from engine.core.event import Event, Kind
from engine.core.feedback import feedback_error
from engine.core.times import iso_second, time_of
from engine.core.vocabulary import ITEM_WORDS

#: Parts of a run that LangSmith may store in object storage.
STORED_PARTS = ("inputs", "outputs")
#: The time of a feedback row without one.
_NEVER = datetime.min.replace(tzinfo=UTC)
#: Fields that may contain the link. LangSmith's changelog (June 2026) announces one without naming the field.
_LINK_KEYS: Final = ("url", "run_url", "trace_url", "app_url", "trace_link", "deep_link", "link", "app_path")
#: Characters that are invalid in URLs. Programs interpret them differently.
_NOT_IN_LINKS: Final = re.compile(r"""[\x00-\x20\x7f\\<>|"]""")


class Missing:
    """Placeholder for missing data in a document. Any access raises ``DataMissing``.

    A condition that reads it is undecided, so that a route neither matches nor fails to match by accident. A delivery
    that reads it is retried. ``too_large``: the data is too large to be fetched, so a retry cannot help; the access
    raises ``DataTooLarge``.
    """

    __slots__ = ("need", "reason", "too_large")

    def __init__(self, need: str, reason: str, *, too_large: bool = False) -> None:
        self.need = need
        self.reason = reason
        self.too_large = too_large

    def _raise(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise (DataTooLarge if self.too_large else DataMissing)(f"{self.need}: {self.reason}")

    __getitem__ = __iter__ = __len__ = __contains__ = __str__ = __bool__ = __call__ = _raise
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __int__ = __float__ = _raise
    __hash__ = _raise

    def __eq__(self, other: object) -> bool:
        self._raise()

    def __repr__(self) -> str:
        return f"<{self.need} not available: {self.reason}>"


@dataclass(frozen=True, slots=True)
class Fetched:
    """The data that was fetched for one event; see ``run_key`` for the keys.

    ``feedback`` is None if it was never requested. ``errors`` has, by need ("inputs", "outputs", "feedback"), why data
    could not be fetched. ``too_large`` has, by need and run, why data exceeds the limit. ``later`` has, by need, why it
    cannot be requested now. These three are not stored.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    feedback: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    too_large: Mapping[tuple[str, str], str] = field(default_factory=dict)
    later: Mapping[str, NotNow] = field(default_factory=dict)

    def merge(self, other: Fetched) -> Fetched:
        """Combine with newer results. ``other`` wins; an error remains until data for its need arrives."""
        fetched = {"inputs": other.inputs, "outputs": other.outputs, "feedback": other.feedback}
        failed = [need for need in self.errors if not fetched.get(need) and need not in other.errors]
        return Fetched(
            {**self.inputs, **other.inputs},
            {**self.outputs, **other.outputs},
            self.feedback if other.feedback is None else {**(self.feedback or {}), **other.feedback},
            {**{need: self.errors[need] for need in failed}, **other.errors},
            {**self.too_large, **other.too_large},
            {**{need: why for need, why in self.later.items() if need in failed}, **other.later},
        )

    def beyond(self, other: Fetched) -> Fetched:
        """The data that is not in ``other`` or differs there."""
        feedback = _new(self.feedback or {}, other.feedback or {})
        return Fetched(_new(self.inputs, other.inputs), _new(self.outputs, other.outputs), feedback or None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.inputs or self.outputs or self.feedback)

    def later_for(self, needs: Collection[str]) -> NotNow | None:
        """Why some of these needs cannot be requested now; of several reasons the one that lasts longest."""
        found = [why for need, why in self.later.items() if need in needs]
        return max(found, key=lambda why: why.due_at(0.0), default=None)

    def to_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "feedback": self.feedback}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Fetched:
        """Restore it from the store; None means nothing was fetched."""
        data = data or {}
        return cls(data.get("inputs") or {}, data.get("outputs") or {}, data.get("feedback"))


_ABSENT = object()


def _new(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not known, or differ. Identical objects are not compared in depth."""
    return {
        key: value for key, value in values.items() if (old := known.get(key, _ABSENT)) is not value and old != value
    }


def run_indexes(event: Event) -> list[int]:
    """The indexes of the event's runs; ``[-1]``, the whole event, if it has none."""
    runs = event.payload.get("runs")
    return list(range(len(runs))) if isinstance(runs, list) and runs else [-1]


def runs_in(documents: Collection[int], indexes: Sequence[int]) -> int:
    """The number of runs in some documents of an event; an event without runs counts as one."""
    return len(indexes) if -1 in documents else len(documents)


def runs_at(event: Event, index: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The runs of a document with their keys: one, or all at index -1. Values that are not objects are left out."""
    runs = event.payload.get("runs")
    if not isinstance(runs, list):
        return
    for place in range(len(runs)) if index < 0 else (index,):
        if isinstance(run := runs[place], dict):
            yield run_key(run, place), run


def run_id(run: Any) -> str | None:
    """A run's id, or None if it has no usable one."""
    found = run.get("id") if isinstance(run, dict) else None
    return found if isinstance(found, str) and found else None


def has_run_id(event: Event, index: int) -> bool:
    """Whether a document is about a run that can be requested from LangSmith."""
    return any(run_id(run) is not None for _, run in runs_at(event, index))


def run_id_at(event: Event, index: int) -> str | None:
    """The id of the run at an index; None for the whole event (-1)."""
    return next((run_id(run) for _, run in runs_at(event, index)), None) if index >= 0 else None


def run_key(run: Mapping[str, Any], index: int) -> str:
    """The key of a run in ``Fetched``: its id, or its index if it has none."""
    return run_id(run) or f"#{index}"


def presigned_url(run: Mapping[str, Any], part: str) -> str | None:
    """The URL of a run's ``inputs`` or ``outputs`` in object storage, if the webhook does not contain them."""
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
    web_url: str | None,
    vars: Mapping[str, Any],  # noqa: A002 - the word in YAML
) -> dict[str, Any]:
    """The document for one run, or for the whole event at index -1. The router adds ``route``.

    ``web_url`` is LangSmith's web address, such as ``https://smith.langchain.com``; None if it is not known.

    Data that is neither in the payload nor in ``fetched`` is ``Missing``. The event's objects are shared,
    not changed.
    """
    payload = event.payload
    own = _narrow(payload, index, fetched)
    run = own["runs"][0] if index >= 0 else None
    run = run if isinstance(run, dict) else None
    stats = run.get("feedback_stats") if run is not None else None
    feedbacks = _feedbacks(event, index, fetched)
    return {
        **own,
        **(_runs_with_computed(own, web_url) if index < 0 else {}),
        "payload": own,
        "run": None if run is None else _with_computed(run, web_url),
        "feedback": feedbacks if isinstance(feedbacks, Missing) else newest_by_key(feedbacks),
        "feedbacks": feedbacks,
        "feedback_stats": payload.get("feedback_stats") if stats is None else stats,
        "event": event.word,
        "vars": vars,
        **_commit(event),
    }


def _runs_with_computed(payload: Mapping[str, Any], web_url: str | None) -> dict[str, Any]:
    """The key ``runs`` of a whole event: each run with the computed fields of ``run``."""
    if not isinstance(runs := payload.get("runs"), list):
        return {}
    return {"runs": [_with_computed(run, web_url) if isinstance(run, dict) else run for run in runs]}


def _commit(event: Event) -> dict[str, Any]:
    """The key ``commit`` of a Context Hub webhook. Other webhooks have none."""
    data = event.payload.get("data") if event.kind is Kind.CONTEXT_HUB else None
    commit = data.get("commit") if isinstance(data, dict) else None
    return {"commit": commit} if isinstance(commit, dict) else {}


def digest_document(documents: Sequence[Mapping[str, Any]], received: Sequence[float]) -> dict[str, Any]:
    """The document of a digest: the first item's document, plus all items in ``items``.

    ``received`` are the times at which the events were received, in Unix seconds.
    """
    items = [{word: document[word] for word in ITEM_WORDS if word in document} for document in documents]
    digest = {"count": len(items), "since": iso_second(min(received)), "until": iso_second(max(received))}
    return {**documents[0], "items": items, "digest": digest}


def _narrow(payload: Mapping[str, Any], index: int, fetched: Fetched) -> dict[str, Any]:
    runs = payload.get("runs")
    if not isinstance(runs, list):
        return dict(payload)
    places = (index,) if index >= 0 else range(len(runs))
    return {**payload, "runs": [_filled(runs[place], place, fetched) for place in places]}


def _filled(run: Any, index: int, fetched: Fetched) -> Any:
    """A copy of a run with the fetched data inserted."""
    if not isinstance(run, dict):
        return run
    copy = run.copy()
    for part, got in ("inputs", fetched.inputs), ("outputs", fetched.outputs):
        if presigned_url(run, part) is not None:
            key = run_key(run, index)
            copy[part] = got[key] if key in got else _missing(part, key, fetched)
    return copy


def _missing(need: str, key: str, fetched: Fetched) -> Missing:
    if (reason := fetched.too_large.get((need, key))) is not None:
        return Missing(need, reason, too_large=True)
    return Missing(need, fetched.errors.get(need, "the webhook does not contain it, and it was not fetched"))


def is_too_large(document: Mapping[str, Any], needs: Collection[str]) -> bool:
    """Whether data for ``needs`` is missing from a document, and all of it is too large to be fetched."""
    runs = [run for run in document.get("runs") or () if isinstance(run, dict)]
    values = [run.get(need) for need in STORED_PARTS if need in needs for run in runs]
    values += [document["feedbacks"]] if "feedback" in needs else []
    missing = [value for value in values if isinstance(value, Missing)]
    return bool(missing) and all(value.too_large for value in missing)


def _feedbacks(event: Event, index: int, fetched: Fetched) -> list[Mapping[str, Any]] | Missing:
    """The feedback rows of all runs with an id."""
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
    """The newest row by feedback key (``modified_at``, else ``created_at``); of equals the later one.

    Error rows contain no score and are left out.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if feedback_error(row) is not None:
            continue
        # Times are parsed only if a key has several rows. Most have one.
        if isinstance(key := row.get("key"), str) and (key not in newest or _changed(row) >= _changed(newest[key])):
            newest[key] = row
    return newest


def _changed(row: Mapping[str, Any]) -> datetime:
    return time_of(row.get("modified_at")) or time_of(row.get("created_at")) or _NEVER


def _with_computed(run: dict[str, Any], web_url: str | None) -> dict[str, Any]:
    copy = run.copy()
    copy["url"] = run_link(run, web_url)
    copy["latency"] = seconds_between(run.get("start_time"), run.get("end_time"))
    copy["cost"] = _cost(run.get("total_cost"))
    return copy


def _cost(value: Any) -> float | None:
    """A cost as a number. LangSmith writes it as text. None for other values."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        cost = float(value)
    except ValueError:
        return None
    return cost if isfinite(cost) else None


def seconds_between(start: object, end: object) -> float | None:
    """The seconds between two times in data, or None if one of them is not a time."""
    if not (isinstance(start, str) and isinstance(end, str)):
        return None
    try:
        # LangSmith writes both without a zone. Adding the zone first would double the cost.
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        began, ended = time_of(start), time_of(end)
        return None if began is None or ended is None else (ended - began).total_seconds()


def run_link(run: Mapping[str, Any], web_url: str | None) -> str | None:
    """The URL of a run's page, or None if it is not known.

    ``web_url`` is LangSmith's web address. A link sent by LangSmith takes precedence over ``app_path``, which has no
    host.
    """
    if web_url is None:
        return None
    if (sent := _sent_link(run, web_url)) is not None:
        return sent
    path = run.get("app_path")
    return web_url.rstrip("/") + path if isinstance(path, str) and path.startswith("/") else None


def _sent_link(run: Mapping[str, Any], web_url: str) -> str | None:
    """The link in the run.

    A run can contain text from anyone, so only links to LangSmith's host are used. In a field that is not in
    ``_LINK_KEYS`` the link must also contain the id of the run or its trace.
    """
    for key in _LINK_KEYS:
        if key in run and _leads_to(run[key], web_url):
            return str(run[key])
    for key in run:  # runs for every run, so it must be fast
        if ("url" in key or "link" in key) and _leads_to(run[key], web_url) and _names_run(run[key], run):
            return str(run[key])
    return None


def _leads_to(link: object, web_url: str) -> bool:
    """Whether a value is unambiguously an http or https URL on the host of ``web_url``."""
    if not isinstance(link, str) or not link.startswith(("https://", "http://")):
        return False
    return (
        link.isascii()
        and not _NOT_IN_LINKS.search(link)
        and (host := _host(link)) is not None
        and host == _host(web_url)
    )


def _names_run(link: str, run: Mapping[str, Any]) -> bool:
    """Whether a link leads to this run or its trace and requires login. A public share does not."""
    ids = (run.get("id"), run.get("trace_id"))
    return "/public/" not in link and any(id_ in link for id_ in ids if isinstance(id_, str) and id_)


def _host(url: str) -> tuple[str, int | None] | None:
    """A URL's host, and its port if not the default; None if it has no host or contains credentials."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in parts.netloc:
        return None
    return host, None if port == {"http": 80, "https": 443}.get(parts.scheme) else port
