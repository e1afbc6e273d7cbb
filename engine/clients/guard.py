"""The address guard: where a request may lead, judged on the address that is really connected to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

from engine.clients.addresses import Address, is_metadata, parse_address, why_not_public
from engine.clients.network import Network, plain_host
from engine.clients.origin import Origin
from engine.clients.own_listeners import OwnListeners
from engine.core.errors import Discard

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: The origins that are the author's, for whoever asks now: a variable of the task, because between an action and the
#: connector lies a client library that passes nothing on.
_TRUSTED: ContextVar[frozenset[Origin]] = ContextVar("authors_origins", default=frozenset())


class AddressBlocked(Discard):
    """A request leads where event data must not lead; says what to write if it should. No attempt can succeed."""


@contextmanager
def trusting(origins: frozenset[Origin]) -> Iterator[None]:
    """Within it, requests of this task and those it starts may go to these origins: they are the author's."""
    token = _TRUSTED.set(origins)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def refusal(host: str, port: int, address: str, network: Network, own_listeners: OwnListeners) -> str:
    """Why a host must not be reached at an address and port, with the way to permit it; empty when it may.

    Addresses of clouds' metadata services are never reached, whoever wrote them. Whatever else
    an origin of the author's leads to is fine. For others the engine's own doors are shut, whatever
    the ``network`` block says; what it permits is fine, and the rest must be public.
    """
    found = parse_address(address)
    if found is None:
        return f"{host} leads to {address!r}, which is no address"
    if is_metadata(found):
        return f"{_led(host, found)} is a cloud's metadata service, which is never reached"
    name = plain_host(host)
    if Origin(name, port) in _TRUSTED.get():
        return ""
    if own_listeners.include(found, port):
        return f"{_led(host, found)} is, at port {port}, the engine's own admin listener, where no event leads"
    if network.permits(name, found):
        return ""
    why = why_not_public(found)
    if not why:
        return ""
    return (
        f"{_led(host, found)} is {why}, and where event data leads must be public; "
        f"to permit it, write at the top level: network: {{allow: [{_entry(name, found)}]}}"
    )


def _led(host: str, address: Address) -> str:
    return f"the address {address}" if parse_address(host) == address else f"the address {address} of {host}"


def _entry(name: str, address: Address) -> str:
    """What to write under ``allow``, quoted where YAML needs it."""
    text = name if name and parse_address(name) is None else str(address).partition("%")[0]
    return f'"{text}"' if ":" in text else text


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to addresses that pass ``refusal`` only.

    There is no second look-up that could answer something else: what a name resolved to is judged
    and then connected to as an address. A connection that was there already is judged by the
    address at its other end, for it may have been made for somebody who is trusted with more.
    """

    def __init__(self, network: Callable[[], Network], own_listeners: OwnListeners, **options: Any) -> None:
        super().__init__(**options)
        self._network, self._own_listeners = network, own_listeners

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """As ever; nothing has been sent yet when it is refused."""
        connection = await super().connect(req, traces, timeout)
        url = req.proxy or req.url
        peer = _peer_of(connection)
        if peer and (reason := self._refusal(url.raw_host or "", url.port or 0, peer)):
            connection.release()
            raise AddressBlocked(reason)
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        """What a name leads to, or the address that it is (which aiohttp asks no resolver about); the good ones."""
        try:
            found = await super()._resolve_host(host, port, traces)
        except (aiohttp.InvalidURL, UnicodeError, ValueError) as error:
            raise AddressBlocked(f"{host[:200]!r} is no host: write a name, or an address in full") from error
        refusals = [self._refusal(host, port, one["host"]) for one in found]
        good = [one for one, reason in zip(found, refusals, strict=True) if not reason]
        if found and not good:
            raise AddressBlocked(refusals[0])
        return good

    def _refusal(self, host: str, port: int, address: str) -> str:
        return refusal(host, port, address, self._network(), self._own_listeners)


def _peer_of(connection: Connection) -> str:
    peer = connection.transport.get_extra_info("peername") if connection.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
