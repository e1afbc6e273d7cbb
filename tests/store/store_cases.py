"""What the store's tests are made of: events, work and attempts with sensible values."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from engine.core.event import Event, parse_event
from engine.store.protocol import CLAIM_BYTES, Store
from engine.store.records import Again, Attempt, Claimed, Dead, Outcome, Routed, Work

#: A Friday afternoon. Tests count from here.
T0 = 1_750_000_000.0


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Backend(Protocol):
    """One engine's data, which any number of stores may be opened on, one after the other."""

    url: str
    clock: Clock

    def store(self, owner: str | None = None) -> Store:
        """A store on this data, not opened."""

    async def vanish(self, store: Store) -> None:
        """End a store as a crash would: nothing given back, nobody told."""

    async def lose_body(self, store: Store, event_id: str) -> None:
        """Delete an event's body behind the engine's back."""


def make_event(number: int = 0, *, at: float = T0, rule: str = "rule-1", size: int = 0, **extra: Any) -> Event:
    payload = {"rule_id": rule, "runs": [{"id": f"run-{number}", "status": "success"}], "pad": "x" * size}
    return parse_event(json.dumps(payload | extra).encode(), at)


def deliver(event: Event, name: str = "d1", *, at: float = T0, replays: int = 0, **extra: Any) -> Work:
    values: dict[str, Any] = {"route": "corrections/a", "action": "log", "index": 0, "run_id": "run-0"} | extra
    return Work(f"{name}-{event.id}", "deliver", event.id, at, at, replays=replays, **values)


def evaluation(event: Event) -> Work:
    """An event's first evaluation."""
    return Work(event.id, "evaluate", event.id, event.received_at, event.received_at)


def attempt(outcome: Outcome = "succeeded", *, number: int = 1, at: float = T0, **extra: Any) -> Attempt:
    values: dict[str, Any] = {"replay": 0, "seconds": 0.25, "worker": "me"} | extra
    return Attempt(number=number, started_at=at, outcome=outcome, **values)


def routed(event: Event, *deliveries: Work, leased: bool = True, **extra: Any) -> Routed:
    values: dict[str, Any] = {
        "decisions": [{"route": one.route, "index": one.index, "verdict": "true"} for one in deliveries],
        "leased": frozenset(one.id for one in deliveries) if leased else frozenset(),
        "matched": len(deliveries),
        "decided_at": T0,
    } | extra
    return Routed(event_id=event.id, deliveries=list(deliveries), config_hash="hash", **values)


async def accepted(store: Store, *deliveries: str, number: int = 0, at: float = T0) -> tuple[Event, list[Work]]:
    """An event that was routed, with deliveries that are this store's to make."""
    event = make_event(number, at=at)
    await store.append(event, leased=True)
    work = [deliver(event, name, at=at) for name in deliveries]
    assert (await store.settle_routed(routed(event, *work))).inserted == {one.id for one in work}
    return event, work


async def all_claimed(
    store: Store, *, now: float = T0 + 1e6, limit: int = 100, max_bytes: int = CLAIM_BYTES
) -> list[Claimed]:
    return list(await store.claim(now=now, limit=limit, max_bytes=max_bytes))


async def replay_whole(
    store: Store, event: Event, deliveries: Sequence[Work], *, leased: bool = False
) -> frozenset[str]:
    """A person replays an event, and it comes to the same deliveries. The ids of those that were inserted."""
    assert await store.replay_events([event.id], now=T0) == [event.id]
    (claimed,) = await store.claim(now=T0, limit=1)
    again = [replace(work, replays=claimed.work.replays) for work in deliveries]
    return (await store.settle_routed(routed(event, *again, leased=leased, work=claimed.work))).inserted


async def fail(store: Store, work: Work, reason: str = "500 from there", *, at: float = T0) -> None:
    """The work's last attempt."""
    last = attempt("dead", number=work.attempts + 1, at=at, reason=reason, replay=work.replays)
    assert await store.settle_attempt(work, last, Dead(reason))


async def put_off(store: Store, work: Work, due_at: float, reason: str = "503 from there") -> None:
    """An attempt that is to be followed by another."""
    again = attempt("again", number=work.attempts + 1, reason=reason, replay=work.replays)
    assert await store.settle_attempt(work, again, Again(due_at))


async def succeed(store: Store, work: Work, *, at: float = T0) -> None:
    done = attempt(number=work.attempts + 1, at=at, replay=work.replays)
    assert await store.settle_attempt(work, done, None)


async def eventually(condition: Any, *, within: float = 5.0) -> None:
    """Wait for something that other threads bring about."""
    end = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)
