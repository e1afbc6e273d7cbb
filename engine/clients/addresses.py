"""Whether an IP address is public. IPv6 addresses that embed an IPv4 address are judged by that address.

The tables are IANA's special-purpose registries (RFC 6890 and its updates). Python's ``is_global`` is not used because
its tables differ between versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_NOT_PUBLIC: Final = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "private"),
        ("2001:2::/48", "for benchmarks"),
        ("2001:db8::/32", "for documentation"),
        ("2001::/23", "reserved"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
#: The only public part of IPv6.
_UNICAST_V6: Final = ip_network("2000::/3")
#: Prefixes of addresses that embed an IPv4 address, and how many bits follow it.
_EMBEDDING: Final = tuple(
    (ip_network(network), behind)
    for network, behind in (
        ("::ffff:0:0/96", 0),  # mapped
        ("::ffff:0:0:0/96", 0),  # translated (SIIT)
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
        ("::/96", 0),  # compatible
    )
)
#: Metadata services of clouds. They return credentials to every caller.
_METADATA: Final = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, Oracle, DigitalOcean, OpenStack and more
        "169.254.170.2",  # AWS: tasks (ECS)
        "169.254.170.23",  # AWS: pods (EKS)
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google Cloud
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host agent
        "192.0.0.192",  # Oracle Cloud, the older one
        "169.254.42.42",  # Scaleway
        "fd00:42::42",
    )
)


def parse_address(text: str) -> Address | None:
    """Parse an address as written in connections and URLs. None if it is not an address."""
    try:
        return ip_address(text.replace("%25", "%", 1))
    except ValueError:
        return None


def is_metadata(address: Address) -> bool:
    """Whether an address, in any form, is that of a cloud's metadata service."""
    return any(one in _METADATA for one in embedded_addresses(address))


def why_not_public(address: Address) -> str:
    """Why an address is not public, as an adjective; empty if it is public."""
    if isinstance(address, IPv6Address) and address.scope_id:
        return "link-local (it has a zone)"
    innermost = list(embedded_addresses(address))[1:] or [address]
    return next(filter(None, map(_why, innermost)), "")


def embedded_addresses(address: Address) -> Iterator[Address]:
    """The address without its zone, and every IPv4 address that it embeds."""
    if isinstance(address, IPv4Address):
        yield address
        return
    bare = IPv6Address(int(address))
    yield bare
    if int(bare) <= 1:  # unspecified and loopback; they are in ::/96, too
        return
    if bare.teredo is not None:  # the addresses of the server and the client
        yield from bare.teredo
        return
    for network, behind in _EMBEDDING:
        if bare in network:
            yield IPv4Address(int(bare) >> behind & 0xFFFFFFFF)
            return


def _why(address: Address) -> str:
    usual = "" if isinstance(address, IPv4Address) or address in _UNICAST_V6 else "reserved"
    return next((why for network, why in _NOT_PUBLIC if address in network), usual)
