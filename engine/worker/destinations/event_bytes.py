"""How many bytes of memory events take that several pieces of work share."""

from __future__ import annotations

from collections.abc import Mapping


class EventBytes:
    """Counts the bytes of events. An event counts once, however many pieces of work use it."""

    __slots__ = ("_users", "total")

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self.total = 0

    def added_by(self, events: Mapping[str, int]) -> int:
        """How many bytes ``add`` would add."""
        return sum(size for event, size in events.items() if event not in self._users)

    def add(self, events: Mapping[str, int]) -> int:
        """Count the events of a piece of work (sizes in bytes by id). Returns how many bytes that adds."""
        added = self.added_by(events)
        for event in events:
            self._users[event] = self._users.get(event, 0) + 1
        self.total += added
        return added

    def remove(self, events: Mapping[str, int]) -> int:
        """Stop counting the events of a piece of work that is done. Returns how many bytes that frees."""
        for event in events:
            if users := self._users.pop(event) - 1:
                self._users[event] = users
        freed = self.added_by(events)
        self.total -= freed
        return freed
