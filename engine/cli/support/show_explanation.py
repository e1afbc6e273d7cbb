"""A report of ``engine.admin.explain`` as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.cli.support.output import at, plural, short_delivery, short_event
from engine.cli.support.tables import Outline, in_json
from engine.core.decisions import MUTED
from engine.core.units import format_duration
from engine.core.vocabulary import is_fallback

_MARKS = {"true": ("✓", "green"), "false": ("✗", "red"), "wanting": ("?", "yellow"), "undecided": ("?", "yellow")}
_WORDS = {
    "true": ("matches", "bold green"),
    "false": ("does not match", "red"),
    "undecided": ("undecided: does not match", "yellow"),
    "wanting": ("open: waits for data", "yellow"),
    "not_asked": ("not asked", "dim"),
}
_GROUPS = {"all": "all of", "any": "any of", "none": "none of", "not": "not"}
#: How much of a found value is shown on its line.
_SHOWN = 160


def print_report(console: Console, report: dict[str, Any], *, offer: bool = False) -> None:
    """The event, then each document with its routes, then what follows; ``offer``: that parameters can be shown."""
    console.print(_headline(report["event"]))
    for note in report["notes"]:
        console.print(Text.assemble(("! ", "yellow"), note))
    for document in report["documents"]:
        console.print()
        _document(document, report["event"]).print(console)
    console.print()
    console.print(_conclusion(report))
    if offer and any(action["fires"] and "params" not in action for action in actions_of(report)):
        console.print(Text("parameters not rendered; --render shows them", style="dim"))


def actions_of(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every action that stands in a report."""
    for document in report["documents"]:
        for route in document["routes"]:
            yield from route["actions"]


def dies(action: Mapping[str, Any]) -> bool:
    """Whether its delivery would be dead at once, because its parameters come to nothing that can be sent."""
    return bool(action.get("would") == "die")


def _headline(event: dict[str, Any]) -> Text:
    rule = f" {event['rule']} ({event['rule_id']})" if event["rule"] else f" {event['rule_id'] or ''}".rstrip()
    runs = "no runs" if not event["runs"] else "1 run" if event["runs"] == 1 else f"{event['runs']} runs"
    if event["unparsed"]:
        return Text(event["kind"], style="bold")
    repaired = " · the JSON had to be repaired" if event["repaired"] else ""
    return Text.assemble((f"{event['kind']}{rule}", "bold"), (f" · {runs}{repaired}", "dim"))


def _document(document: dict[str, Any], event: dict[str, Any]) -> Outline:
    outline = Outline(_document_name(document, event))
    for route in document["routes"]:
        _add_route(outline, route)
    return outline


def _document_name(document: dict[str, Any], event: dict[str, Any]) -> Text:
    run = document["run"]
    if document["index"] < 0:
        return Text("the whole event" if event["runs"] else "the event", style="bold")
    if run is None:
        return Text(f"run {document['index']} (not an object)", style="bold")
    facts = [str(run[key]) for key in ("name", "status") if run[key]]
    return Text.assemble((f"run {document['index']}", "bold"), f" {' · '.join(facts)}", (f"  {run['id'] or ''}", "dim"))


def _add_route(outline: Outline, route: dict[str, Any]) -> None:
    words, style = _WORDS[route["verdict"]]
    if route["verdict"] == "true" and not any(action["fires"] for action in route["actions"]) and route["reason"]:
        words, style = f"matches, {route['reason']}", "green"
    if route["verdict"] == "not_asked":
        outline.add(Text.assemble((route["route"], "bold"), "  ", (route["reason"], style)))
        return
    branch = outline.add(Text.assemble((route["route"], "bold"), "  ", (words, style), (_beside(route), "dim")))
    if route["reason"] and (not route["applies"] or route["verdict"] == "wanting" or words == "matches"):
        branch.add(Text(route["reason"], style="dim"))
    if told := _recorded(route):
        branch.add(Text(told, style="yellow"))
    _add_conditions(branch, route)
    for action in route["actions"] if route["verdict"] == "true" and route["applies"] else ():
        _add_action(branch, action, route["reason"])


