"""``rules`` and ``routes``: which events a route listens to, and what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from engine.config.blocks.actions import NAME, read_actions, read_conditions, read_name
from engine.config.blocks.timing import read_active, read_wait_for
from engine.config.keys import KEY_WORDS, ROUTE_ELSEWHERE, ROUTE_KEYS, ROUTE_WORDS, UUID
from engine.config.model import RouteConfig
from engine.config.section import Reader, Section, kind_of
from engine.config.yaml.mistakes import should_read
from engine.core.positions import Where
from engine.core.suggest import did_you_mean, nearest

#: Hexadecimal groups, of whatever length, or as many digits at once.
_LIKE_UUID: Final = re.compile(r"[0-9a-fA-F]+(?:-[0-9a-fA-F]+){3,5}|[0-9a-fA-F]{32}")
_COPY: Final = "copy it again: it stands in the address of the rule's page in LangSmith"
_EACH_WORDS: Final = {"runs": "run", "payload": "event", "batch": "event", "webhook": "event", "events": "event"}
_KEY_WORDS_FOREIGN: Final = {
    "alerts": "alert",
    "prompts": "prompt",
    "issues": "issue",
    "hub": "context_hub",
    "contexthub": "context_hub",
    "context-hub": "context_hub",
    "agent": "context_hub",
    "skill": "context_hub",
    "commit": "context_hub",
    "default": "unmatched",
}


def read_rules(reader: Reader, value: Any, where: Where) -> dict[str, tuple[str, ...]]:
    """Names for LangSmith's ids, with their ids."""
    if not isinstance(value, dict):
        reader.wrong(where, f"'rules' must be a mapping of names to ids, not {kind_of(value)}")
        return {}
    return {name: _read_ids(reader, name, ids, (*where, name)) for name, ids in value.items()}


def read_routes(
    reader: Reader, value: Any, where: Where, rules: Mapping[str, tuple[str, ...]]
) -> tuple[RouteConfig, ...]:
    """Every route, in the order of the file."""
    if not isinstance(value, dict):
        hint = _without_dash(reader, value, where)
        reader.wrong(where, f"'routes' must be a mapping of rules to routes, not {kind_of(value)}", hint)
        return ()
    routes: list[RouteConfig] = []
    for key, written in value.items():
        keys = _resolve_key(reader, key, (*where, key), rules, written)
        if keys is not None:
            routes += _read_key(reader, key, written, (*where, key), keys)
    return tuple(routes)


def _without_dash(reader: Reader, value: Any, where: Where) -> str:
    """How to write as a mapping what stands below ``routes`` as a list of rules."""
    mark = reader.source.marks.get((*where, 0))
    if not isinstance(value, list) or mark is None or not isinstance(value[0], dict):
        return ""
    line = reader.source.lines[mark.line - 1]
    if line[: mark.column - 1].strip() != "-":
        return ""
    return f"remove the '- ' before each rule; {should_read(line[mark.column - 1 :])}"


# --- rules -----------------------------------------------------------------------------------------------------------


def _read_ids(reader: Reader, name: str, value: Any, where: Where) -> tuple[str, ...]:
    if name in KEY_WORDS or UUID.fullmatch(name) or not NAME.fullmatch(name):
        hint = "letters, digits, and . - _ inside; not an id, and none of " + ", ".join(sorted(KEY_WORDS))
        reader.source.report(where, f"{name!r} cannot be the name of a rule", hint, at_key=True)
    if isinstance(value, list):
        places = [((*where, index), item) for index, item in enumerate(value)]
    else:
        places = [(where, value)]
    if not places:
        reader.wrong(where, f"the rule {name!r} has no id", f'write {name}: "<the rule\'s id in LangSmith>"')
    ids = [_read_id(reader, name, item, place) for place, item in places]
    return tuple(dict.fromkeys(filter(None, ids)))


def _read_id(reader: Reader, name: str, value: Any, where: Where) -> str:
    if not isinstance(value, str):
        number = reader.number_as_written(value, where)
        hint = f'quote it: "{number}"' if number else ""
        reader.wrong(where, f"the rule {name!r} must be one id or a list of ids, not {kind_of(value)}", hint)
        return ""
    text = value.strip()
    if not text:
        reader.wrong(where, f"an id of the rule {name!r} is empty")
    elif re.search(r"[\s,;]", text):
        reader.wrong(where, f"{text[:80]!r} is not one id", "several ids are a list: [one, two]")
    elif text in KEY_WORDS:
        key = '"*":' if text == "*" else f"{text}:"
        reader.wrong(where, f"{text!r} is a word of the engine's, not an id", f"write its routes below {key} itself")
        return ""
    elif slip := _slip_in_uuid(text):
        reader.wrong(where, f"{text[:80]!r} {slip}", _COPY)
    return normal_id(text)


def _slip_in_uuid(text: str) -> str:
    """What is wrong with an id that was meant to be a UUID; empty if it is one, or nothing like one."""
    if UUID.fullmatch(text) or not _LIKE_UUID.fullmatch(text) or not 28 <= len(text) <= 44:
        return ""
    if len(text) == 36:
        return "looks like a UUID, but its groups are not of 8, 4, 4, 4 and 12 digits"
    if len(text) == 32 and "-" not in text:
        return "looks like a UUID without its dashes"
    return f"looks like a UUID with {len(text)} characters instead of 36"


def normal_id(text: str) -> str:
    """An id as LangSmith sends it: UUIDs in lower case."""
    return text.lower() if UUID.fullmatch(text) else text


# --- routes ----------------------------------------------------------------------------------------------------------


