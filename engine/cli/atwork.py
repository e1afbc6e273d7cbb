"""Whether the rules at work in a running engine are those of the file at hand: after a mistake they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cli.access import Place, neighbour
from engine.cli.client import AccessError
from engine.cli.output import age, plural, say

#: How long an engine may take to tell, in seconds: this is a remark only.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class AtWork:
    """What a running engine has loaded from a file of this name. ``since`` is ISO 8601."""

    hash: str
    since: str

    def to_json(self, hash_: str | None) -> dict[str, Any]:
        """For programs, held against the file's hash (None: it can't be used)."""
        return {"hash": self.hash, "since": self.since, "same": self.hash == hash_}

    def tell(self, hash_: str | None, problems: int = 0) -> None:
        """One line to people: the same, held against the file's hash or the number of its problems."""
        words = f"at work: {self.hash} since {self.since[:19].replace('T', ' ')} UTC ({age(self.since)} ago)"
        if problems:
            say(f"{words}; the file has {plural(problems, 'problem')}", "yellow")
        elif self.hash != hash_:
            say(f"{words}; the file differs ({hash_})", "yellow")
        else:
            say(words)


def at_work(place: Place) -> AtWork | None:
    """What an engine that works on this configuration's store, or was named, has loaded from it; None without one."""
    try:
        answer = asyncio.run(_ask(place))
    except (AccessError, TimeoutError) as error:
        say(f"what is at work is not known: {str(error) or 'the engine does not answer'}")
        return None
    if answer is None or Path(answer["file"]).name != place.config.name:
        return None
    return AtWork(answer["hash"], answer["loaded_at"])


async def _ask(place: Place) -> Mapping[str, Any] | None:
    async with asyncio.timeout(_PATIENCE), neighbour(place) as client:
        return None if client is None else await client.get("/api/v1/config")
