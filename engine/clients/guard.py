"""The address guard: whether a request may be sent, judged by the address of the actual connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp

from engine.clients.addresses import Address, embedded_addresses, is_metadata, parse_address, why_not_public
from engine.clients.network import Network, Origin, plain_host
from engine.core.errors import Discard

if TYPE_CHECKING:
    from asyncio import BaseProtocol

    from aiohttp.abc import ResolveResult
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: The origins that the author of the configuration wrote, for the current task. A context variable, because the client
#: library between an action and the connector passes no arguments on.
_TRUSTED: ContextVar[frozenset[Origin]] = ContextVar("authors_origins", default=frozenset())


class AddressBlocked(Discard):
    """Event data must not be sent to this address. Says how to permit it. Retries cannot succeed."""


class OwnListeners:
    """The addresses of the engine's own admin listener, to which event data must not be sent.

    Shared by the clients of all event loops.
    """

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


@contextmanager
def trusting(origins: frozenset[Origin]) -> Iterator[None]:
    """A context in which requests of this task, and of tasks it starts, may go to these origins of the author."""
    token = _TRUSTED.set(origins)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def refusal(host: str, port: int, address: str, network: Network, own_listeners: OwnListeners) -> str:
    """Why a host must not be reached at an address and port, and how to permit it; empty if it may be reached.

    Metadata services of clouds are never reached. Otherwise the author's origins are allowed. Other hosts must not be
    the engine's own listeners, and must be permitted by the ``network`` block or have a public address.
    """
    found = parse_address(address)
    if found is None:
        return f"{host} resolves to {address!r}, which is not an IP address"
    if is_metadata(found):
        return f"{_describe(host, found)} is a cloud's metadata service, which is never reached"
    name = plain_host(host)
    if Origin(name, port) in _TRUSTED.get():
        return ""
    if own_listeners.include(found, port):
        return (
            f"{_describe(host, found)} is, at port {port}, the engine's own admin listener, which events must not reach"
        )
    if network.permits(name, found):
        return ""
    why = why_not_public(found)
    if not why:
        return ""
    return (
        f"{_describe(host, found)} is {why}, and event data goes only to public addresses; "
        f"to permit it, write at the top level: network: {{allow: [{_entry(name, found)}]}}"
    )


def _describe(host: str, address: Address) -> str:
    return f"the address {address}" if parse_address(host) == address else f"the address {address} of {host}"


def _entry(name: str, address: Address) -> str:
    """What to write under ``allow``, quoted where YAML needs it."""
    text = name if name and parse_address(name) is None else str(address).partition("%")[0]
    return f'"{text}"' if ":" in text else text


class GuardedConnector(aiohttp.TCPConnector):
    """Connects only to addresses for which ``refusal`` is empty.

    A name is resolved once; the resulting address is checked and then connected to, so a second look-up cannot return
    another address. A reused connection is checked by its peer's address, because it may have been opened for a
    trusted origin.
    """

    def __init__(self, network: Callable[[], Network], own_listeners: OwnListeners, **options: Any) -> None:
        super().__init__(**options)
        self._network, self._own_listeners = network, own_listeners
        #: By connection, what its peer was checked with. Under the same rules it is not checked again.
        self._checked: WeakKeyDictionary[BaseProtocol, tuple[object, ...]] = WeakKeyDictionary()

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """Connect, and check the peer. Nothing has been sent when an exception is raised."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        rules = (_TRUSTED.get(), self._network(), self._own_listeners.bound)
        if protocol is not None and self._checked.get(protocol) != rules:
            url, peer = req.proxy or req.url, _peer_of(connection)
            if peer and (reason := self._refusal(url.raw_host or "", url.port or 0, peer)):
                connection.release()
                raise AddressBlocked(reason)
            self._checked[protocol] = rules
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        """The allowed addresses of a name. ``host`` may be an address, for which aiohttp uses no resolver."""
        try:
            found = await super()._resolve_host(host, port, traces)
        except (aiohttp.InvalidURL, UnicodeError, ValueError) as error:
            raise AddressBlocked(f"{host[:200]!r} is not a host: write a name or a full IP address") from error
        refusals = [self._refusal(host, port, one["host"]) for one in found]
        allowed = [one for one, reason in zip(found, refusals, strict=True) if not reason]
        if found and not allowed:
            raise AddressBlocked(refusals[0])
        return allowed

    def _refusal(self, host: str, port: int, address: str) -> str:
        return refusal(host, port, address, self._network(), self._own_listeners)


def _peer_of(connection: Connection) -> str:
    peer = connection.transport.get_extra_info("peername") if connection.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