def _recorded(route: dict[str, Any]) -> str:
    """What was decided when the event came, where it would be another thing now; empty where it would not."""
    recorded = route.get("recorded")
    if not recorded:
        return ""
    fires = [action["name"] for action in route["actions"] if action["fires"]]
    if recorded["verdict"] == route["verdict"] and fires == recorded.get("fires", []):
        return ""
    return f"recorded at {at(recorded['at'])}: {recorded['words']}; below is what it would be now"


def _beside(route: dict[str, Any]) -> str:
    """What is to be known about a route that matches."""
    if route["verdict"] != "true":
        return ""
    return ("  fallback" if is_fallback(route["route"]) else "") + ("  stop" if route["stop"] else "")


def _add_conditions(branch: Outline, route: dict[str, Any]) -> None:
    for child in route["filter"]["children"]:
        _add_verdict(branch, child)
    if not route["filter"]["children"]:
        branch.add(Text("✓ no conditions: everything matches", style="dim"))


def _add_verdict(branch: Outline, verdict: dict[str, Any]) -> None:
    if verdict["kind"] in _GROUPS:
        inner = branch.add(Text.assemble(_mark(verdict["truth"]), " ", _GROUPS[verdict["kind"]]))
        for child in verdict["children"]:
            _add_verdict(inner, child)
        return
    found = found_of(verdict)
    tail = Text.assemble(("found ", "dim"), (found, "cyan")) if found else None
    leaf = branch.add(Text.assemble(_mark(verdict["truth"]), " ", verdict["text"]), tail)
    for remark in _remarks(verdict):
        leaf.add(remark)


def _mark(truth: str) -> Text:
    mark, style = _MARKS[truth]
    return Text(mark, style=style)


def _remarks(verdict: dict[str, Any]) -> Iterator[Text]:
    """Each operator's own answer where they differ, and reasons that say more than what was found."""
    checks = verdict["checks"]
    if len(checks) > 1 and len({check["truth"] for check in checks}) > 1:
        for check in checks:
            yield Text.assemble(_mark(check["truth"]), f" {check['operator']} {_short(check['expected'])}")
    reasons = dict.fromkeys([verdict["reason"], *(check["reason"] for check in checks)])
    for reason in reasons:
        if reason and not reason.startswith(("found ", "nothing found")):
            yield Text(reason, style="yellow" if verdict["truth"] in ("undecided", "wanting") else "dim")


def found_of(verdict: dict[str, Any]) -> str:
    """What a condition found, shortened; or what its true or false follows from; empty where it did not get so far."""
    if reads := verdict.get("reads"):
        return ", ".join(f"{name} = {_short(value)}" for name, value in reads.items())
    return _values(verdict["checks"][0]) if verdict["checks"] else ""


def _values(check: dict[str, Any]) -> str:
    if check["count"] == 0:
        return "nothing"
    if check["count"] == 1:
        return _short(check["found"][0])
    return f"{check['count']} values: {_short(check['found'])}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _add_action(branch: Outline, action: dict[str, Any], why: str) -> None:
    """``why`` is the reason of its route."""
    leaf = branch.add(_action_line(action, why))
    for child in action["when"]["children"] if action["when"] else ():
        _add_verdict(leaf, child)
    if action["gate"]:
        leaf.add(Text(_gate(action["gate"]), style="dim"))
    if action["because"] and (action["fires"] or not action["when"]):
        leaf.add(Text(action["because"], style="yellow"))
    if action.get("error") and not dies(action):
        leaf.add(Text(action["error"], style="yellow"))
    if action.get("hint"):
        leaf.add(Text(action["hint"], style="cyan"))
    if action.get("params") is not None:
        leaf.add(in_json(action["params"]))


def _action_line(action: dict[str, Any], why: str) -> Text:
    named = action["type"] if action["name"] == action["type"] else f"{action['type']} {action['name']}"
    if dies(action):
        return Text.assemble(("✗ ", "red"), (named, "bold"), ("  would be dead: ", "red"), action["reason"])
    words, style = ("fires", "green") if action["fires"] else ("waits for data", "yellow")
    if not action["fires"] and not action["waits"]:
        words, style = "does not fire", "dim"
        if why.startswith(MUTED) and (not action["when"] or action["when"]["truth"] == "true"):
            words, style = f"would fire, but the route is {why}", "yellow"
    destination = action.get("destination")
    to = f" to {destination}" if destination and destination != action["type"] else ""
    return Text.assemble(("→ ", style), (named, "bold"), (f"  {words}", style), (to, "dim"))


