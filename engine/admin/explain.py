"""Why an event's routes match or don't, as JSON for people: by the very code that serves, sending nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from engine.action.contract import whole_payload
from engine.admin.query import NotFound
from engine.admin.views import iso
from engine.config.keys import KEY_WORDS
from engine.core.decisions import latest_decisions, outcome_of
from engine.core.document import STORED_PARTS, Fetched, run_id, run_indexes, runs_at, runs_in
from engine.core.error_text import named_error
from engine.core.errors import DataMissing, ParamsError
from engine.core.event import Event
from engine.core.offload import LIMIT, Deadline, Overdue, within
from engine.core.suggest import did_you_mean
from engine.core.truth import Truth
from engine.core.vocabulary import ON_DEAD, UNMATCHED, is_fallback
from engine.rules.conditions import Filter, Verdict
from engine.rules.decision import Circumstances, Decision
from engine.rules.reload import Loaded
from engine.rules.route import Route, RoutedAction
from engine.rules.route_names import routes_called
from engine.rules.router import ANY
from engine.store.records import Control, Throttle

#: The reason shown for data that was not fetched.
WOULD_FETCH = "would be fetched from LangSmith"
#: How alike two ids of rules are if one is a slip of the other: a UUID with one to three other characters.
_ALIKE = 0.9
#: So many rules are named.
_MOST_RULES = 10


@dataclass(frozen=True, slots=True)
class Focus:
    """What of an event to explain: one ``route`` (its id or name), one ``run`` (its place), all where None.

    ``render`` adds the parameters of the actions that would run, and whether their deliveries would be dead.
    ``now`` (Unix seconds; None: when the event was received) and ``mutes`` are what it depends on besides.
    """

    route: str | None = None
    run: int | None = None
    render: bool = False
    now: float | None = None
    mutes: Mapping[str, Control] = field(default_factory=dict)


_EVERYTHING = Focus()


def explain(loaded: Loaded, event: Event, fetched: Fetched, focus: Focus = _EVERYTHING) -> dict[str, Any]:
    """The whole report, secrets masked. A route that is named is explained even where the event is not its own.

    Raises:
        NotFound: ``focus`` names a route or run that is not there.
    """
    _check_focus(loaded, event, focus)
    report: dict[str, Any] = loaded.masker.tree(_Explanation(loaded, event, not_fetched(fetched), focus).report())
    return report


def not_fetched(known: Fetched) -> Fetched:
    """What is known, with ``WOULD_FETCH`` as the reason for the rest."""
    return replace(known, errors=dict.fromkeys((*STORED_PARTS, "feedback"), WOULD_FETCH) | dict(known.errors))


def recorded_in(report: dict[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A report with what was decided when the event came, beside what it would be now: ``recorded`` of a route."""
    decided_at = iso(evaluations[-1]["decided_at"]) if evaluations else ""
    decisions = {(one["index"], one["route"]): one for one in latest_decisions(evaluations)}
    for document in report["documents"]:
        for route in document["routes"]:
            found = decisions.get((document["index"], route["route"]))
            shown = ("verdict", "reason", "fires", "skipped", "collected")
            one = {word: found[word] for word in shown if word in found} if found else None
            route["recorded"] = one and one | {"at": decided_at, "words": outcome_of(one)}
    return report


def needs_of(loaded: Loaded, event: Event) -> frozenset[str]:
    """The data that this event's routes and their actions read."""
    router = loaded.router
    routes = (*router.routes_of(event), *router.routes_of_all(event), *router.by_key.get(UNMATCHED, ()))
    return frozenset().union(*(route.reads.union(*(action.needs for action in route.actions)) for route in routes))


def feedback_from(event: Event, data: Any) -> dict[str, list[dict[str, Any]]]:
    """Feedback by run id, as a person may supply it: a list of rows, or lists by run id.

    A row without ``run_id`` belongs to the event's one run. Runs that no row names have none.

    Raises:
        ValueError: with words for the author of the data.
    """
    ids = [found for _key, run in runs_at(event, -1) if (found := run_id(run)) is not None]
    if isinstance(data, Mapping):
        return {one: [] for one in ids} | {key: _rows(rows) for key, rows in data.items()}
    feedback: dict[str, list[dict[str, Any]]] = {one: [] for one in ids}
    for row in _rows(data):
        owner = row.get("run_id") or (ids[0] if len(ids) == 1 else None)
        if owner is None:
            raise ValueError(f"a row of feedback needs a run_id: the event has {len(ids)} runs")
        feedback.setdefault(str(owner), []).append(row)
    return feedback


def _rows(data: Any) -> list[dict[str, Any]]:
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return data
    raise ValueError("feedback is a list of rows, or an object with a list of rows by run id")


def _check_focus(loaded: Loaded, event: Event, focus: Focus) -> None:
    indexes = run_indexes(event)
    if focus.run is not None and focus.run not in indexes:
        last = f"its runs are 0 to {indexes[-1]}" if indexes[-1] >= 0 else "it has no runs"
        raise NotFound(f"the event has no run {focus.run}", last)
    known = {word for route in loaded.config.routes for word in (route.id, route.name) if word}
    if focus.route is not None and not _meant(loaded, focus):
        raise NotFound(f"no route is called {focus.route!r}", did_you_mean(focus.route, known))


