"""What the engine knows about its Slack workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

#: Slack's Web API.
DEFAULT_ENDPOINT = "https://slack.com/api/"


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """The ``slack:`` block. ``token`` is a bot token (``xoxb-…``); ``endpoint`` the Web API's base."""

    token: str | None = field(default=None, repr=False)
    endpoint: str = DEFAULT_ENDPOINT


class Threads(Protocol):
    """Which message a thread began with, by channel and the author's key."""

    async def first(self, channel: str, key: str) -> str | None:
        """The ``ts`` of the thread's first message; None where there is none yet.

        Raises:
            Retry: it cannot be looked up at the moment.
        """

    async def keep(self, channel: str, key: str, ts: str | None) -> None:
        """Keep it, as of a thread used now; None forgets the thread. It never fails: the message is sent already."""


class ThreadsInMemory:
    """Threads that end with the process, for tests and tools."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str | None] = {}

    async def first(self, channel: str, key: str) -> str | None:
        """The ``ts`` of the thread's first message."""
        return self._known.get((channel, key))

    async def keep(self, channel: str, key: str, ts: str | None) -> None:
        """Keep it."""
        self._known[channel, key] = ts
