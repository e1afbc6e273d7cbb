"""Slack: the settings, and the interface for message threads."""

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
    """The first message of each thread, by channel and the author's key."""

    async def first(self, channel: str, key: str) -> str | None:
        """The ``ts`` of the thread's first message; None if there is none yet.

        Raises:
            Retry: it cannot be read at the moment.
        """

    async def keep(self, channel: str, key: str, ts: str | None) -> None:
        """Store the first message and mark the thread as used; None forgets it. Never raises: the message is sent."""


class ThreadsInMemory:
    """Threads that end with the process, for tests and tools."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str | None] = {}

    async def first(self, channel: str, key: str) -> str | None:
        """The ``ts`` of the thread's first message."""
        return self._known.get((channel, key))

    async def keep(self, channel: str, key: str, ts: str | None) -> None:
        """Store the first message."""
        self._known[channel, key] = ts
