"""Follows every webhook through the engine, for the demo to tell: one ``Story`` each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.admin.explain import Focus, explain
from engine.cli.demo.stage import Stage, digest
from engine.cli.support.output import plural
from engine.core.decisions import MUTED
from engine.core.document import Fetched
from engine.core.event import Event
from engine.rules.decision import Routing
from engine.rules.reload import Loaded
from engine.store.protocol import Store
from engine.store.records import Again, Appended, Attempt, Dead
from engine.worker.attempt import AttemptResult, Job
from engine.worker.observer import Observer


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is. ``admin`` and ``webhook`` are addresses.

    ``webhook`` bears the secret of the packaged rules; with rules of one's ``own`` it is masked, and ``secret`` is how
    a shell has it. ``rule`` is the rule whose webhooks are sent to these. ``activate`` brings the command into this
    shell, ``elsewhere`` into another one; empty where it is there.
    """

    rules: Path
    encore: Path
    log: Path
    webhook: str
    admin: str
    command: str
    own: bool = False
    secret: str = ""
    rule: str = ""
    activate: str = ""
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt at a delivery: what it wrote (``requests`` as of ``digest``) and what became of it."""

    delivery: str
    route: str
    action: str
    action_type: str
    index: int
    run_id: str | None
    outcome: str
    number: int
    seconds: float
    reason: str
    result: Mapping[str, Any]
    requests: Sequence[Mapping[str, Any]]
    again_in: float | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook that was accepted, or recognised. ``report`` tells why routes match, ``sent`` what followed.

    ``waiting`` is how many deliveries are neither done nor dead.
    """

    event: str
    kind: str
    size: int
    duplicate: bool
    report: Mapping[str, Any] = field(default_factory=dict)
    sent: Sequence[Sent] = ()
    waiting: int = 0

    @property
    def muted(self) -> dict[str, str]:
        """The routes that match and are muted, each with until when."""
        return {
            route["route"]: route["reason"]
            for document in self.report["documents"]
            for route in document["routes"]
            if route["verdict"] == "true" and route["applies"] and route["reason"].startswith(MUTED)
        }


@dataclass(frozen=True, slots=True)
class Ending:
    """How the opening went: which actions were ``seen``, what is ``missing`` and why.

    They are the four of the packaged rules; with rules of one's ``own``, or where routes are ``muted``, those that the
    webhook led to. ``waiting`` deliveries are not tried yet, or will be tried again. ``matched``: some route did.
    """

    seen: Sequence[str]
    missing: Mapping[str, str]
    repeated: int
    seconds: float
    troubles: Sequence[str] = ()
    own: bool = False
    muted: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0
    matched: bool = True

    @property
    def good(self) -> bool:
        """Whether everything happened once and nothing twice."""
        return self.matched and not (self.missing or self.repeated or self.troubles)

    @property
    def words(self) -> str:
        """A good one in a line."""
        if not (self.own or self.muted):
            return "all four actions arrived, once each, and the duplicate fired nothing"
        done = f"{plural(len(self.seen), 'delivery', 'deliveries')} of your rules succeeded" if self.own else ""
        done = done or f"{plural(len(self.seen), 'delivery', 'deliveries')} succeeded"
        waiting = f", {self.waiting} not due yet" if self.waiting else ""
        if self.muted and not (self.seen or self.waiting):
            done = "nothing was sent, as all that matched is muted"
        return f"{done}{waiting}, and the duplicate fired nothing"


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
