"""The ``network:`` block of the file: where requests may go that event data leads to."""

from __future__ import annotations

from typing import Any, Final

from engine.clients.addresses import is_metadata, parse_address
from engine.clients.network import Network, parse_entry, parse_network
from engine.config.section import Section, kind_of
from engine.core.positions import Where

_WORDS: Final = {
    "allowed": "allow",
    "allow_list": "allow",
    "allowlist": "allow",
    "whitelist": "allow",
    "hosts": "allow",
    "permit": "allow",
}
_EXAMPLE: Final = 'write network: {allow: [10.0.0.0/8, "*.svc.cluster.local", minio.internal]}'


def read_network(top: Section) -> Network:
    """What is permitted beside public addresses; nothing where the block is missing."""
    section = top.block("network", {"allow"}, _WORDS)
    if section is None or "allow" not in section.values:
        return Network()
    where: Where = ("network", "allow")
    value = section.values["allow"]
    items = value if isinstance(value, list) else [value]
    if not isinstance(value, (list, str)):
        top.reader.wrong(where, f"'allow' must be a list of networks and hosts, not {kind_of(value)}", _EXAMPLE)
        return Network()
    return parse_network(
        item
        for index, item in enumerate(items)
        if _is_sound(top, item, (*where, index) if isinstance(value, list) else where)
    )


def _is_sound(top: Section, item: Any, where: Where) -> bool:
    """Whether an entry can be used; reported if not."""
    if not isinstance(item, str):
        top.reader.wrong(where, f"a network or host must be a text, not {kind_of(item)}", _EXAMPLE)
        return False
    if where in top.reader.quiet:
        return False
    try:
        parse_entry(item)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        top.reader.wrong(where, message, hint or _EXAMPLE)
        return False
    address = parse_address(item.strip())
    if address is not None and is_metadata(address):
        top.reader.wrong(where, f"{item} is a cloud's metadata service, which is never reached", "remove it")
        return False
    return True
