"""Single URLs and credentials that a destination refuses, while everything else goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from engine.action.failures import Says, Scope
from engine.clients.limits import LimitTable
from engine.core.masking import Masker
from engine.worker.destinations.destination import Lane
from engine.worker.destinations.table import Lanes, Shut

#: The longest part of a URL that a name shows, in characters.
_SHOWN = 160


class Stops:
    """Each is a lane that is shut, and in which its deliveries wait. It has no attempts of its own.

    When its time comes, or people say so, one attempt at a time finds out whether it is still refused.
    """

    def __init__(self, lanes: Lanes, fingerprint: Callable[[str], str]) -> None:
        """``fingerprint`` is a keyed hash: it tells credentials apart, and nothing to those without the key."""
        self._lanes, self._fingerprint = lanes, fingerprint
        self._stops: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether anything is stopped. Names cost too much to be made for every attempt where nothing is."""
        return bool(self._stops)

    def names(self, lane: Lane, scope: Scope, masker: Masker) -> tuple[str, str]:
        """What a 410 and a 401 would stop: the name of a URL, and of a credential; or the destination's own."""
        gone = refused = lane.name
        if scope.url:
            gone = _name_of(scope.url, lane, masker)
        if scope.credential:
            digest = self._fingerprint(scope.credential.encode(errors="replace").decode())[:8]
            refused = f"{scope.service or lane.name} (key {digest})"
        return gone, refused

    def find(self, names: Iterable[str], now: float) -> Shut | tuple[Lane, ...]:
        """Why an attempt may not begin; else the stops that it is to find out about."""
        found = []
        for name in names:
            if name not in self._stops or (stop := self._lanes.get(name)) is None:
                continue
            if (block := stop.block(now)) is not None or stop.under_way:
                return Shut(stop, block)
            found.append(stop)
        return tuple(found)

    def stop(self, name: str, says: Says, reason: str, table: LimitTable, now: float) -> Lane:
        """An answer said that a URL is gone or a credential is refused."""
        stop = self._lanes.lane(name, name, table, now)
        self._stops.add(name)
        self._lanes.learn(stop, says, reason, now)
        return stop

    def add(self, name: str) -> None:
        """A lane that was restored is a stop."""
        self._stops.add(name)

    def knows(self, lane: Lane) -> bool:
        """Whether a lane is a stop."""
        return lane.name in self._stops

    def forget(self, name: str) -> None:
        """It is none any more."""
        self._stops.discard(name)


def _name_of(url: str, lane: Lane, masker: Masker) -> str:
    """A URL without user, query and secrets; a digest tells those apart that look the same then.

    Nothing of the query's secrets is in it: they may be short enough to be guessed.
    """
    parts = urlsplit(url)
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.path in ("", "/") and not parts.query:
        return lane.name
    shown = masker.text(plain)
    if masker.text(url) == plain and len(plain) <= _SHOWN and plain.isprintable():
        return plain
    text = f"{plain}?{masker.text(parts.query)}"
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    shown = shown if shown.startswith(f"{parts.scheme}://") else lane.name
    return f"{''.join(char if char.isprintable() else ' ' for char in shown[:_SHOWN])} (url {digest})"