def _meant(loaded: Loaded, focus: Focus) -> frozenset[str]:
    """The ids of the routes that are to be explained alone."""
    named = focus.route
    routes = ((route.id, route.name) for route in loaded.config.routes)
    return frozenset() if named is None else frozenset(routes_called(named, routes))


class _Explanation:
    """One report. Lives as long as it is made."""

    def __init__(self, loaded: Loaded, event: Event, fetched: Fetched, focus: Focus) -> None:
        self._loaded, self._router, self._event = loaded, loaded.router, event
        self._fetched, self._focus, self._meant = fetched, focus, _meant(loaded, focus)
        self._own = self._router.routes_of(event)
        self._reason = self._router.unmatched_reason(event)
        now = event.received_at if focus.now is None else focus.now
        self._routing = self._router.decide(event, fetched, Circumstances(now, mutes=focus.mutes, looked=True))
        self._decisions = {(one.index, one.route): one for one in self._routing.decisions}
        self._reads: set[str] = set(self._routing.wanting) | ({"feedback"} if self._routing.awaiting else set())

    def report(self) -> dict[str, Any]:
        documents = [document for document in self._documents() if document["routes"]]
        counts = self._counts(documents)
        return {
            "event": self._about(),
            "config": {"file": self._loaded.config.file, "hash": self._loaded.config.hash},
            "matched": counts["matched"] > 0,
            "counts": counts,
            "unmatched_reason": self._routing.unmatched_reason,
            "notes": list(self._notes()),
            "would_fetch": sorted(self._reads),
            "documents": documents,
        }

    def _counts(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Of the runs that are explained: how many there are, matched, and are those of fallback routes.

        An event without runs counts as one.
        """
        indexes = [index for index in run_indexes(self._event) if self._focus.run in (None, index)]
        places: dict[bool, set[int]] = {False: set(), True: set()}
        for document in documents:
            for route in document["routes"]:
                if route["verdict"] == "true" and route["applies"]:
                    places[is_fallback(route["route"])].add(document["index"])
        matched, fallback = (runs_in(places[kind], indexes) for kind in (False, True))
        return {"runs": len(indexes), "matched": matched, "fallback": fallback}

    def _about(self) -> dict[str, Any]:
        event = self._event
        names = [name for name, ids in self._loaded.config.rules.items() if event.rule_id in ids]
        return {
            "id": event.id,
            "kind": str(event.kind),
            "rule_id": event.rule_id,
            "rule": names[0] if names else None,
            "received_at": iso(event.received_at),
            "runs": len([index for index in run_indexes(event) if index >= 0]),
            "repaired": event.repaired,
            "unparsed": event.unparsed or None,
        }

    def _notes(self) -> Iterator[str]:
        """What a person should know before wondering about a verdict."""
        if self._event.unparsed:
            yield f"{self._event.unparsed}: it is kept as it came, and only routes under `unmatched` see it"
        elif not self._own:
            about = f"rule {self._event.rule_id}" if self._event.rule_id else f"kind {self._event.kind}"
            hint = self._known_rules(self._event.rule_id) if self._event.rule_id else ""
            yield f"no route is for {about}" + (f"; {hint}" if hint else "")
        if len(run_indexes(self._event)) > 1 and self._batch_statistics():
            yield f"feedback_stats are those of the whole batch of {len(run_indexes(self._event))} runs, not of one run"
        for written in self._loaded.config.routes:
            if not written.enabled and (self._suits(written.keys) or written.id in self._meant):
                yield f"route {written.id} is disabled (enabled: false), and is not looked at"

    def _known_rules(self, rule_id: str) -> str:
        """What to do about an unknown rule: a slip in its id, or an id to add. Any two ids are alike to some degree."""
        ids = [key for key in self._router.by_key if key not in KEY_WORDS]
        if near := get_close_matches(rule_id, ids, n=1, cutoff=_ALIKE):
            return f"did you mean {near[0]!r}?"
        names = list(dict.fromkeys(route.key for route in self._loaded.config.routes if route.key not in KEY_WORDS))
        if not names:
            return "add it with a name under `rules:`, and routes under that name"
        more = ", …" if len(names) > _MOST_RULES else ""
        return f"known rules: {', '.join(names[:_MOST_RULES])}{more}; add this id to one of them under `rules:`"

    def _batch_statistics(self) -> bool:
        runs = [run for _key, run in runs_at(self._event, -1)]
        return self._event.payload.get("feedback_stats") is not None and any(
            run.get("feedback_stats") is None for run in runs
        )

    def _suits(self, keys: Sequence[str]) -> bool:
        return bool({self._event.rule_id, str(self._event.kind), ANY, UNMATCHED} & set(keys))

    def _documents(self) -> Iterator[dict[str, Any]]:
        """The whole event first, then each run, as the router goes about it."""
        indexes = run_indexes(self._event)
        if indexes != [-1] and self._focus.run is None:
            yield self._document(-1, per_run=False)
        for index in indexes:
            if self._focus.run in (None, index):
                yield self._document(index, per_run=None if index < 0 else True)

    def _document(self, index: int, *, per_run: bool | None) -> dict[str, Any]:
        run = self._event.payload["runs"][index] if index >= 0 else None
        routes = [route for route in self._routes() if per_run is None or route.per_run is per_run]
        shown: dict[str, Any] | None = None
        if isinstance(run, Mapping):
            shown = {key: run.get(key) for key in ("id", "name", "run_type", "status")}
        return {"index": index, "run": shown, "routes": [self._route(index, route) for route in routes]}

    def _routes(self) -> list[Route]:
        """The routes to explain: those that look at this event, or the one that was asked for."""
        chosen = (*self._own, *self._router.routes_of_all(self._event), *self._router.by_key.get(UNMATCHED, ()))
        if self._focus.route is None:
            return list(chosen)
        return [route for route in self._router.routes.values() if route.id in self._meant]

    def _route(self, index: int, route: Route) -> dict[str, Any]:
        document = self._router.document(self._event, index, self._fetched, route)
        if UNMATCHED in route.keys:
            document["event"] = {**document["event"], "unmatched_reason": self._reason}
        decision = self._decisions.get((index, route.id))
        verdict = _explained(route.filter, document)
        applies = self._suits(route.keys)
        reason = decision.reason if decision else self._passed_over(index, route, applies=applies)
        return {
            "route": route.id,
            "for_each": "run" if route.per_run else "event",
            "applies": applies,
            "verdict": _word(decision, verdict, applies=applies),
            "reason": reason,
            "stop": route.stop,
            "filter": verdict.to_json(),
            "actions": [self._action(index, route, document, decision, action) for action in route.actions],
            "on_dead": [action.name.removeprefix(ON_DEAD) for action in route.on_dead],
        }

    def _passed_over(self, index: int, route: Route, *, applies: bool) -> str:
        """Why the router did not ask a route at all."""
        if not applies:
            return f"not asked: it is for {', '.join(route.keys)}; this is what it would say"
        if UNMATCHED in route.keys:
            truths = {self._decisions[index, own.id].truth for own in self._own if (index, own.id) in self._decisions}
            return f"not asked: another route {'matched' if Truth.TRUE in truths else 'matched, or is undecided'}"
        for earlier in self._own:
            decision = self._decisions.get((index, earlier.id))
            if earlier.stop and decision is not None and decision.truth is Truth.TRUE:
                return f"not asked: route {earlier.id} matched, and has stop: true"
        return "not asked"

    def _action(
        self, index: int, route: Route, document: Mapping[str, Any], decision: Decision | None, action: RoutedAction
    ) -> dict[str, Any]:
        fires = decision is not None and action.name in decision.fires
        waits = decision is not None and action.name in decision.pending
        shown: dict[str, Any] = {
            "name": action.name,
            "type": action.registered.name,
            "fires": fires,
            "waits": waits,
            "because": {**decision.notes, **decision.skipped}.get(action.name, "") if decision else "",
            "gate": self._gate(index, route, action) if fires else None,
            "when": None if action.when is None else _explained(action.when, document).to_json(),
        }
        if not (fires and self._focus.render):
            return shown
        place = (self._event, index, self._fetched)
        made = rendered(self._router.delivery_document(route, action, [place], None), action)
        if made["would"] == "wait":
            self._reads |= action.needs
        return shown | made

    def _gate(self, index: int, route: Route, action: RoutedAction) -> dict[str, Any] | None:
        """What stands before a delivery, and the key it is held back with."""
        plans = self._routing.plans
        found = (p.gate for p in plans if (p.index, p.route.id, p.action.name) == (index, route.id, action.name))
        gate = next(found, None)
        if gate is None:
            return None
        kind = "throttle" if isinstance(gate, Throttle) else "digest"
        return {"kind": kind, "key": gate.key, "every": gate.every}


def _explained(filter_: Filter, document: Mapping[str, Any]) -> Verdict:
    """A filter's verdict. One that reaches the limit is undecided, as when the event was evaluated."""
    try:
        with within(Deadline(LIMIT)):
            return filter_.explain(document)
    except Overdue as error:
        reason = f"the evaluation {error}"
        unknown = [Verdict(Truth.UNDECIDED, "expr", one.text, reason=reason) for one in filter_.conditions]
        return Verdict(Truth.UNDECIDED, "all", "all conditions", children=tuple(unknown), reason=reason)


def _word(decision: Decision | None, verdict: Verdict, *, applies: bool) -> str:
    """The verdict that counts; for a route that is not this event's, the one it would give."""
    if decision is not None:
        return decision.truth.name.lower()
    return "not_asked" if applies else verdict.truth.name.lower()


def rendered(document: Mapping[str, Any], action: RoutedAction) -> dict[str, Any]:
    """The action's outline of what would be sent, or why it cannot be shown.

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
