"""How many bytes of memory events take that several pieces of work share."""

from __future__ import annotations

from collections.abc import Mapping


class EventBytes:
    """Counts the bytes of events. Each event counts once, however many pieces of work have it."""

    __slots__ = ("_users", "total")

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self.total = 0

    def more(self, events: Mapping[str, int]) -> int:
        """How many bytes ``take`` would add."""
        return sum(size for event, size in events.items() if event not in self._users)

    def take(self, events: Mapping[str, int]) -> int:
        """A piece of work has these events (their ids, with their sizes in bytes). How many bytes that adds."""
        more = self.more(events)
        for event in events:
            self._users[event] = self._users.get(event, 0) + 1
        self.total += more
        return more

    def drop(self, events: Mapping[str, int]) -> int:
        """A piece of work that had these events is over. How many bytes that frees."""
        for event in events:
            if users := self._users.pop(event) - 1:
                self._users[event] = users
        less = self.more(events)
        self.total -= less
        return less