def _resolve_key(
    reader: Reader, key: str, where: Where, rules: Mapping[str, tuple[str, ...]], written: Any
) -> tuple[str, ...] | None:
    """What a route key stands for; None where what is written below it is no route.

    A word that is neither known nor a UUID is taken for a slip of the pen.
    """
    if key in rules:
        return rules[key]
    if key in KEY_WORDS or UUID.fullmatch(key):
        return (normal_id(key),)
    if slip := _slip_in_uuid(key):
        reader.source.report(where, f"{key!r} {slip}", _COPY, at_key=True)
    elif "${" not in key:  # that was reported
        near = did_you_mean(key, [*rules, *KEY_WORDS], synonyms=_KEY_WORDS_FOREIGN)
        hint = f"{near} (an id that is no UUID is given a name under 'rules')"
        message = f"{key!r} is no name under 'rules', no id and no kind of event"
        is_route = not isinstance(written, dict) or not written.keys().isdisjoint({*ROUTE_KEYS, *ROUTE_WORDS})
        if not is_route:
            hint = f"if it is an action, it is an item of a route's 'actions'; else {near}"
        reader.source.report(where, message, hint, at_key=True)
        return () if is_route else None
    return ()


def _read_key(reader: Reader, key: str, written: Any, where: Where, keys: tuple[str, ...]) -> list[RouteConfig]:
    if isinstance(written, list):
        places = [((*where, index), item) for index, item in enumerate(written)]
        if not places:
            reader.wrong(where, f"{key!r} has no routes", "remove it, or write a route: filters and actions")
    else:
        places = [(where, written)]
    found = [_read_route(reader, key, keys, item, place) for place, item in places]
    return _with_unique_names(reader, [route for route in found if route is not None])


def _read_route(reader: Reader, key: str, keys: tuple[str, ...], value: Any, where: Where) -> RouteConfig | None:
    elsewhere = {**ROUTE_ELSEWHERE, **_likely_actions(value)}
    section = reader.section(value, where, "a route", ROUTE_KEYS, ROUTE_WORDS, elsewhere)
    if section is None:
        return None
    if elsewhere.keys() - ROUTE_ELSEWHERE.keys():
        reader.meant.add((*where, "actions"))
    route = RouteConfig(
        key=key,
        keys=keys,
        name=read_name(section),
        where=where,
        for_each=cast("Literal['run', 'event']", section.word("for_each", ("run", "event"), "run", _EACH_WORDS)),
        filters=read_conditions(_with_filters(section), "filters", []),
        stop=section.flag("stop", default=False),
        sample=section.share("sample"),
        enabled=section.flag("enabled", default=True),
        actions=read_actions(reader, value["actions"], (*where, "actions")) if "actions" in value else (),
        active=read_active(reader, value["active"], (*where, "active")) if "active" in value else None,
        wait_for=read_wait_for(reader, value["wait_for"], (*where, "wait_for")) if "wait_for" in value else None,
        on_dead=read_actions(reader, value["on_dead"], (*where, "on_dead")) if "on_dead" in value else (),
    )
    _require_actions(section, route)
    _refuse_stop(section, route)
    return route


def _likely_actions(value: Any) -> dict[str, str]:
    """The keys of a route that are like none of its own, with what to write if they are actions."""
    keys = value if isinstance(value, dict) else ()
    unknown = (key for key in keys if key not in ROUTE_KEYS | ROUTE_ELSEWHERE.keys() and NAME.fullmatch(key))
    likely = (key for key in unknown if not nearest(key, ROUTE_KEYS, synonyms=ROUTE_WORDS))
    known = f"a route has {', '.join(sorted(ROUTE_KEYS))}"
    return {key: f"if it is an action, it is an item of 'actions': - {key}: …; {known}" for key in likely}


def _with_filters(section: Section) -> Section:
    """The section with what stands under a misspelt ``filters``, so that the mistakes below it are reported with it."""
    if "filters" in section.values:
        return section
    known = sorted(ROUTE_KEYS)
    written = (key for key in section.values if key not in ROUTE_KEYS and key not in ROUTE_ELSEWHERE)
    key = next((key for key in written if nearest(key, known, synonyms=ROUTE_WORDS) == "filters"), None)
    if key is None:
        return section
    section.reader.source.rename((*section.where, key), "filters")
    return replace(section, values={**section.values, "filters": section.values[key]})


def _refuse_stop(section: Section, route: RouteConfig) -> None:
    """``stop`` ends the routes of a rule; those under ``*`` and ``unmatched`` are no rule's."""
    if route.stop and route.key in ("*", "unmatched"):
        message = f"stop: true does nothing under {route.key!r}: it ends the routes of a rule"
        section.report("stop", message, "remove it")


def _require_actions(section: Section, route: RouteConfig) -> None:
    """A route without actions may still stop those below it; else it is a mistake."""
    written = section.values.get("actions", [])
    stops = route.stop or (*section.where, "stop") in section.reader.quiet
    if written == [] and not stops and (*section.where, "actions") not in section.reader.meant:
        where = (*section.where, "actions") if "actions" in section.values else section.where
        section.reader.wrong(
            where, "this route has no actions", "add one below 'actions:', such as - log: {message: hello}"
        )


def _with_unique_names(reader: Reader, routes: list[RouteConfig]) -> list[RouteConfig]:
    seen: set[str] = set()
    for route in routes:
        if route.name not in seen:
            seen.add(route.name)
        elif route.name:
            message = f"two routes of {route.key!r} are called {route.name!r}"
            reader.source.report((*route.where, "name"), message, "give one of them another name")
        elif (*route.where, "name") not in reader.source.marks:  # a name that was refused is not a missing one
            message = f"{route.key!r} has more than one route without a name"
            reader.source.report(
                route.where, message, "give all but one of them a name: it tells them apart in reports"
            )
    return routes
