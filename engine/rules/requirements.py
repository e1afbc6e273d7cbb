"""What is required of a configuration beyond what it says itself."""

from __future__ import annotations

from collections.abc import Callable

from engine.config import ENGINE_KEYS, Config
from engine.core.positions import Where
from engine.core.serve_settings import Address

#: Such a requirement. Reports into its ``source``, or raises ConfigError.
Check = Callable[[Config], None]


def needs_secrets(listen: Address) -> Check:
    """Refuses ``secrets: none`` unless only this machine can reach the public listener."""

    def check(config: Config) -> None:
        if config.secrets is None and not listen.is_loopback:
            message = f"'secrets: none' is allowed on loopback only, not on {listen}"
            hint = 'write secrets: ["${LANGSMITH_WEBHOOK_SECRET}"], or listen on 127.0.0.1'
            config.source.report(("secrets",), message, hint)

    return check


def needs_what_decides(config: Config) -> None:
    """Refuses unset variables on which it depends what matches: a stand-in for one would give a wrong answer."""
    for unset in config.unset:
        if any(_decides(place) for place in unset.places):
            config.source.add(unset.problem)


def _decides(where: Where) -> bool:
    """Whether a value has a say in what matches: all of rules, routes and vars, but for the actions' parameters."""
    if where[0] != "routes":
        return where[0] in ("rules", "vars")
    for at, key in enumerate(where):
        if at > 1 and key in ("actions", "on_dead"):
            return len(where) <= at + 2 or where[at + 2] in ENGINE_KEYS
    return True
