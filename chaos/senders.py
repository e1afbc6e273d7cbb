"""Sends webhooks as LangSmith does, with the sender of ``engine send`` and LangSmith's retry policy."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.script import Event
from engine.cli.support.langsmith_sender import ANSWER_LIMIT, SendAttempt, Sender


@dataclass(slots=True)
class Sent:
    """The results: accepted numbers with the ids from the answers, and the times.

    ``slow`` are attempts that had no answer within LangSmith's five seconds: it never repeats those.
    """

    accepted: dict[int, set[str]] = field(default_factory=dict)
    duplicates: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    seconds: list[float] = field(default_factory=list)
    slow: list[int] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """The slowest 202, in seconds."""
        return max(self.seconds, default=0.0)


class Senders:
    """Sends events to one address. ``event`` makes them, by number."""

    def __init__(self, url: str, event: Callable[[int], Event]) -> None:
        self._url, self._event = url, event
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0
        self.sent = Sent()

    async def flow(self, rate: float) -> None:
        """Send so many events a second until cancelled; requests that have started continue."""
        started, first = time.monotonic(), self._next
        while True:
            self.send(1)
            await asyncio.sleep(max(0.0, started + (self._next - first) / rate - time.monotonic()))

    def send(self, count: int) -> None:
        """Send so many events at once."""
        for number in range(self._next, self._next + count):
            task = asyncio.create_task(self._send(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._next += count

    async def done(self) -> int:
        """Wait until every sender has its answer or has given up; return the number of events."""
        await asyncio.gather(*self._tasks)
        return self._next

    async def _send(self, number: int) -> None:
        event = self._event(number)
        sender = Sender(on_attempt=lambda attempt: self._note(number, attempt))
        delivery = await sender.send(self._url, event.body)
        self.sent.given_up += delivery.result == "failed"

    def _note(self, number: int, attempt: SendAttempt) -> None:
        sent = self.sent
        if attempt.status == 202:
            sent.seconds.append(attempt.duration)
            told = _told(attempt.answer)
            sent.accepted.setdefault(number, set()).update([told["event"]] if told else [])
            sent.duplicates += bool(told.get("duplicate"))
            return
        sent.failed[str(attempt.status or attempt.reason.partition(":")[0])] += 1
        if attempt.duration >= ANSWER_LIMIT:
            sent.slow.append(number)


def _told(answer: str) -> dict[str, str]:
    """The answer's body, or nothing if a kill cut it off after the status."""
    try:
        told: dict[str, str] = json.loads(answer)
    except ValueError:
        return {}
    return told
