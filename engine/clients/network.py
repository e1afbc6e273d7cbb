"""Hosts as the author writes them: origins, and the ``network:`` block of non-public addresses for event data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from yarl import URL

from engine.clients.addresses import Address, embedded_addresses

#: The syntax of a host name. The first label of an entry may be ``*``.
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Network:
    """Permitted networks and hosts besides the public ones. ``suffixes`` begin with a dot."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()

    def permits(self, host: str, address: Address) -> bool:
        """Whether a host may be reached at an address. ``host`` is normalised by ``plain_host``."""
        if host in self.names or host.endswith(self.suffixes):
            return True
        return any(one in network for one in embedded_addresses(address) for network in self.networks)


def parse_network(entries: Iterable[str]) -> Network:
    """Parse the entries of ``allow``.

    Raises:
        ValueError: an entry is neither a network nor a host; says how to write it.
    """
    networks, names, suffixes = [], set(), []
    for entry in entries:
        parsed = parse_entry(entry)
        if not isinstance(parsed, str):
            networks.append(parsed)
        elif parsed.startswith("*."):
            suffixes.append(parsed[1:])
        else:
            names.add(parsed)
    return Network(tuple(networks), frozenset(names), tuple(suffixes))


def parse_entry(entry: str) -> IPv4Network | IPv6Network | str:
    """Parse one entry of ``allow``: a network, or a host normalised by ``plain_host``, possibly with a ``*.`` prefix.

    Raises:
        ValueError: it is neither; says how to write it.
    """
    text = entry.strip()
    if _looks_numeric(text):
        return _network(text)
    if "://" in text or "/" in text:
        raise ValueError(f"{text!r} is not a host: write its name alone, like {_host_in(text)}")
    wild, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if "*" in name:
        raise ValueError(f"{text!r}: a * may only replace the beginning of a name, like '*.svc.cluster.local'")
    host = plain_host(name)
    if ":" in name or not host or not _NAME.fullmatch(host):
        raise ValueError(f"{text!r} is neither a host name nor a network; write it without a port")
    return wild + host


def plain_host(host: str) -> str:
    """Normalise a host for comparison: IDNA-encoded, without a trailing dot. Empty if it is not a host."""
    try:
        url = URL.build(scheme="http", host=host.strip("[]"))
    except (ValueError, UnicodeError):
        return ""
    return (url.raw_host or "").rstrip(".")


def _looks_numeric(text: str) -> bool:
    head = text.partition("/")[0]
    return head.count(":") > 1 or head.replace(".", "").isdigit()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.replace("[", "").replace("]", ""))
    except ValueError as error:
        try:
            hint = f"did you mean {ip_network(text, strict=False)}?"  # the network that contains 10.1.2.3/8
        except ValueError:
            hint = "write it like 10.0.0.0/8 or fd00::/8"
        raise ValueError(f"{text!r} is not a network: {error}; {hint}") from None


def _host_in(text: str) -> str:
    try:
        return URL(text if "://" in text else f"http://{text}").host or "minio.internal"
    except ValueError:
        return "minio.internal"


@dataclass(frozen=True, slots=True)
class Origin:
    """A host, normalised by ``plain_host``, and a port. The scheme only determines the default port.

    Trust is given to origins, because other ports of a host run other services.
    """

    host: str
    port: int


def origin_of(scheme: str, host: str, port: str = "") -> Origin | None:
    """The origin of a URL, from its parts as written; None if they are invalid."""
    name = plain_host(host)
    number = int(port) if port.isascii() and port.isdigit() else 0 if port else _PORTS.get(scheme.lower(), 0)
    return Origin(name, number) if name and 0 < number < 65536 else None
