"""Requirements on a configuration that depend on how it is used."""

from __future__ import annotations

from collections.abc import Callable

from engine.config import ENGINE_KEYS, Config
from engine.core.positions import Where
from engine.core.serve_settings import Address

#: One requirement. It reports to the configuration's source, or raises ConfigError.
Check = Callable[[Config], None]


def needs_secrets(listen: Address) -> Check:
    """A check that refuses ``secrets: none`` unless only this machine can reach the public listener."""

    def check(config: Config) -> None:
        if config.secrets is None and not listen.is_loopback:
            message = f"'secrets: none' is allowed on loopback only, not on {listen}"
            hint = 'write secrets: ["${LANGSMITH_WEBHOOK_SECRET}"], or listen on 127.0.0.1'
            config.source.report(("secrets",), message, hint)

    return check


def needs_what_decides(config: Config) -> None:
    """Refuse unset variables that decide what matches: with a stand-in value the answer would be wrong."""
    for unset in config.unset:
        if any(_decides(place) for place in unset.places):
            config.source.add(unset.problem)


def _decides(where: Where) -> bool:
    """Whether a value affects what matches: everything in rules, routes and vars except the actions' parameters."""
    if where[0] != "routes":
        return where[0] in ("rules", "vars")
    for at, key in enumerate(where):
        if at > 1 and key in ("actions", "on_dead"):
            return len(where) <= at + 2 or where[at + 2] in ENGINE_KEYS
    return True
