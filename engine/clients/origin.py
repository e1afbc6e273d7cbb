"""What trust is given to: a host and a port. Another port of the same host is another's door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.clients.network import plain_host

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A host, as ``plain_host`` has it, and a port. Of the scheme only the usual port counts."""

    host: str
    port: int


def origin_of(scheme: str, host: str, port: str = "") -> Origin | None:
    """The origin that parts of an address make, as they are written there; None where they make none."""
    name = plain_host(host)
    number = int(port) if port.isascii() and port.isdigit() else 0 if port else _PORTS.get(scheme.lower(), 0)
    return Origin(name, number) if name and 0 < number < 65536 else None
