"""Compares what was accepted, what is in the store, and what happened at the destinations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.script import Event, Wanted
from chaos.senders import Sent
from chaos.serving import left_behind
from chaos.world import Effects, World
from engine.store.queries import DeliveryQuery, DeliveryRow, EventQuery

#: Destinations that recognise repetitions. The others cannot.
IDEMPOTENT = ("hooks", "tickets", "examples", "feedback", "queue")
_ALL = 10_000_000


@dataclass(slots=True)
class Kept:
    """The content of the store: event ids by their number, deliveries by event id, and unfinished work."""

    ids: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    deliveries: dict[str, list[DeliveryRow]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, str] = field(default_factory=dict)
    attempts: int = 0


async def read_store(data: Path) -> Kept:
    """Read it from the store of a process that has ended."""
    kept = Kept()
    async with left_behind(data) as store:
        for row in await store.events(EventQuery(limit=_ALL)):
            detail = await store.event(row.id)
            assert detail is not None
            assert detail.body is not None
            kept.ids[number_of(detail.body)].append(row.id)
            kept.states[row.id] = row.state
        for delivery in await store.deliveries(DeliveryQuery(limit=_ALL)):
            kept.deliveries[delivery.event_id].append(delivery)
            kept.attempts += delivery.attempts
    return kept


def number_of(body: bytes) -> int:
    """The number that each event contains."""
    return int(body.rpartition(b'"chaos": ')[2].partition(b"}")[0].partition(b",")[0])


@dataclass(slots=True)
class Verdict:
    """The result. ``broken`` are the broken promises, each with its event or delivery."""

    broken: list[str] = field(default_factory=list)
    lost: int = 0
    unanswered: int = 0
    succeeded: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    once: int = 0
    effects: int = 0
    again: int = 0
    duplicates: int = 0
    elsewhere: int = 0
    suppressed: int = 0


def compare(events: Mapping[int, Event], sent: Sent, kept: Kept, world: World) -> Verdict:
    """Check every accepted or stored event, its deliveries, and their effects."""
    verdict = Verdict()
    verdict.broken += list(_wrongly_kept(sent, kept))
    verdict.lost = sum(number not in kept.ids for number in sent.accepted)
    verdict.unanswered = sum(number not in sent.accepted for number in kept.ids)
    seen = world.effects()
    asked: set[tuple[str, str]] = set()
    for number, ids in kept.ids.items():
        wanted = events[number].wanted
        made = {(row.route, row.action, row.index) for event_id in ids for row in kept.deliveries[event_id]}
        for event_id in ids:
            verdict.broken += list(_deliveries(number, event_id, wanted, kept, verdict))
        for one in wanted:
            held_back = one.gate == "throttle" and (one.route, one.action, one.index) not in made
            if one.place and not held_back:
                asked.add((one.place, one.key))
                verdict.broken += list(_effect(number, one, seen[one.place, one.key], verdict))
    for place, key in seen.keys() - asked:
        verdict.broken.append(f"an effect that nobody asked for: {key} at {place}")
    verdict.broken += list(_contents(events, kept, world))
    verdict.broken += list(_throttled(events, kept, world, verdict))
    return verdict


def _wrongly_kept(sent: Sent, kept: Kept) -> Iterator[str]:
    for number, told in sent.accepted.items():
        if number not in kept.ids:
            yield f"event {number} was accepted as {sorted(told)} and is LOST"
        elif not told <= set(kept.ids[number]):
            yield f"event {number} was accepted as {sorted(told)} and kept as {kept.ids[number]}"
    for number, ids in kept.ids.items():
        if len(ids) > 1:
            yield f"event {number} is {len(ids)} events: {ids}"
        for event_id in ids:
            if kept.states[event_id] != "routed":
                yield f"event {number} ({event_id}) is {kept.states[event_id]}"


def _deliveries(number: int, event_id: str, wanted: Sequence[Wanted], kept: Kept, verdict: Verdict) -> Iterator[str]:
    rows = {(row.route, row.action, row.index): row for row in kept.deliveries[event_id]}
    due = {(one.route, one.action, one.index): one for one in wanted}
    for key in {key for key, one in due.items() if not one.gate} - rows.keys():
        yield f"event {number} ({event_id}) has no delivery {key}"
    for key, row in rows.items():
        what = f"delivery {row.id} of event {number} ({row.route} {row.action})"
        verdict.succeeded += row.state == "succeeded"
        if row.state == "dead":
            verdict.dead[row.reason] += 1
        if key not in due:
            yield f"{what}: nobody asked for it"
        elif row.state not in ("succeeded", "dead"):
            yield f"{what} is {row.state}: {row.reason}"
        elif row.state == "dead" and not row.reason:
            yield f"{what} is dead without a reason"
        elif due[key].dead != (row.state == "dead"):
            yield f"{what} {row.state}: {row.reason}"


def _effect(number: int, one: Wanted, effects: Effects, verdict: Verdict) -> Iterator[str]:
    what = f"event {number}, {one.key} at {one.place}"
    if not one.place.startswith(IDEMPOTENT):
        verdict.elsewhere += 1
        verdict.duplicates += max(effects.total - 1, 0)
        if not effects.total:
            yield f"{what}: no effect"
        return
    verdict.effects += 1
    verdict.once += effects.distinct == 1
    verdict.again += max(effects.total - 1, 0)
    if effects.distinct != 1:
        yield f"{what}: {effects.distinct} effects, by {dict(effects.times)}"


def _throttled(events: Mapping[int, Event], kept: Kept, world: World, verdict: Verdict) -> Iterator[str]:
    """Check that each delivery a throttle suppressed is counted exactly once, by the next one that is sent."""
    matched = sum(one.gate == "throttle" for number in kept.ids for one in events[number].wanted)
    told = world.hooks.suppressed
    verdict.suppressed = sum(told.values())
    if len(told) + verdict.suppressed != matched:
        yield f"of {matched} throttled runs {len(told)} were made and {verdict.suppressed} counted"


def _contents(events: Mapping[int, Event], kept: Kept, world: World) -> Iterator[str]:
    """Check the content of what LangSmith received."""
    inputs = {run["id"]: run["inputs"] for number in kept.ids for run in events[number].runs}
    corrections = {key: one for number in kept.ids for key, one in events[number].seeds.items()}
    for row in world.langsmith.examples.values():
        run_id = row["source_run_id"]
        if row["inputs"] != inputs.get(run_id):
            yield f"the example {row['id']} of run {run_id} has the inputs {row['inputs']}"
        if row["outputs"] and row["outputs"] != {"output": corrections.get(run_id)}:
            yield f"the example {row['id']} of run {run_id} has the outputs {row['outputs']}"
