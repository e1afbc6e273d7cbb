"""Outgoing HTTP: the session that actions and hydration share, and the guard of where it may connect."""

from engine.clients.addresses import is_metadata, parse_address
from engine.clients.guard import Refused, trusting
from engine.clients.network import Network, parse_entry, parse_network, plain_host
from engine.clients.origin import Origin, origin_of
from engine.clients.own_listeners import Doors
from engine.clients.session import open_session, user_agent

__all__ = [
    "Doors",
    "Network",
    "Origin",
    "Refused",
    "is_metadata",
    "open_session",
    "origin_of",
    "parse_address",
    "parse_entry",
    "parse_network",
    "plain_host",
    "trusting",
    "user_agent",
]
