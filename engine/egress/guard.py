"""The address guard: where a request may lead, judged on the address that is really connected to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

from engine.egress.addresses import Address, is_metadata, parse_address, why_not_public
from engine.egress.network import Network, plain_host
from engine.errors import Discard

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: The hosts that are the author's, for whoever asks now: a variable of the task, because between an action and the
#: connector lies a client library that passes nothing on.
_AUTHORS: ContextVar[frozenset[str]] = ContextVar("authors_hosts", default=frozenset())


class Refused(Discard):
    """A request leads where event data must not lead; says what to write if it should. No attempt can succeed."""


@contextmanager
def trusting(hosts: frozenset[str]) -> Iterator[None]:
    """Within it, requests of this task and those it starts may go to these hosts: they are the author's."""
    token = _AUTHORS.set(hosts)
    try:
        yield
    finally:
        _AUTHORS.reset(token)


def refusal(host: str, address: str, network: Network) -> str:
    """Why a host must not be reached at an address, with the way to permit it; empty when it may.

    Addresses of clouds' metadata services are never reached, whoever wrote them. Whatever else
    a host leads to is fine if it is the author's, or the ``network`` block's; others must be public.
    """
    found = parse_address(address)
    if found is None:
        return f"{host} leads to {address!r}, which is no address"
    if is_metadata(found):
        return f"{_led(host, found)} is a cloud's metadata service, which is never reached"
    name = plain_host(host)
    if name in _AUTHORS.get() or network.permits(name, found):
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

    def __init__(self, network: Callable[[], Network], **options: Any) -> None:
        super().__init__(**options)
        self._network = network

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """As ever; nothing has been sent yet when it is refused."""
        connection = await super().connect(req, traces, timeout)
        host = (req.proxy or req.url).raw_host or ""
        reason = _refusal_of_peer(host, connection, self._network())
        if reason:
            connection.release()
            raise Refused(reason)
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        """What a name leads to, or the address that it is (which aiohttp asks no resolver about); the good ones."""
        try:
            found = await super()._resolve_host(host, port, traces)
        except (aiohttp.InvalidURL, UnicodeError, ValueError) as error:
            raise Refused(f"{host[:200]!r} is no host: write a name, or an address in full") from error
        refusals = [refusal(host, one["host"], self._network()) for one in found]
        good = [one for one, reason in zip(found, refusals, strict=True) if not reason]
        if found and not good:
            raise Refused(refusals[0])
        return good


def _refusal_of_peer(host: str, connection: Connection, network: Network) -> str:
    peer = connection.transport.get_extra_info("peername") if connection.transport is not None else None
    return refusal(host, str(peer[0]), network) if isinstance(peer, tuple) and peer else ""
