"""Follows every webhook through the engine, for the demo to tell: one ``Story`` each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.admin.explain import Focus, explain
from engine.cli.demo.facts import Arrival, Sent
from engine.cli.demo.stage import Stage, digest
from engine.core.document import Fetched
from engine.core.event import Event
from engine.rules.decision import Routing
from engine.rules.reload import Loaded
from engine.store.protocol import Store
from engine.store.records import Again, Appended, Attempt, Dead
from engine.worker.attempt import AttemptResult, Job
from engine.worker.observer import Observer


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as the engine tells it."""

    job: Job
    ran: AttemptResult
    attempt: Attempt
    then: Again | Dead | None


@dataclass(slots=True)
class Story:
    """What becomes of one webhook. ``done`` once every delivery succeeded or is dead."""

    event: Event
    appended: Appended
    order: list[str] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    open: set[str] = field(default_factory=set)

    def routed(self, routing: Routing) -> None:
        """Deliveries follow; where data is wanting, another evaluation does."""
        planned = [plan.delivery_id for plan in routing.plans if plan.delivery_id not in self.order]
        self.order += planned
        self.open |= set(planned)
        self._look(waits=bool(routing.wanting))

    def attempted(self, tried: Tried) -> None:
        """One of them was tried."""
        self.tried.append(tried)
        if not isinstance(tried.then, Again):
            self.open.discard(tried.job.work.id)
            self._look(waits=False)

    def _look(self, *, waits: bool) -> None:
        if not self.open and not waits:
            self.done.set()


class Watch(Observer):
    """An observer that makes stories of what it hears. ``news`` brings each new story, and attempts told too late."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[Story | Tried] = asyncio.Queue()
        self._stories: dict[str, Story] = {}

    def accepted(self, event: Event, appended: Appended) -> None:
        """A new story; a duplicate's is over at once."""
        story = Story(event, appended)
        if appended.duplicate:
            story.done.set()
        else:
            self._stories[event.id] = story
        self.news.put_nowait(story)

    def routed(self, event: Event, routing: Routing, started_at: float, made: int, *, over: bool) -> None:
        """The story goes on; one from before this demo, or told already, does not."""
        if (story := self._stories.get(event.id)) is not None:
            story.routed(routing)

    def attempted(self, job: Job, result: AttemptResult, attempt: Attempt, then: Again | Dead | None) -> None:
        """Part of its story, or news of its own where that was told already."""
        tried = Tried(job, result, attempt, then)
        story = self._stories.get(job.event.id)
        if story is None:
            self.news.put_nowait(tried)
        else:
            story.attempted(tried)

    def told(self, story: Story) -> None:
        """What comes now comes late."""
        self._stories.pop(story.event.id, None)


class Reporter:
    """Makes of a story what a teller tells."""

    def __init__(self, store: Store, stage: Stage) -> None:
        self._store, self._stage = store, stage

    async def arrival(self, story: Story, loaded: Loaded) -> Arrival:
        """The whole of a story: the report by the very code that decides, deliveries in the routes' order."""
        event, appended = story.event, story.appended
        kind, size = str(event.kind), len(event.body)
        if appended.duplicate:
            return Arrival(appended.event_id, kind, size, duplicate=True)
        detail = await self._store.event(event.id)
        fetched = Fetched.from_json(detail.fetched if detail else None)
        mutes = {control.subject: control for control in await self._store.controls() if control.kind == "mute"}
        report = explain(loaded, event, fetched, Focus(mutes=mutes))
        return Arrival(
            event.id,
            kind,
            size,
            duplicate=False,
            report=report,
            sent=list(self._in_order(story)),
            waiting=len(story.open),
        )

    def _in_order(self, story: Story) -> Iterator[Sent]:
        places = {delivery: place for place, delivery in enumerate(story.order)}
        for tried in sorted(story.tried, key=lambda one: places.get(one.job.work.id, len(places))):
            yield self.sent(tried)

    def sent(self, tried: Tried) -> Sent:
        """One attempt with the requests that the stand-ins saw of it."""
        work, ran, attempt = tried.job.work, tried.ran, tried.attempt
        result = ran.result or {}
        requests = self._stage.requests_of(work.id, work.run_id, result, ran.started_at)
        return Sent(
            delivery=work.id,
            route=work.route,
            action=work.action,
            action_type=tried.job.action.registered.name,
            index=work.index,
            run_id=work.run_id,
            outcome=attempt.outcome,
            number=attempt.number,
            seconds=ran.seconds,
            reason=attempt.reason,
            result=attempt.detail or {},
            requests=[{"service": self._stage.service_of(one), **digest(one)} for one in requests],
            again_in=tried.then.due_at - attempt.started_at if isinstance(tried.then, Again) else None,
        )
