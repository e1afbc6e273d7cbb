"""Blocks of a single URL or credential, while its destination takes deliveries; and names without secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from engine.action.failures import Health, Scope
from engine.clients.limits import LimitTable
from engine.core.masking import Masker
from engine.worker.destinations.destination import Destination, NotAdmitted
from engine.worker.destinations.table import DestinationTable

#: The longest name, and the longest part of a URL that a name shows, in characters.
_MAX_NAME, _MAX_SHOWN = 200, 160
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class ScopedBlocks:
    """Each is a blocked destination of its own, in whose queue the deliveries wait. It has no attempts of its own.

    When the block ends, or on request, one attempt at a time finds out whether it still holds.
    """

    def __init__(self, table: DestinationTable, fingerprint: Callable[[str], str]) -> None:
        """``fingerprint`` is a keyed hash, so that the name of a credential does not help to guess it."""
        self._table, self._fingerprint = table, fingerprint
        #: Their names. Making the names of an attempt is too expensive if there are none.
        self.blocked: set[str] = set()

    def names(self, destination: Destination, scope: Scope, masker: Masker) -> tuple[str, str]:
        """The names of what a 410 blocks and of what a 401 blocks: a URL, a credential, or else the destination."""
        gone = refused = destination.name
        if scope.url:
            gone = _name_of_url(scope.url, destination, masker)
        if scope.credential:
            digest = self._fingerprint(scope.credential.encode(errors="replace").decode())[:8]
            refused = f"{scope.service or destination.name} (key {digest})"
        return gone, refused

    def check(self, names: Iterable[str], now: float) -> NotAdmitted | tuple[Destination, ...]:
        """Why an attempt may not start; else the scoped blocks that it probes."""
        found = tuple(one for name in names if name in self.blocked and (one := self._table.get(name)) is not None)
        for one in found:
            if (block := one.block(now)) is not None or one.in_flight:
                return NotAdmitted(one, block)
        return found

    def block(self, name: str, says: Health, reason: str, limits: LimitTable, now: float) -> Destination:
        """Block a URL that is gone, or a credential that is refused."""
        destination = self._table.get_or_add(name, name, limits, now)
        self.blocked.add(name)
        destination.record_block(says, reason, now)
        return destination


def name_of(raw_name: str, masker: Masker) -> str:
    """A destination's name without secrets, on one line, of bounded length.

    Two destinations never share a name: where something is masked or cut, a digest distinguishes them.
    """
    shown = _CONTROLS.sub(" ", masker.text(raw_name)).strip()[:_MAX_NAME]
    return shown if shown == raw_name and shown else f"{shown} ({_digest(raw_name)})".strip()


def _name_of_url(url: str, destination: Destination, masker: Masker) -> str:
    """A URL without user, query and secrets; a digest distinguishes URLs that look the same then.

    Secrets of the query are not in the digest: they may be short enough to be guessed.
    """
    parts = urlsplit(url)
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.path in ("", "/") and not parts.query:
        return destination.name
    if masker.text(url) == plain and len(plain) <= _MAX_SHOWN and plain.isprintable():
        return plain
    shown = masker.text(plain)
    shown = shown if shown.startswith(f"{parts.scheme}://") else destination.name
    printable = "".join(char if char.isprintable() else " " for char in shown[:_MAX_SHOWN])
    return f"{printable} (url {_digest(f'{plain}?{masker.text(parts.query)}')})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
