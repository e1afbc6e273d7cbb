"""The items of a route's ``actions``: one action each, with the engine's own keys beside it."""

from __future__ import annotations

import re
from typing import Any, Final

from engine.config.blocks.timing import read_active, read_digest, read_throttle
from engine.config.keys import ROUTE_KEYS
from engine.config.model import ActionConfig, GateSpec, RetrySpec
from engine.config.section import Reader, Section, kind_of
from engine.config.yaml.mistakes import should_read
from engine.core.positions import Where
from engine.core.suggest import did_you_mean
from engine.core.vocabulary import ON_DEAD

#: Keys that stand beside an action's block, never inside.
ENGINE_KEYS: Final = frozenset({"when", "name", "retry", "timeout", "throttle", "digest", "active"})
#: What names may be made of. They stand in ids, metrics and commands.
NAME: Final = re.compile(r"\w[\w.\-]{0,79}")

_RETRY_KEYS: Final = frozenset({"attempts", "within", "min", "max"})
_RETRY_WORDS: Final = {
    "max_attempts": "attempts",
    "retries": "attempts",
    "times": "attempts",
    "count": "attempts",
    "max_delay": "max",
    "min_delay": "min",
    "backoff": "min",
    "max_age": "within",
}
_ENGINE_WORDS: Final = {
    "if": "when",
    "condition": "when",
    "conditions": "when",
    "filters": "when",
    "id": "name",
    "debounce": "throttle",
    "rate_limit": "throttle",
    "cooldown": "throttle",
    "group": "digest",
    "batch": "digest",
    "schedule": "active",
    "active_hours": "active",
}
_LEFT: Final = "it holds for a whole route: move it left, beside 'actions'"
#: Keys of a route that people look for beside an action.
_ROUTES_KEYS: Final = {
    "wait_for": _LEFT,
    "on_dead": _LEFT,
    "mute": "a route is muted from outside: engine mute ROUTE --for 2h",
    "limits": "they hold for a destination, whichever route sends to it: write limits at the top level",
}
_GATE_KEYS: Final = frozenset({"every", "by", "max"})
_TYPE_WORDS: Final = frozenset({"action", "type", "uses", "kind", "do"})
_CONDITION_KEYS: Final = frozenset({"path", "expr", "any", "all", "none", "not"})


def read_actions(reader: Reader, value: Any, where: Where) -> tuple[ActionConfig, ...]:
    """A route's ``actions`` or ``on_dead``; what is wrong with them is reported, what can be used is returned."""
    if not isinstance(value, list):
        reader.wrong(where, f"{where[-1]!r} must be a list, not {kind_of(value)}", as_list_hint(reader, value, where))
        return ()
    found = (_read_item(reader, item, (*where, index)) for index, item in enumerate(value))
    return _with_unique_names(reader, [action for action in found if action is not None])


def read_retry(reader: Reader, value: Any, where: Where) -> RetrySpec | None:
    """A retry policy: a mapping, or the word ``langsmith``."""
    if value == "langsmith":
        return RetrySpec(policy="langsmith")
    if not isinstance(value, dict):
        hint = "write retry: {attempts: 3, within: 1h}, or retry: langsmith; one attempt is {attempts: 1}"
        reader.wrong(where, f"'retry' must be a mapping or the word langsmith, not {kind_of(value)}", hint)
        return None
    section = Section(reader, value, where)
    section.report_unknown("retry", _RETRY_KEYS, _RETRY_WORDS)
    spec = RetrySpec(
        attempts=section.count("attempts"),
        within=section.duration("within"),
        shortest=section.duration("min"),
        longest=section.duration("max"),
    )
    if spec.shortest is not None and spec.longest is not None and spec.shortest > spec.longest:
        reader.wrong((*where, "min"), "'min' is longer than 'max'")
    return spec


def read_name(section: Section, default: str = "") -> str:
    """A ``name``; default where there is none, or none that can be used."""
    name = section.text("name", needed=True)
    if name is None:
        return default
    if not NAME.fullmatch(name):
        message = f"the name {name[:100]!r} cannot be used"
        section.reader.wrong((*section.where, "name"), message, "letters, digits, and . - _ inside; at most 80")
        return default
    return name


def read_conditions(section: Section, key: str, default: Any) -> Any:
    """A list of conditions as written; whether they are conditions is checked where they are compiled."""
    if key not in section.values:
        return default
    value, where = section.values[key], (*section.where, key)
    if isinstance(value, list):
        return value
    hint = as_list_hint(section.reader, value, where)
    if isinstance(value, str):
        hint = f"write {key}: [{{expr: {_in_quotes(value)}}}]"
    section.reader.wrong(where, f"{key!r} must be a list of conditions, not {kind_of(value)}", hint)
    return default


