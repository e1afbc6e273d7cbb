"""The engine's own admin listener, to which event data must not be sent."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from engine.clients.addresses import Address, embedded_addresses, parse_address


class OwnListeners:
    """The addresses of the admin listener. Shared by the clients of all event loops."""

    def __init__(self) -> None:
        #: Addresses and ports.
        self.bound: tuple[tuple[Address, int], ...] = ()

    def add(self, names: Iterable[Any]) -> None:
        """Add the addresses of listening sockets, as returned by ``getsockname``."""
        found = ((parse_address(str(host)), int(port)) for host, port, *_ in names)
        self.bound += tuple((address, port) for address, port in found if address is not None)

    def include(self, address: Address, port: int) -> bool:
        """Whether an address, in any form, and a port lead to one of the listeners."""
        candidates = [bound for bound, number in self.bound if number == port]
        return any(_reaches(bound, one) for bound in candidates for one in embedded_addresses(address))


def _reaches(bound: Address, address: Address) -> bool:
    """A wildcard socket is reached at every address of this machine. The unspecified address is this machine."""
    if bound == address or address.is_unspecified:
        return True
    return bound.is_unspecified and bound.version == address.version and _is_this_machines(address)


def _is_this_machines(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
