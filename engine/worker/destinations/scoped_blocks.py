"""Blocks of a single URL or credential, while the rest of its destination takes deliveries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from engine.action.failures import Says, Scope
from engine.clients.limits import LimitTable
from engine.core.masking import Masker
from engine.worker.destinations.destination import Destination
from engine.worker.destinations.table import DestinationTable, NotAdmitted

#: The longest part of a URL that a name shows, in characters.
_MAX_SHOWN = 160


class ScopedBlocks:
    """Each is a blocked destination of its own, in whose queue the deliveries wait. It has no attempts of its own.

    When the block ends, or on request, one attempt at a time finds out whether it still holds.
    """

    def __init__(self, table: DestinationTable, fingerprint: Callable[[str], str]) -> None:
        """``fingerprint`` is a keyed hash, so that the name of a credential does not help to guess it."""
        self._table, self._fingerprint = table, fingerprint
        self._names: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether there are any. Making names is too expensive for every attempt if there are none."""
        return bool(self._names)

    def names(self, destination: Destination, scope: Scope, masker: Masker) -> tuple[str, str]:
        """The names of what a 410 blocks and of what a 401 blocks: a URL, a credential, or else the destination."""
        gone = refused = destination.name
        if scope.url:
            gone = _name_of(scope.url, destination, masker)
        if scope.credential:
            digest = self._fingerprint(scope.credential.encode(errors="replace").decode())[:8]
            refused = f"{scope.service or destination.name} (key {digest})"
        return gone, refused

    def check(self, names: Iterable[str], now: float) -> NotAdmitted | tuple[Destination, ...]:
        """Why an attempt may not start; else the scoped blocks that it probes."""
        probed = []
        for name in names:
            if name not in self._names or (found := self._table.get(name)) is None:
                continue
            if (block := found.block(now)) is not None or found.in_flight:
                return NotAdmitted(found, block)
            probed.append(found)
        return tuple(probed)

    def block(self, name: str, says: Says, reason: str, limits: LimitTable, now: float) -> Destination:
        """Block a URL that is gone, or a credential that is refused."""
        destination = self._table.get_or_add(name, name, limits, now)
        self._names.add(name)
        self._table.record_block(destination, says, reason, now)
        return destination

    def add(self, name: str) -> None:
        """Note that a restored destination is a scoped block."""
        self._names.add(name)

    def has(self, destination: Destination) -> bool:
        """Whether a destination is a scoped block."""
        return destination.name in self._names

    def forget(self, name: str) -> None:
        """Remove a scoped block."""
        self._names.discard(name)


def _name_of(url: str, destination: Destination, masker: Masker) -> str:
    """A URL without user, query and secrets; a digest distinguishes URLs that look the same then.

    Secrets of the query are not in the digest: they may be short enough to be guessed.
    """
    parts = urlsplit(url)
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.path in ("", "/") and not parts.query:
        return destination.name
    shown = masker.text(plain)
    if masker.text(url) == plain and len(plain) <= _MAX_SHOWN and plain.isprintable():
        return plain
    text = f"{plain}?{masker.text(parts.query)}"
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    shown = shown if shown.startswith(f"{parts.scheme}://") else destination.name
    return f"{''.join(char if char.isprintable() else ' ' for char in shown[:_MAX_SHOWN])} (url {digest})"