def as_list_hint(reader: Reader, value: Any, where: Where) -> str:
    """How to write as a list what stands at a place as a mapping."""
    mark = reader.source.marks.get(where)
    if mark is None or not isinstance(value, dict) or not value:
        return ""
    line = reader.source.lines[mark.line - 1]
    start = mark.column - 1
    if line[start : start + 1] == "{":
        end = _closing_brace(line, start)
        return should_read(f"{line[:start]}[{line[start:end]}]{line[end:]}") if end else "put it in brackets: [{…}]"
    if mark.key_line == mark.line:
        return ""
    return "begin each item with '- '; " + should_read(f"{line[:start]}- {line[start:]}", aligned=True)


def _closing_brace(line: str, start: int) -> int:
    """The position behind the brace that closes the one at ``start``; 0 if that is on another line."""
    depth = 0
    for match in re.finditer(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|[{}]", line[start:]):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return start + match.end()
    return 0


def _read_item(reader: Reader, item: Any, where: Where) -> ActionConfig | None:
    if not isinstance(item, dict):
        is_name = isinstance(item, str) and NAME.fullmatch(item)
        hint = should_read(f"- {item}:") if is_name else "write - NAME: {…}"
        reader.wrong(where, f"an action must be a mapping, not {kind_of(item)}", hint)
        return None
    section = Section(reader, item, where)
    for key in _ROUTES_KEYS.keys() & item.keys():
        section.report_misplaced(key, "an action", _ROUTES_KEYS[key])
    kind = _find_type(section)
    return None if kind is None else _read_action(section, kind)


def _read_action(section: Section, kind: str) -> ActionConfig:
    reader, where, item = section.reader, section.where, section.values
    retry = read_retry(reader, item["retry"], (*where, "retry")) if "retry" in item else None
    params_where: Where = (*where, kind)
    throttle, digest = _read_gates(section)
    return ActionConfig(
        type=kind,
        name=_read_own_name(section, kind),
        params=_read_params(section, kind, params_where),
        params_where=params_where,
        where=where,
        when=read_conditions(section, "when", None),
        retry=retry,
        timeout=section.duration("timeout"),
        throttle=throttle,
        digest=digest,
        active=read_active(reader, item["active"], (*where, "active")) if "active" in item else None,
    )


def _read_own_name(section: Section, kind: str) -> str:
    name = read_name(section, default=kind)
    if name.startswith(ON_DEAD):
        hint = "names that begin so are those of a route's on_dead actions"
        section.reader.wrong((*section.where, "name"), f"the name {name!r} cannot be used", hint)
        return kind
    return name


def _read_gates(section: Section) -> tuple[GateSpec | None, GateSpec | None]:
    """What holds deliveries back: a throttle or a digest."""
    reader, where, item = section.reader, section.where, section.values
    there = [key for key in ("throttle", "digest") if key in item]
    if there and where[-2] == "on_dead":
        hint = "each dead delivery is reported by itself; 'active' and 'when' work here"
        for key in there:
            section.report_misplaced(key, "on_dead", hint)
        return None, None
    throttle = read_throttle(reader, item["throttle"], (*where, "throttle")) if "throttle" in item else None
    digest = read_digest(reader, item["digest"], (*where, "digest")) if "digest" in item else None
    if len(there) == 2:
        hint = (
            "a digest is one delivery for many runs already, and loses none; a throttle makes the first and counts "
            "the others: remove one of them"
        )
        section.report("digest", "an action has a throttle or a digest, not both", hint)
    return throttle, digest


def _read_params(section: Section, kind: str, where: Where) -> Any:
    params = section.values[kind]
    if params is None:  # `- log:` has nothing to say
        return {}
    if isinstance(params, (str, list)):  # which parameter that is, the action says
        return params
    if not isinstance(params, dict):
        message = f"the parameters of {kind!r} must be a mapping (key: value), not {kind_of(params)}"
        section.reader.wrong(where, message, f"see 'engine actions {kind}' for what it takes")
        return {}
    return {key: value for key, value in params.items() if not _is_nested_engine_key(section, kind, key, value)}


def _is_nested_engine_key(section: Section, kind: str, key: str, value: Any) -> bool:
    """Whether a parameter is plainly meant for the engine; reported if so. What only might be is the action's."""
    conditions = value if isinstance(value, list) else [value]
    is_when = key == "when" and any(isinstance(each, dict) and each.keys() & _CONDITION_KEYS for each in conditions)
    is_retry = key == "retry" and isinstance(value, dict) and bool(value) and value.keys() <= _RETRY_KEYS
    is_gate = (
        key in ("throttle", "digest") and isinstance(value, dict) and "every" in value and value.keys() <= _GATE_KEYS
    )
    if not (is_when or is_retry or is_gate):
        return False
    where = (*section.where, kind, key)
    line, column = section.reader.line_of(where)
    _, beside = section.reader.line_of((*section.where, kind))
    hint = f"move it left, beside {kind!r}"
    if column and not line[: column - 1].strip() and beside:
        hint += "; " + should_read(" " * (beside - 1) + line[column - 1 :], aligned=True)
    message = f"{key!r} stands among the parameters of {kind!r}, and is for the engine"
    section.reader.source.report(where, message, hint, at_key=True)
    return True


# --- which key is the action -----------------------------------------------------------------------------------------


def _find_type(section: Section) -> str | None:
    """The one key that names the action; every other reading of the item is reported."""
    own = [key for key in section.values if key not in ENGINE_KEYS | _ROUTES_KEYS.keys()]
    if not own:
        hint = "write - NAME: {…}; 'engine actions' lists the names"
        section.reader.wrong(section.where, "no action is named here", hint)
        return None
    if named := _named_by_value(section, own):
        _report_named_by_value(section, *named)
        return None
    if len(own) == 1:
        return own[0]
    blocks = [key for key in own if isinstance(section.values[key], dict)]
    first = own[0]
    if section.values[first] is None and not blocks[1:]:
        _report_indentation(section, first, own[1:])
        return None
    if len(blocks) > 1:
        _report_two_actions(section, blocks)
        return None
    kind = blocks[0] if blocks else first
    _report_strays(section, kind, [key for key in own if key != kind])
    return kind


def _named_by_value(section: Section, own: list[str]) -> tuple[str, str] | None:
    for key in own:
        value = section.values[key]
        if key in _TYPE_WORDS and isinstance(value, str) and NAME.fullmatch(value):
            return key, value
    return None


def _report_named_by_value(section: Section, key: str, kind: str) -> None:
    hint = f"{should_read(f'- {kind}:')} with the parameters indented below it"
    section.report(key, f"an action's name is the key of its block, not the value of {key!r}", hint)


def _report_indentation(section: Section, kind: str, params: list[str]) -> None:
    """``- log:`` with its parameters right below, beside instead of inside it."""
    line, column = section.reader.line_of((*section.where, params[0]))
    hint = "indent them by two more spaces"
    if column and not line[: column - 1].strip():
        hint += "; " + should_read(f"  {line}", aligned=True)
    section.report(params[0], f"the parameters of {kind!r} stand beside it, not inside", hint)


def _report_two_actions(section: Section, blocks: list[str]) -> None:
    for key in blocks[1:]:
        line, column = section.reader.line_of((*section.where, key))
        hint = "begin each action with '- '"
        if column > 2 and not line[: column - 1].strip():
            hint += "; " + should_read(f"{line[: column - 3]}- {line[column - 1 :]}", aligned=True)
        section.report(key, f"two actions in one item of the list: {blocks[0]!r} and {key!r}", hint)


def _report_strays(section: Section, kind: str, strays: list[str]) -> None:
    for key in strays:
        if key in ROUTE_KEYS and key not in _ENGINE_WORDS:
            section.report_misplaced(key, "an action", _LEFT)
            continue
        near = did_you_mean(key, ENGINE_KEYS, synonyms=_ENGINE_WORDS)
        inside = f"a parameter of {kind!r} belongs inside its block; beside it stand {', '.join(sorted(ENGINE_KEYS))}"
        hint = near if near.startswith("did you mean") else inside
        section.report(key, f"unknown key {key!r} beside the action {kind!r}", hint)


def _with_unique_names(reader: Reader, actions: list[ActionConfig]) -> tuple[ActionConfig, ...]:
    seen: dict[str, ActionConfig] = {}
    for action in actions:
        if action.name in seen and (*action.where, "name") not in reader.quiet:
            same = f"two actions of this route are called {action.name!r}"
            hint = "give one of them another 'name'"
            if action.name == action.type == seen[action.name].type:
                hint = f"give this one a name, beside {action.type!r}: name: {action.type}-2"
            reader.source.report((*action.where, action.type), same, hint, at_key=True)
        seen.setdefault(action.name, action)
    return tuple(actions)


def _in_quotes(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'") + '"'