def _gate(gate: dict[str, Any]) -> str:
    every = format_duration(gate["every"])
    what = f"throttle: one in {every}" if gate["kind"] == "throttle" else f"digest: collected for {every}"
    return f"{what} with key {_short(gate['key'])}" if gate["key"] else what


def _conclusion(report: dict[str, Any]) -> Text:
    parts = [_came_to(report)]
    if report["would_fetch"]:
        parts.append(
            Text(f"{', '.join(report['would_fetch'])} would be fetched from LangSmith (--fetch does)", style="yellow")
        )
    return Text(" · ").join(parts)


def _came_to(report: dict[str, Any]) -> Text:
    """How many runs matched, and for how many a fallback route fires; why none did."""
    counts, runs = report.get("counts", {}), report["event"]["runs"]
    fallback = f"{counts['fallback']} fallback" if counts.get("fallback") and runs else "fallback"
    parts = [Text("matched", style="bold green") if report["matched"] else _unmatched(report)]
    if report["matched"] and runs and counts:
        parts = [Text(f"{counts['matched']} of {plural(counts['runs'], 'run')} matched", style="bold green")]
    if report["matched"] and not any(action["fires"] or action["waits"] for action in actions_of(report)):
        parts = [Text(f"{parts[0]}, but no action fires", style="bold yellow")]
    if counts.get("fallback"):
        parts.append(Text(fallback, style="bold"))
    return Text(", ").join(parts)


def _unmatched(report: dict[str, Any]) -> Text:
    reason = (report["unmatched_reason"] or "").replace("_", " ")
    return Text(f"nothing matched{f' ({reason})' if reason else ''}", style="bold red")


def succeeded_before(delivery: Mapping[str, Any]) -> bool:
    """Whether an attempt at a delivery succeeded in an earlier round than its present one."""
    rounds = {attempt["replay"] for attempt in delivery["history"] if attempt["outcome"] == "succeeded"}
    return bool(rounds - {delivery["replays"]})


def outline_of_event(shown: Mapping[str, Any]) -> Outline:
    """An event's preview for people."""
    count = plural(len(shown["deliveries"]), "delivery", "deliveries")
    outline = Outline(Text.assemble(f"event {short_event(shown['id'])}", "  ", (f"{count} would follow", "bold")))
    if shown["error"]:
        outline.add(Text(shown["error"], style="yellow"))
    if shown["would_fetch"]:
        outline.add(
            Text(f"{', '.join(shown['would_fetch'])} would be fetched from LangSmith: more may follow", style="yellow")
        )
    for delivery in shown["deliveries"]:
        _fill(outline.add(_head(delivery)), delivery, again="")
    return outline


def outline_of(shown: Mapping[str, Any]) -> Outline:
    """A delivery's preview for people."""
    outline = Outline(_head(shown))
    _fill(outline, shown, again=" again")
    return outline


def _head(shown: Mapping[str, Any]) -> Text:
    before = "  had succeeded before" if shown["succeeded_before"] else ""
    run = f"  run {shown['run_index']}" if shown["run_index"] >= 0 else ""
    place = (f"{shown['route']} → {shown['action']}", "bold")
    return Text.assemble(short_delivery(shown["id"]), "  ", place, (run, "dim"), (before, "yellow"))


def _fill(outline: Outline, shown: Mapping[str, Any], *, again: str) -> None:
    """What a delivery would come to, below its head."""
    would = shown["would"]
    if dies(would):
        outline.add(Text.assemble((f"✗ would be dead{again}: ", "red"), would["error"]))
    elif would.get("error"):
        outline.add(Text(would["error"], style="yellow"))
    if would.get("note"):
        outline.add(Text(would["note"], style="dim"))
    if would.get("hint"):
        outline.add(Text(would["hint"], style="cyan"))
    if would["params"] is not None:
        to = f" to {would['destination']}" if would.get("destination") not in (None, shown["action"]) else ""
        outline.add(Text(f"would send{to}", style="green")).add(in_json(would["params"]))
