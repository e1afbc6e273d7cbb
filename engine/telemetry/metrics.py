"""What Prometheus is told: counted from what observers hear, and read from the engine's parts when it asks.

Counting costs an addition. Everything else (names, texts, sums) is work of the one who asks, and done in a thread.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from engine.action.failures import reason_class
from engine.core.counters import Counts, Distribution, Distributions, Labels, Names
from engine.core.errors import StoreError
from engine.core.event import Event
from engine.core.offload import in_thread
from engine.rules.decision import Routing
from engine.store.queries import Backlog
from engine.store.records import Again, Appended, Attempt, Dead, Wait, Work
from engine.worker.attempt import Job, Ran
from engine.worker.observer import HeldBack, Observer

#: So many routes have labels of their own; what happens to others is counted under ``other``.
MOST_ROUTES = 200
#: So many destinations have.
MOST_DESTINATIONS = 200
#: How long the store may take to tell its backlog, in seconds. Without it the page has all the rest.
_BACKLOG_WITHIN = 2.0
_ACCEPT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ATTEMPT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)

#: The most pauses that are remembered, for several destinations may share a label; the oldest go first.
_MOST_PAUSES = 10_000

#: What a gauge reads: a number, or numbers by the values of its labels.
Read = Callable[[], float | Mapping[Labels, float]]


@dataclass(frozen=True, slots=True)
class _Described:
    """One metric: how it is called, what it says, and where its numbers are."""

    name: str
    help: str
    labels: Sequence[str]
    source: Counts | Distribution | Distributions | Read

    def family(self) -> Metric:
        """As Prometheus takes it, with the numbers of now."""
        if isinstance(self.source, Counts):
            counter = CounterMetricFamily(self.name, self.help, labels=self.labels)
            for labels, value in self.source.read().items():
                counter.add_metric(labels, value)
            return counter
        if isinstance(self.source, (Distribution, Distributions)):
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            only = isinstance(self.source, Distribution)
            for labels, one in ({(): self.source} if only else self.source.read()).items():  # type: ignore[union-attr]
                histogram.add_metric(labels, *one.read())
            return histogram
        return self._gauge(self.source())

    def _gauge(self, value: float | Mapping[Labels, float]) -> Metric:
        gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, number in (value if isinstance(value, Mapping) else {(): value}).items():
            gauge.add_metric(labels, number)
        return gauge


class Metrics(Observer, Collector):
    """Counts what it hears as an observer, and collects it for ``registry``, which is never the global one.

    ``routes`` are the ids of the routes at work, ``knows`` tells whether a route has an action,
    ``backlog`` asks the store, ``mask`` takes secrets out of what becomes a label, ``rejections`` are all
    reasons for which a webhook may be refused. ``unready`` is
    set by whoever knows why events would not be accepted, ``in_memory`` by whoever has deliveries
    wait there, by destination. Others add what they know with ``gauge``, ``counts``,
    ``distribution`` and ``show``.
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
        self._knows, self._rejections = knows, tuple(rejections)
        self._registry, self._ask, self._mask, self._clock = registry, backlog, mask, clock
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
        self._make_counters()
        self._make_distributions()
        self._make_gauges()
        registry.register(self)
        ProcessCollector(registry=registry)

    def _make_counters(self) -> None:
        self._accepted = self.counts("engine_events_accepted", "Events kept and answered with 202.", "kind")
        self._duplicates = self.counts("engine_events_duplicate", "Copies of an event, not acted on.", "kind")
        self._rejected = self.counts("engine_requests_rejected", "Webhooks that were not accepted.", "reason")
        # There from the start: a series that begins with 1 has no increase that an alert could see.
        for reason in self._rejections:
            self._rejected.add(reason, amount=0)
        self._evaluations = self.counts("engine_evaluations", "Evaluations of events.", "outcome")
        self._decisions = self.counts(
            "engine_decisions", "Verdicts of routes, on a run or an event.", "route", "verdict"
        )
        self._undecided = self.counts("engine_undecided", "Verdicts undecided because a value was absent.", "route")
        self._unmatched = self.counts("engine_events_unmatched", "Events that no route but * matched.", "reason")
        self._held_back = self.counts(
            "engine_deliveries_held_back", "Matches without a delivery of their own.", "route", "why"
        )
        self._attempts = self.counts(
            "engine_attempts", "Attempts at deliveries.", "route", "action", "outcome", "reason"
        )
        self._paused = self.counts("engine_destination_pauses", "How often a destination was paused.", "destination")
        self._reloads = self.counts("engine_reloads", "Readings of the configuration.", "result")

    def _make_distributions(self) -> None:
        self._accept = self.distribution(
            "engine_accept_seconds", "From a webhook's headers to its answer of 202.", _ACCEPT
        )
        self._waits = self.distribution(
            "engine_queue_wait_seconds", "From when a delivery was due to its attempt.", _WAIT
        )
        self._seconds = Distributions(_ATTEMPT)
        self._describe("engine_attempt_seconds", "How long attempts took.", ("action",), self._seconds)

    def _make_gauges(self) -> None:
        self.gauge("engine_ready", "1 while events would be accepted; else why not.", self._read_ready, "reason")
        self.gauge("engine_store_up", "1 while the store answers.", lambda: float(self._backlog is not None))
        self.gauge("engine_backlog", "Work that is not done: evaluations, deliveries.", self._read_backlog, "kind")
        self.gauge(
            "engine_waiting_deliveries", "Deliveries that wait for a destination.", self._read_lanes, "destination"
        )
        self.gauge("engine_dead", "Work that was given up, and waits for a person.", self._read_dead)
        self.gauge("engine_oldest_waiting_seconds", "For how long the oldest due work waits.", self._read_oldest)
        self.gauge("engine_destination_paused", "1 while nothing is sent there.", self._read_pauses, "destination")
        self.gauge("engine_reload_good", "1 if the latest reading of the configuration went well.", self._read_good)
        self.gauge("engine_reload_timestamp_seconds", "When it was read last.", lambda: self._tried_at)
        self.gauge("engine_config_timestamp_seconds", "When that at work was loaded.", lambda: self._loaded_at)
        self.gauge("engine_config_info", "The configuration at work.", lambda: {(self._hash,): 1.0}, "hash")
        running = (_version(), platform.python_version())
        self.gauge("engine_build_info", "What is running.", lambda: {running: 1.0}, "version", "python")

    # For the engine's other parts

    def counts(self, name: str, help_: str, *labels: str) -> Counts:
        """New counters; ``_total`` is put behind the name. The values of labels must be few, and not a sender's."""
        made = Counts()
        self._describe(name, help_, labels, made)
        return made

    def distribution(self, name: str, help_: str, bounds: Sequence[float]) -> Distribution:
        """A new histogram."""
        made = Distribution(bounds)
        self._describe(name, help_, (), made)
        return made

    def show(self, name: str, help_: str, made: Counts | Distribution | Distributions, *labels: str) -> None:
        """Numbers that are counted elsewhere."""
        self._describe(name, help_, labels, made)

    def gauge(self, name: str, help_: str, read: Read, *labels: str) -> None:
        """A number that is read whenever somebody asks, in any thread."""
        self._describe(name, help_, labels, read)

    def _describe(
        self, name: str, help_: str, labels: Sequence[str], source: Counts | Distribution | Distributions | Read
    ) -> None:
        self._described.append(_Described(name, help_, labels, source))

    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels of every metric, by its name without ``_total``."""
        return {described.name: described.labels for described in self._described}

    # The page

    def collect(self) -> Iterator[Metric]:
        """Every metric with its numbers of now."""
        for described in tuple(self._described):
            yield described.family()

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The text, in the format that an Accept header asks for, and its content type."""
        self._in_memory = self.in_memory()
        self._backlog, self._obstacle = await asyncio.gather(self._look(), self.unready())
        encode, content_type = choose_encoder(accept)
        return await in_thread(partial(encode, self._registry)), content_type

    async def _look(self) -> Backlog | None:
        try:
            async with asyncio.timeout(_BACKLOG_WITHIN):
                return await self._ask()
        except (StoreError, TimeoutError):
            return None

    def _read_backlog(self) -> Mapping[Labels, float]:
        found = self._backlog
        return {} if found is None else {("evaluate",): found.evaluations, ("deliver",): found.deliveries}

    def _read_ready(self) -> Mapping[Labels, float]:
        return {(self._obstacle,): float(not self._obstacle)}

    def _read_lanes(self) -> Mapping[Labels, float]:
        found: dict[Labels, float] = {}
        stored = self._backlog.by_lane if self._backlog else {}
        for lane, count in (*stored.items(), *self._in_memory.items()):
            label = (self._destinations.meet(self._mask(lane)),)
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

    def _read_good(self) -> float:
        return float(self._good)

    # What is heard

    def answered(self, outcome: str, seconds: float) -> None:
        """A request's end."""
        if outcome in ("accepted", "duplicate"):
            self._accept.add(seconds)
        else:
            self._rejected.add(outcome)

    def accepted(self, event: Event, appended: Appended) -> None:
        """By kind; duplicates apart."""
        (self._duplicates if appended.duplicate else self._accepted).add(event.kind.value)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """Every verdict that stands, once; and the evaluation at its end."""
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
        """By route."""
        self._held_back.add(self._routes.label(route), why)

    def attempted(self, job: Job, ran: Ran, attempt: Attempt, then: Again | Dead | None) -> None:
        """What came of it, why, how long it waited and took."""
        action = job.action.registered.name
        self._attempts.add(
            self._routes.label(job.route.id), action, attempt.outcome, reason_class(ran.failure, ran.error)
        )
        self._waits.add(max(ran.started_at - job.work.due_at, 0.0))
        self._seconds.of(action).add(ran.seconds)

    def failed(self, work: Work, attempt: Attempt, then: Again | Wait | Dead | None) -> None:
        """Without an action: nobody knows its type."""
        if work.kind == "evaluate":
            self._evaluations.add(attempt.outcome)
            return
        route = self._routes.label(work.route)
        known = self._knows(work.route, work.action)
        reason = "unconfigured" if not known else "overdue" if attempt.destination else "unexpected"
        self._attempts.add(route, "", attempt.outcome, reason)

    def paused(self, destination: str, until_at: float | None, reason: str) -> None:
        """Shown until the time is over, or it is reopened."""
        name = self._mask(destination)
        label = self._destinations.meet(name)
        self._pauses.pop(name, None)
        self._pauses[name] = label, until_at
        if len(self._pauses) > _MOST_PAUSES:
            del self._pauses[next(iter(self._pauses))]
        self._paused.add(label)

    def reopened(self, destination: str) -> None:
        """Not paused any more."""
        self._pauses.pop(self._mask(destination), None)

    def reloaded(self, problems: int, config_hash: str, at: float) -> None:
        """Routes that are gone take their metrics with them."""
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
