"""``--set NAME=VALUE``: a webhook's payload with fields changed before it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from shlex import quote
from typing import Any

import click

from engine.cli.support.output import plural
from engine.core.errors import PathError
from engine.core.payload_schema import RUN_FIELDS
from engine.core.suggest import nearest
from engine.core.times import parse_time
from engine.core.units import parse_duration
from engine.rules.jsonpath import compile_path

#: What the engine computes for a run, and the field that decides it.
_COMPUTED: Mapping[str, str] = {"cost": "total_cost"}
_FORM = "write NAME=VALUE, such as name=chat-support, latency=12 or '$.runs[0].status=error'"

Step = str | int | None


@dataclass(frozen=True, slots=True)
class Change:
    """One ``--set``: what was typed, the field as a path (None: every item), and its new value."""

    typed: str
    steps: tuple[Step, ...]
    value: Any
    #: Whether the name is a field of every run.
    short: bool


def parse_change(typed: str) -> Change:
    """A change from ``NAME=VALUE``.

    A name without ``$`` is a field of every run; with it, it is a JSONPath into the payload. The value is
    JSON where it can be read as that, else text.

    Raises:
        click.UsageError: the name or the form is wrong; says what to write.
    """
    name, equals, text = _divided(typed)
    if not equals or not name.strip():
        raise click.UsageError(f"--set {typed}: there is no NAME=VALUE in it; {_FORM}")
    short = not name.startswith("$")
    field = name.removeprefix("run.")
    if short and field.startswith(("runs[", "runs.")):
        raise click.UsageError(f"--set {typed}: a path into the payload begins with $: '$.{name}={text}'")
    return Change(typed, _steps(typed, f"$.{field}" if short else name), _value(text), short)


def changed(payload: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """A copy of a payload with the changes in it, in their order; then the fields that follow from them.

    ``latency`` sets ``end_time``. ``error`` and ``status`` follow each other where only one of them is set.

    Raises:
        click.UsageError: a change does not fit the payload.
    """
    made: dict[str, Any] = deepcopy(dict(payload))
    targets = [(change, _targets(made, change)) for change in changes]
    later = []
    for change, places in targets:
        for holder, key, is_run in places:
            if is_run and key == "latency":
                later.append((change, holder))
            else:
                _put(change, holder, key)
                if is_run and key in ("status", "error"):
                    _follow(holder, str(key), {place for other, found in targets for place in _keys(found, holder)})
    for change, run in later:
        _set_latency(change, run)
    return made


def runs_changed(before: Mapping[str, Any], after: Mapping[str, Any], changes: Sequence[Change]) -> str:
    """How many runs are others than before, and how to change one alone; empty where none is."""
    old, new = (payload["runs"] if isinstance(payload.get("runs"), list) else [] for payload in (before, after))
    count = sum(one not in old[index : index + 1] for index, one in enumerate(new))
    if not count:
        return ""
    short = next((change.typed for change in changes if change.short), "")
    first = quote(f"$.runs[0].{short.removeprefix('run.')}")
    alone = f"; to change only the first: --set {first}"
    return f"{plural(count, 'run')} changed{alone if short and count > 1 else ''}"


def strict_json(text: str | bytes) -> Any:
    """The value of strict JSON, whole numbers of any length as they stand.

    Raises:
        ValueError: it is not that, is nested too deep, or has a number that is not finite.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


# --- reading ---------------------------------------------------------------------------------------------------------


def _divided(typed: str) -> tuple[str, str, str]:
    """Name, sign and value; a ``=`` within the brackets of a path is part of the name."""
    depth = 0
    for index, character in enumerate(typed):
        depth += (character == "[") - (character == "]")
        if character == "=" and depth <= 0:
            return typed[:index].strip(), "=", typed[index + 1 :]
    return typed, "", ""


def _steps(typed: str, path: str) -> tuple[Step, ...]:
    try:
        steps = compile_path(path).steps
    except PathError as error:
        raise click.UsageError(f"--set {typed}: {error}; {_FORM}") from error
    if not steps:
        raise click.UsageError(f"--set {typed}: a field's path has names, [0] and [*] only; {_FORM}")
    return steps


def _value(text: str) -> Any:
    try:
        return strict_json(text)
    except ValueError:
        return text


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(text)
    return number


