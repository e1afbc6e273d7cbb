"""The destinations, real servers on loopback that count their effects."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from chaos.faults import Moods
from chaos.script import Event
from engine.testing import LangSmithStandIn, SlackStandIn, WebhookSink
from engine.testing.server import Answer, Recorded, Refused, StandIn


@dataclass(slots=True)
class Effects:
    """The effects at one place under one key, counted by the id of the delivery."""

    times: Counter[str] = field(default_factory=Counter)

    @property
    def distinct(self) -> int:
        """The count at a destination that recognises ids."""
        return len(self.times)

    @property
    def total(self) -> int:
        """The count at one that does not."""
        return self.times.total()


#: By place and key.
Seen = dict[tuple[str, str], Effects]


class Receiver(WebhookSink):
    """Counts what it receives, by ``key`` and by delivery (``webhook-id``, or ``id`` in the body)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.seen: Seen = defaultdict(Effects)
        #: How many suppressed deliveries a throttled delivery reported.
        self.suppressed: dict[str, int] = {}

    async def answer(self, recorded: Recorded) -> Answer:
        """Take it."""
        body: Any = recorded.body or {}
        place = self.name if self.name != "hooks" else f"hooks{recorded.path}"
        known_by = recorded.headers.get("webhook-id") or str(body.get("id"))
        for key in body.get("keys") or [body["key"] if "key" in body else body.get("message")]:
            self.seen[place, str(key)].times[known_by] += 1
        if "suppressed" in body:
            self.suppressed[known_by] = body["suppressed"]
        return Answer("ok")


class Never(WebhookSink):
    """Refuses every request."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__()
        self._no = Answer(words, status)

    async def answer(self, recorded: Recorded) -> Answer:
        """Say no."""
        del recorded
        return self._no


class Storage(WebhookSink):
    """Object storage: runs' inputs behind presigned links."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Any] = {}

    async def answer(self, recorded: Recorded) -> Answer:
        """An object."""
        run_id = recorded.path.rpartition("/")[2]
        if run_id not in self.objects:
            raise Refused(404, "no such object")
        return Answer(self.objects[run_id])


class World:
    """All destinations, started together. ``tally`` counts their faults by kind."""

    def __init__(self, rng: random.Random, share: float = 0.2) -> None:
        self.tally: Counter[str] = Counter()
        self.langsmith, self.slack, self.storage = LangSmithStandIn(), SlackStandIn(), Storage()
        self.hooks, self.tickets, self.mail = Receiver("hooks"), Receiver("tickets"), Receiver("mail")
        self.refusing, self.hopeless = Never(422, "no such customer"), Never(503, "closed for ever")
        self.moody: tuple[StandIn, ...] = (
            self.langsmith, self.slack, self.storage, self.hooks, self.tickets, self.mail,
        )  # fmt: skip
        for one in self.moody:
            one.faults = Moods(random.Random(rng.random()), self.tally, share)
        for name in ("kept", "corrected"):
            self.langsmith.add_dataset(name)
        self.langsmith.add_queue("triage")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for one in (*self.moody, self.refusing, self.hopeless):
                await stack.enter_async_context(one)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def environ(self) -> dict[str, str]:
        """The variables of ``rules.yaml``."""
        return {
            "LANGSMITH_ENDPOINT": self.langsmith.url,
            "SLACK_ENDPOINT": self.slack.url,
            "HOOKS": self.hooks.origin,
            "TICKETS": self.tickets.origin,
            "MAIL": self.mail.origin.replace("http", "json") + "/mail",
            "REFUSING": self.refusing.origin,
            "HOPELESS": self.hopeless.origin,
        }

    def knows(self, event: Event) -> None:
        """Give LangSmith and its storage what an event leaves out."""
        for run in event.runs:
            if run["extra"]["metadata"]["presigned"]:
                self.storage.objects[run["id"]] = run["inputs"]
                self.langsmith.add_run(run)
        for run_id, correction in event.seeds.items():
            self.langsmith.add_feedback(run_id, key="correctness", correction=correction)

    def calm(self) -> None:
        """Stop all faults."""
        for one in self.moody:
            one.faults.clear()

    @property
    def crashes(self) -> list[str]:
        """Errors of the stand-ins themselves. If it is not empty, the harness has a bug."""
        return [f"{type(one).__name__}: {error!r}" for one in self.moody for error in one.crashes]

    def effects(self) -> Seen:
        """All effects, by place and key."""
        seen: Seen = defaultdict(Effects)
        for receiver in (self.hooks, self.tickets, self.mail):
            seen.update(receiver.seen)
        for message in self.slack.messages:
            seen["slack", message.text].times[message.ts] += 1
        names = {row["id"]: row["name"] for row in self.langsmith.datasets.values()}
        for row in self.langsmith.examples.values():
            seen[f"examples/{names[row['dataset_id']]}", row["source_run_id"]].times[row["id"]] += 1
        for row in self.langsmith.feedback.values():
            if row["key"] == "triage":
                seen["feedback/triage", row["run_id"]].times[row["id"]] += 1
        return seen
