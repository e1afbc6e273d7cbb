"""The engine's own own_listeners: where it listens for people, and no event may lead."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from engine.clients.addresses import Address, embedded_addresses, parse_address


class OwnListeners:
    """The addresses at which the admin listener listens. Shared by the clients of all loops."""

    def __init__(self) -> None:
        self._bound: tuple[tuple[Address, int], ...] = ()

    def add(self, names: Iterable[Any]) -> None:
        """Keep these from now on: what sockets that listen say of themselves (``getsockname``)."""
        found = ((parse_address(str(host)), int(port)) for host, port, *_ in names)
        self._bound += tuple((address, port) for address, port in found if address is not None)

    def include(self, address: Address, port: int) -> bool:
        """Whether one of them is reached at an address and port, in whatever form that is written."""
        near = [bound for bound, number in self._bound if number == port]
        return any(_meets(bound, one) for bound in near for one in embedded_addresses(address))


def _meets(bound: Address, address: Address) -> bool:
    """A socket that listens everywhere is met at every address of this machine; the unspecified one leads home."""
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