# --- applying --------------------------------------------------------------------------------------------------------

#: What holds a field, its key there, and whether the field is a run's own.
_Target = tuple[Any, str | int, bool]


def _targets(payload: dict[str, Any], change: Change) -> list[_Target]:
    runs = payload.get("runs")
    steps = change.steps
    if change.short and isinstance(runs, list):
        _check_field(payload, runs, change)
        steps = ("runs", None, *steps)
    in_run = len(steps) == 3 and steps[0] == "runs" and not isinstance(steps[1], str)
    if in_run and steps[2] in _COMPUTED:
        steps = (*steps[:2], _COMPUTED[str(steps[2])])
    if in_run and steps[2] == "url":
        raise _wrong(change, "the engine makes a run's url of its app_path: set app_path")
    found = [(holder, key, in_run) for holder, key in _find(payload, steps, change)]
    if not found:
        raise _wrong(change, "the payload has nothing there")
    return found


def _check_field(payload: Mapping[str, Any], runs: list[Any], change: Change) -> None:
    """Refuse a first name that no run has: it is misspelt, or belongs to the payload."""
    name = change.steps[0]
    known = RUN_FIELDS | {"latency", "cost", "url"} | {key for run in runs if isinstance(run, dict) for key in run}
    if not isinstance(name, str) or name in known:
        return
    if name in payload:
        raise _wrong(change, f"{name!r} is no field of a run, but of the payload: write '$.{change.typed}'")
    near = nearest(name, known)
    meant = f"did you mean {near!r}? To" if near else "to"
    raise _wrong(change, f"a run has no field {name!r}; {meant} add it write '$.runs[*].{change.typed}'")


def _find(node: Any, steps: tuple[Step, ...], change: Change) -> Iterator[tuple[Any, str | int]]:
    """Each holder of the field at the end of a path, with its key there; objects that are missing are added."""
    for key in _keys_in(node, steps[0], change):
        if len(steps) == 1:
            yield node, key
            continue
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {} if isinstance(steps[1], str) else []
        yield from _find(node[key], steps[1:], change)


def _keys_in(node: Any, step: Step, change: Change) -> Sequence[str | int]:
    if step is None and isinstance(node, (dict, list)):
        return list(node) if isinstance(node, dict) else range(len(node))
    if isinstance(step, str) and isinstance(node, dict):
        return [step]
    if isinstance(step, int) and isinstance(node, list):
        if -len(node) <= step < len(node):
            return [step]
        raise _wrong(change, f"the list has {len(node)} items, so there is no [{step}]")
    wanted = "an object" if isinstance(step, str) else "a list"
    shown = "[*]" if step is None else repr(step) if isinstance(step, str) else f"[{step}]"
    raise _wrong(change, f"{shown} needs {wanted}, and there stands {json.dumps(node)[:60]}")


def _put(change: Change, holder: Any, key: str | int) -> None:
    holder[key] = deepcopy(change.value)


def _keys(targets: Sequence[_Target], holder: Any) -> set[str | int]:
    return {key for each, key, _ in targets if each is holder}


def _follow(run: dict[str, Any], key: str, also_set: set[str | int]) -> None:
    """A run that failed has an error, and one that did not has none, as LangSmith sends them."""
    if key == "error" and "status" not in also_set:
        run["status"] = "error" if run["error"] else "success"
    if key == "status" and "error" not in also_set:
        run["error"] = (run.get("error") or "an error (by --set)") if run["status"] == "error" else None


def _set_latency(change: Change, run: dict[str, Any]) -> None:
    """The engine computes the latency of a run from its times."""
    began = run.get("start_time")
    try:
        ends = parse_time(str(began)) + timedelta(seconds=parse_duration(change.value))
    except (ValueError, OverflowError) as error:
        raise _wrong(change, f"latency is the time from a run's start_time to its end_time: {error}") from error
    run["end_time"] = (ends.replace(tzinfo=None) if _is_naive(str(began)) else ends).isoformat()


def _is_naive(time: str) -> bool:
    """Whether a time has no zone, as in LangSmith's runs."""
    try:
        return datetime.fromisoformat(time).tzinfo is None
    except ValueError:
        return False


def _wrong(change: Change, message: str) -> click.UsageError:
    return click.UsageError(f"--set {change.typed}: {message}")
