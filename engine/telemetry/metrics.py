"""Metrics for Prometheus: counted by an observer, and read from the engine's parts when a page is requested.

Counting costs an addition: prometheus_client's own counters and histograms take five to eight times as long. Texts and
sums are made when a page is requested, in a thread.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from engine.core.counters import Counts, Distribution, Distributions, Labels, Names
from engine.core.errors import StoreError
from engine.core.event import Event
from engine.core.offload import in_thread
from engine.rules.decision import Decision, Routing
from engine.store.queries import Backlog
from engine.store.records import Again, Appended, Attempt, Dead, Wait, Work
from engine.worker.attempt import AttemptResult, Job
from engine.worker.observer import HeldBack, Observer

#: How many routes, and how many destinations, have their own labels. All others are counted as ``other``.
MOST_ROUTES = MOST_DESTINATIONS = 200
#: How long the store may take to report its backlog, in seconds. After that the page is made without it.
_BACKLOG_TIMEOUT = 2.0
_ACCEPT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ATTEMPT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)

#: The maximum number of remembered pauses: several destinations may share a label. The oldest are dropped first.
_MOST_PAUSES = 10_000

#: How many different absent values are counted for one route: their number depends on the data.
_MOST_PARTS = 20

#: Reads a gauge: a number, or numbers by label values.
Read = Callable[[], float | Mapping[Labels, float]]
Source = TypeVar("Source", Counts, Distribution, Distributions)


@dataclass(frozen=True, slots=True)
class _Described:
    """The name, help text and labels of a metric, and the source of its values."""

    name: str
    help: str
    labels: Sequence[str]
    source: Counts | Distribution | Distributions | Read

    def family(self) -> Metric:
        """The metric with its current values."""
        match self.source:
            case Counts():
                counter = CounterMetricFamily(self.name, self.help, labels=self.labels)
                for labels, value in self.source.read().items():
                    counter.add_metric(labels, value)
                return counter
            case Distribution() | Distributions():
                histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
                for labels, one in self.source.all().items():
                    histogram.add_metric(labels, *one.read())
                return histogram
        gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        found = self.source()
        for labels, value in (found if isinstance(found, Mapping) else {(): found}).items():
            gauge.add_metric(labels, value)
        return gauge


class Metrics(Observer, Collector):
    """Counts as an observer, and is collected by ``registry``, which is never the global one.

    ``routes`` returns the ids of the current routes, and ``knows`` whether a route has an action. ``backlog`` queries
    the store. ``mask`` removes secrets from label values. ``rejections`` are all reasons for rejecting a webhook. Set
    ``unready`` to the function that says why events would not be accepted, and ``in_memory`` to the one that counts
    the deliveries waiting in memory by destination. Other metrics are added with ``show`` and ``gauge``.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        routes: Callable[[], Iterable[str]],
        backlog: Callable[[], Awaitable[Backlog]],
        mask: Callable[[str], str] = str,
        knows: Callable[[str, str], bool] = lambda _route, _action: True,
        rejections: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._knows, self._registry, self._ask, self._mask, self._clock = knows, registry, backlog, mask, clock
        self._route_ids = routes
        self._routes, self._destinations = Names(MOST_ROUTES), Names(MOST_DESTINATIONS)
        self._backlog: Backlog | None = None
        self._obstacle = ""
        self.unready: Callable[[], Awaitable[str]] = _ready
        self.in_memory: Callable[[], Mapping[str, int]] = dict
        self._in_memory: Mapping[str, int] = {}
        self._pauses: dict[str, tuple[str, float | None]] = {}
        self._good, self._hash, self._tried_at, self._loaded_at = True, "", 0.0, 0.0
        self._described: list[_Described] = []
        self._show_counters()
        self._show_gauges()
        # They exist from the start: a series that begins with 1 has no increase that an alert could see.
        for reason in rejections:
            self._rejected.add(reason, amount=0)
        registry.register(self)
        ProcessCollector(registry=registry)

    def _show_counters(self) -> None:
        show = self.show
        self._accepted = show("engine_events_accepted", "Events stored and answered with 202.", Counts(), "kind")
        self._duplicates = show("engine_events_duplicate", "Copies of an event, which were ignored.", Counts(), "kind")
        self._rejected = show("engine_requests_rejected", "Webhooks that were not accepted.", Counts(), "reason")
        self._evaluations = show("engine_evaluations", "Evaluations of events.", Counts(), "outcome")
        self._decisions = show(
            "engine_decisions", "Verdicts of routes, on a run or an event.", Counts(), "route", "verdict"
        )
        self._undecided = show("engine_undecided", "Verdicts undecided because a value was absent.", Counts(), "route")
        self._unmatched = show(
            "engine_events_unmatched", "Events that only * routes matched, or none.", Counts(), "reason"
        )
        self._held_back = show(
            "engine_deliveries_held_back", "Matches that made no delivery of their own.", Counts(), "route", "why"
        )
        self._attempts = show(
            "engine_attempts", "Attempts at deliveries.", Counts(), "route", "action", "outcome", "reason"
        )
        self._paused = show("engine_destination_pauses", "How often a destination was paused.", Counts(), "destination")
        self._reloads = show("engine_reloads", "Reloads of the configuration.", Counts(), "result")
        self._accept = show(
            "engine_accept_seconds", "From a webhook's headers to its answer of 202.", Distribution(_ACCEPT)
        )
        self._waits = show(
            "engine_queue_wait_seconds", "From when a delivery was due to its attempt.", Distribution(_WAIT)
        )
        self._seconds = show("engine_attempt_seconds", "How long attempts took.", Distributions(_ATTEMPT), "action")

    def _show_gauges(self) -> None:
        gauge, running = self.gauge, (_version(), platform.python_version())
        gauge(
            "engine_ready",
            "1 while events would be accepted; else the reason.",
            lambda: {(self._obstacle,): float(not self._obstacle)},
            "reason",
        )
        gauge("engine_store_up", "1 while the store answers.", lambda: float(self._backlog is not None))
        gauge("engine_backlog", "Unfinished work: evaluations and deliveries.", self._read_backlog, "kind")
        gauge("engine_waiting_deliveries", "Deliveries that wait for a destination.", self._read_waiting, "destination")
        gauge("engine_dead", "Work that failed for good and waits for a replay.", self._read_dead)
        gauge("engine_oldest_waiting_seconds", "How long the oldest due work has waited.", self._read_oldest)
        gauge("engine_destination_paused", "1 while nothing is sent there.", self._read_pauses, "destination")
        gauge("engine_reload_good", "1 if the latest reload succeeded.", lambda: float(self._good))
        gauge("engine_reload_timestamp_seconds", "When the configuration was last reloaded.", lambda: self._tried_at)
        gauge("engine_config_timestamp_seconds", "When the current configuration was loaded.", lambda: self._loaded_at)
        gauge("engine_config_info", "The current configuration.", lambda: {(self._hash,): 1.0}, "hash")
        gauge("engine_build_info", "The running version.", lambda: {running: 1.0}, "version", "python")

    def show(self, name: str, help_: str, source: Source, *labels: str) -> Source:
        """Add counters or a histogram, and return them; ``_total`` is appended to the names of counters.

        Label values must be few, and not chosen by a sender.
        """
        self._described.append(_Described(name, help_, labels, source))
        return source

    def gauge(self, name: str, help_: str, read: Read, *labels: str) -> None:
        """Add a gauge. ``read`` is called when a page is requested, in any thread."""
        self._described.append(_Described(name, help_, labels, read))

    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels of every metric, by its name without ``_total``."""
        return {described.name: described.labels for described in self._described}

    # --- the page

    def collect(self) -> Iterator[Metric]:
        """Every metric with its current values."""
        for described in tuple(self._described):
            yield described.family()

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The text in the format that an Accept header requests, and its content type."""
        self._in_memory = self.in_memory()
        self._backlog, self._obstacle = await asyncio.gather(self._load_backlog(), self.unready())
        encode, content_type = choose_encoder(accept)
        return await in_thread(partial(encode, self._registry)), content_type

    async def _load_backlog(self) -> Backlog | None:
        try:
            async with asyncio.timeout(_BACKLOG_TIMEOUT):
                return await self._ask()
        except (StoreError, TimeoutError):
            return None

    def _read_backlog(self) -> Mapping[Labels, float]:
        found = self._backlog
        return {} if found is None else {("evaluate",): found.evaluations, ("deliver",): found.deliveries}

    def _read_waiting(self) -> Mapping[Labels, float]:
        found: dict[Labels, float] = {}
        stored = self._backlog.by_lane if self._backlog else {}
        for destination, count in (*stored.items(), *self._in_memory.items()):
            label = (self._destinations.meet(self._mask(destination)),)
            found[label] = found.get(label, 0) + count
        return found

    def _read_dead(self) -> Mapping[Labels, float]:
        return {} if self._backlog is None else {(): self._backlog.dead}

    def _read_oldest(self) -> Mapping[Labels, float]:
        if self._backlog is None:
            return {}
        since = self._backlog.oldest_due_at
        return {(): 0.0 if since is None else max(self._clock() - since, 0.0)}

    def _read_pauses(self) -> Mapping[Labels, float]:
        now, found = self._clock(), dict[Labels, float]()
        for label, until in self._pauses.copy().values():
            found[label,] = max(found.get((label,), 0.0), float(until is None or until > now))
        return found

    # --- as an observer

    def answered(self, outcome: str, seconds: float) -> None:
        """Count a request by its outcome."""
        if outcome in ("accepted", "duplicate"):
            self._accept.add(seconds)
        else:
            self._rejected.add(outcome)

    def accepted(self, event: Event, appended: Appended) -> None:
        """Count an event by its kind; duplicates separately."""
        (self._duplicates if appended.duplicate else self._accepted).add(event.kind.value)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Count each final verdict once, and the evaluation when it is complete."""
        if not (routing.wanting or routing.awaiting):
            self._evaluations.add("routed")
        for decision in routing.decisions:
            if decision.settled:
                self._decisions.add(self._routes.label(decision.route), decision.truth.name.lower())
                if decision.absent:
                    self._undecided.add(self._routes.label(decision.route))
        if over and routing.unmatched_reason:
            self._unmatched.add(routing.unmatched_reason)

    def held_back(self, event: Event, route: str, action: str, why: HeldBack) -> None:
        """Count by route."""
        self._held_back.add(self._routes.label(route), why)

    def attempted(self, job: Job, result: AttemptResult, attempt: Attempt, then: Again | Dead | None) -> None:
        """Count by outcome and reason, and how long it waited and took."""
        action, failure = job.action.registered.name, result.failure
        self._attempts.add(
            self._routes.label(job.route.id), action, attempt.outcome, failure.reason_class if failure else ""
        )
        self._waits.add(max(result.started_at - job.work.due_at, 0.0))
        self._seconds.of(action).add(result.seconds)

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Count without the action, whose type is not known."""
        if work.kind == "evaluate":
            self._evaluations.add(attempt.outcome)
            return
        route = self._routes.label(work.route)
        known = self._knows(work.route, work.action)
        reason = "unconfigured" if not known else "overdue" if attempt.destination else "unexpected"
        self._attempts.add(route, "", attempt.outcome, reason)

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """Show the pause until its end, or until the destination is reopened."""
        name = self._mask(destination)
        label = self._destinations.meet(name)
        self._pauses.pop(name, None)
        self._pauses[name] = label, until_at
        if len(self._pauses) > _MOST_PAUSES:
            del self._pauses[next(iter(self._pauses))]
        self._paused.add(label)

    def reopened(self, destination: str) -> None:
        """Remove the pause."""
        self._pauses.pop(self._mask(destination), None)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Count the reload. Metrics of removed routes are removed."""
        self._good, self._hash, self._tried_at = not problems, config_hash, at
        self._reloads.add("bad" if problems else "good")
        if not problems:
            self._loaded_at = at
            self._routes.know(list(self._route_ids()))
            for one in (self._decisions, self._undecided, self._held_back, self._attempts):
                one.keep(lambda labels: self._routes.has(labels[0]))


async def _ready() -> str:
    return ""


def _version() -> str:
    try:
        return version("langsmith-rules-engine")
    except PackageNotFoundError:
        return "0"


# --- undecided routes -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Undecided:
    """One route's number of verdicts, how many of them were undecided because of an absent value, and which values."""

    verdicts: int = 0
    absent: int = 0
    parts: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        """Count a final verdict."""
        self.verdicts += 1
        if decision.absent:
            self.absent += 1
            if decision.absent in self.parts or len(self.parts) < _MOST_PARTS:
                self.parts[decision.absent] += 1

    @property
    def mostly(self) -> bool:
        """Whether more than half of the verdicts were undecided because of an absent value."""
        return self.absent * 2 > self.verdicts

    @property
    def part(self) -> str:
        """The value that was absent most often."""
        return self.parts.most_common(1)[0][0] if self.parts else ""

    def to_json(self) -> dict[str, Any]:
        """For the routes' views."""
        return {"absent": self.absent, "verdicts": self.verdicts, "mostly": self.mostly, "part": self.part}


def count_verdicts(decisions: Iterable[Decision], found: defaultdict[str, Undecided]) -> None:
    """Add the final verdicts to the counts by route."""
    for decision in decisions:
        if decision.settled:
            found[decision.route].add(decision)


class UndecidedRoutes(Observer):
    """Routes that never match because a value in their conditions is absent, so that users can be warned.

    Counts since the current configuration was loaded. ``mask`` removes secrets from what is shown.
    """

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._hash = ""
        self._found: defaultdict[str, Undecided] = defaultdict(Undecided)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Count every final verdict."""
        count_verdicts(routing.decisions, self._found)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Start again if the configuration changed."""
        if config_hash != self._hash:
            self._hash, self._found = config_hash, defaultdict(Undecided)

    def views(self) -> Mapping[str, dict[str, Any]]:
        """By route, those with verdicts that were undecided because of an absent value."""
        shown = {route: one.to_json() for route, one in self._found.items() if one.absent}
        return {route: one | {"part": self._mask(one["part"])} for route, one in shown.items()}
