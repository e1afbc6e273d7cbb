"""All warnings about a configuration: what is valid in it but probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.clients.langsmith.settings import CLOUD_RETENTION
from engine.config import Config, RouteConfig
from engine.core.env_file import exposed
from engine.core.errors import Problem
from engine.core.positions import Source, Where
from engine.core.vocabulary import UNMATCHED
from engine.rules.lint.fields import route_warnings
from engine.rules.reload import Loaded
from engine.rules.router import ANY

#: Characters. A shorter secret is easily guessed, and one that is too short to be masked may appear in logs.
_SHORTEST_SECRET = 8


def lint(loaded: Loaded) -> list[Problem]:
    """The warnings in file order: short secrets, unreachable or disabled routes, unused names, unknown fields and more.

    The plug-ins that cannot be used follow.
    """
    warnings = Source(loaded.config.source.file, loaded.config.source.text, loaded.config.source.marks)
    for where, message, hint in _warnings(loaded.config):
        warnings.report(where, message, hint, at_key=True)
    for one in route_warnings(loaded.config, loaded.registry):
        if not loaded.config.source.suppressed(one.where):
            warnings.report(one.where, one.message, one.hint, at_key=one.at_key, line=one.line, column=one.column)
    return sorted(warnings.problems) + sorted(loaded.broken)


def warn_of_unset(config: Config) -> list[Problem]:
    """One warning for each variable that is not set."""
    return sorted(replace(each.problem, hint=_unset_hint(each.problem.hint)) for each in config.unset)


def warn_of_env_file(config: Config) -> list[Problem]:
    """A warning if others can read the file of variables."""
    if config.env_file is None or not (words := exposed(config.env_file)):
        return []
    return [Problem(str(config.env_file), 0, 0, *words)]


def _unset_hint(hint: str) -> str:
    return ": ".join(filter(None, ("checked with a stand-in for its value; engine serve needs it", hint)))


def _warnings(config: Config) -> Iterator[tuple[Where, str, str]]:
    yield from _short_secrets(config)
    yield from _long_retention(config)
    yield from _unreachable(config)
    yield from _disabled(config)
    yield from _unused_names(config)
    yield from _spelled_twice(config)


def _short_secrets(config: Config) -> Iterator[tuple[Where, str, str]]:
    for key, secrets in (("secrets", config.secrets or ()), ("signing_secrets", config.signing_secrets)):
        for index, secret in enumerate(secrets):
            if config.source.suppressed((key, index)):
                continue
            if len(secret) < _SHORTEST_SECRET:
                message = f"this secret has {len(secret)} characters: it can be found by trying"
                yield (key, index), message, "use at least 16 random ones, such as: openssl rand -hex 16"


def _long_retention(config: Config) -> Iterator[tuple[Where, str, str]]:
    """A retention longer than LangSmith's has no effect: deleted traces cannot be fetched."""
    settings = config.langsmith
    if config.source.suppressed(("langsmith", "endpoint")):
        return
    if settings.on_cloud and settings.retention is not None and settings.retention > CLOUD_RETENTION:
        message = "LangSmith's cloud keeps traces for 180 days at most"
        yield ("langsmith", "trace_retention"), message, "remove it: without it, 180d is taken there"


def _unreachable(config: Config) -> Iterator[tuple[Where, str, str]]:
    """Routes after one that matches everything and stops. It only stops routes that see the same documents."""
    catch_alls: dict[str, list[RouteConfig]] = {}
    for route in config.routes:
        if not route.enabled:
            continue
        earlier = catch_alls.get(route.keys[0], ()) if route.keys else ()
        blocker = next((one for one in earlier if _covers(one, route)), None)
        if blocker is not None:
            message = f"route {route.id!r} is never reached: {blocker.id!r} before it matches everything and stops"
            yield route.where, message, "move it up, give the earlier route filters, or take its stop: true away"
        if route.stop and not route.filters:
            for key in route.keys:
                catch_alls.setdefault(key, []).append(route)


def _covers(earlier: RouteConfig, later: RouteConfig) -> bool:
    special = {ANY, UNMATCHED} & {*earlier.keys, *later.keys}
    return earlier.for_each == later.for_each and set(later.keys) <= set(earlier.keys) and not special


def _disabled(config: Config) -> Iterator[tuple[Where, str, str]]:
    for route in config.routes:
        if not route.enabled:
            yield route.where, f"route {route.id!r} is disabled", "enabled: false; it is checked, but never evaluated"


def _unused_names(config: Config) -> Iterator[tuple[Where, str, str]]:
    used = {route.key for route in config.routes}
    for name in config.rules:
        if name not in used:
            yield ("rules", name), f"no route uses the rule name {name!r}", f"add a route under {name}:, or remove it"


def _spelled_twice(config: Config) -> Iterator[tuple[Where, str, str]]:
    """One rule under two keys: its id and its name, or its id in upper and in lower case."""
    ids = {route.key: route.keys for route in config.routes if route.keys}
    keys = list(ids)
    for place, key in enumerate(keys):
        first = next((one for one in keys[:place] if set(ids[one]) == set(ids[key])), None)
        if first is not None:
            hint = f"write its routes under {first}: as well; their order and stop apply across both keys"
            yield ("routes", key), f"{key!r} is the same rule as {first!r}", hint
