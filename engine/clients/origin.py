"""Origins: a host and a port. Trust is given to origins, because other ports of a host run other services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.clients.network import plain_host

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A host, normalised by ``plain_host``, and a port. The scheme only determines the default port."""

    host: str
    port: int


def origin_of(scheme: str, host: str, port: str = "") -> Origin | None:
    """The origin of a URL, from its parts as written; None if they are invalid."""
    name = plain_host(host)
    number = int(port) if port.isascii() and port.isdigit() else 0 if port else _PORTS.get(scheme.lower(), 0)
    return Origin(name, number) if name and 0 < number < 65536 else None
