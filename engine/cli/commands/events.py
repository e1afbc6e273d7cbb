"""``engine events``: list them, show one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from engine.admin.query import EVENT_STATES, NotFound
from engine.cli.commands.deliveries import attempts_table
from engine.cli.support.access import access_options, ask, place_from
from engine.cli.support.admin_client import AccessError, Asked
from engine.cli.support.options import DefaultGroup, json_option
from engine.cli.support.output import (
    age,
    ago,
    at,
    emit,
    one_line,
    out,
    plural,
    say,
    short_delivery,
    short_event,
    state,
    tell_next_page,
)
from engine.cli.support.show_deliveries import Present, print_deliveries
from engine.cli.support.show_explanation import found_of
from engine.cli.support.tables import Pairs, Table, in_json
from engine.core.decisions import latest_decisions, reason_of
from engine.core.errors import ConfigError
from engine.core.event import Kind
from engine.core.vocabulary import UNDECIDED, is_fallback

_VERDICTS = {"true": ("matched", "green"), "false": ("no match", "dim"), "wanting": ("waits for data", "yellow")}


class _State(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2 only
    """An event's state. A word that looks like one and has its own option is an error that names the option."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The state, or click's error."""
        if value == "unmatched":
            self.fail("an event without a match is routed, too: write --unmatched", param, ctx)
        return super().convert(value, param, ctx)


@click.group("events", cls=DefaultGroup, default="list")
def command() -> None:
    """List the events that came in, or show one."""


@command.command("list")
@click.option("--kind", type=click.Choice([str(kind) for kind in Kind]), help="Only this kind of webhook.")
@click.option("--rule", metavar="NAME", help="Only this rule, by its id or its name in the configuration.")
@click.option("--state", type=_State(EVENT_STATES), help="Only those that came so far.")
@click.option("--unmatched", is_flag=True, help='Only those that no route but "*" matched.')
@click.option("--error", metavar="TEXT", help="Only those that are pending or dead for a reason with this text in it.")
@click.option("--since", metavar="WHEN", help="Not before: 30m, 2h, 7d (ago) or a time.")
@click.option("--until", metavar="WHEN", help="Not after: the same.")
@click.option("--before", metavar="ID", help="The page after the one that ended with this event.")
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="How many at most.")
@access_options
@json_option
def list_(as_json: bool, unmatched: bool, **options: Any) -> None:  # noqa: FBT001
    """List events, newest first."""
    place = place_from(options)
    words = {word: value for word, value in options.items() if value is not None}
    asks = words | ({"unmatched": "true"} if unmatched else {})
    answer = ask(place, lambda asked: asked.events(asks))
    if as_json:
        emit(answer)
        return
    if not answer["events"]:
        say("no events")
        return
    out().print(_events_table(answer["events"]))
    if answer["next"]:
        tell_next_page(words | ({"unmatched": True} if unmatched else {}), answer["next"])


@command.command("show", short_help="Show one event: decisions, deliveries, payload.")
@click.argument("event_id", metavar="ID")
@click.option("--payload", is_flag=True, help="Also print what was sent.")
@access_options
@json_option
def show(event_id: str, payload: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Show one event: what every route decided and why, and what was delivered.

    A start of ID that no other has is enough, from 8 characters on; last is the newest.
    """
    event, found, present = ask(place_from(options), lambda asked: _event(asked, event_id, as_json=as_json))
    if as_json:
        emit(event)
        return
    print_event(out(), event, found, present, payload=payload)


async def _event(asked: Asked, event_id: str, *, as_json: bool) -> tuple[dict[str, Any], Found, Present]:
    event = await asked.event(event_id)
    if as_json:
        return event, {}, Present()
    return event, await found_by_decision(asked, event), await Present.of(asked, event["deliveries"])


def _events_table(events: list[dict[str, Any]]) -> Table:
    made = Table("EVENT", "AGE>", "KIND", "RULE*", "STATE", "RUNS MATCHED>", "WAITING>", "DEAD>")
    for event in events:
        made.add_row(
            short_event(event["id"]),
            age(event["received_at"]),
            event["kind"],
            one_line(event["rule"] or event["rule_id"] or ""),
            state(event["state"]),
            matched_in_words(event),
            _count(event["open"], "yellow"),
            _count(event["dead"], "red"),
            below=[Text(note, style="yellow") for note in _notes(event)],
        )
    return made


def _notes(event: dict[str, Any]) -> Iterator[str]:
    """What is special about an event: why it is not decided what matches it, what was held back, and its copies."""
    undecided = undecided_in_words(event).removeprefix("undecided").removeprefix(":")  # the word stands above it
    if reason := " ".join(undecided.split()):
        yield reason
    copies = f"sent again {plural(event['copies'], 'time')}, not acted on" if event["copies"] else ""
    held = f"held back: {words}" if (words := held_in_words(event)) else ""
    if notes := " · ".join(note for note in (held, copies) if note):
        yield notes


def matched_in_words(event: dict[str, Any]) -> Text:
    """How many runs matched, and for how many a fallback route fired; where there are none, why."""
    if event["state"] == "dead":
        return Text(f"{event['matched']}, rest undecided" if event["matched"] else "undecided", style="yellow")
    if counted := _counted(event, ' by "*"', " fallback"):
        return Text(counted)
    if not event["unmatched_reason"]:
        return Text("0")
    style = "yellow" if event["unmatched_reason"] == UNDECIDED else "dim"
    return Text(unmatched_in_words(event).partition(" for ")[0], style=style)  # its kind stands beside it


def held_in_words(event: dict[str, Any]) -> str:
    """What held back how many of its matches: ``1 by mute, 2 by throttle``; empty where nothing did."""
    return ", ".join(f"{count} by {word}" for word, count in event.get("held", {}).items())


def _counted(event: dict[str, Any], any_: str, fallback: str) -> str:
    """The runs that routes matched, with ``any_`` where only ``"*"`` did, and those of ``fallback`` routes."""
    known = event.get("fallback")
    if known is None:  # an earlier version decided, and did not tell them apart
        any_ = " catch-all"
    counts = ((event["matched"], any_ if event["unmatched_reason"] else ""), (known, fallback))
    return ", ".join(f"{count}{words}" for count, words in counts if count)


def unmatched_in_words(event: dict[str, Any]) -> str:
    """Why no route but those for everything matched; empty where one did."""
    match event["unmatched_reason"]:
        case None:
            return ""
        case "unknown_rule" if event["kind"] == Kind.UNKNOWN:
            return "no route for this kind"
        case "unknown_rule" if event["kind"] != Kind.RULE:
            return f"no route for {event['kind']}"
        case reason:
            return str(reason).replace("_", " ")


def undecided_in_words(event: dict[str, Any]) -> str:
    """Why it was given up to find out what matches an event; empty where that is known or may yet be."""
    if event["state"] != "dead":
        return ""
    reason: str = event["reason"]
    return reason if reason.startswith("undecided") else f"undecided: {reason}"


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")


def print_event(console: Console, event: dict[str, Any], found: Found, present: Present, *, payload: bool) -> None:
    """An event for people, with what conditions found where that is known."""
    console.print(_event_facts(event))
    decisions = latest_decisions(event["evaluations"])
    if decisions:
        console.print()
        console.print(_decisions_table(decisions, found, given_up=event["state"] == "dead"))
    if event["deliveries"]:
        places = {(decision["index"], decision["route"]): place for place, decision in enumerate(decisions)}
        rows = sorted(event["deliveries"], key=lambda row: places.get((row["run_index"], row["route"]), len(places)))
        console.print()
        print_deliveries(console, rows, present, of_one_event=True)
    if event["state"] == "dead" and event["payload"] is not None:
        console.print(Text(f"\nengine replay {short_event(event['id'])} evaluates it again", style="dim"))
    if event["history"]:
        console.print(Text("\nevaluations that could not be finished", style="bold"))
        console.print(attempts_table(event["history"]))
    if decisions and event["payload"] is not None:
        console.print(Text(f"\nengine explain --event {short_event(event['id'])} shows every condition", style="dim"))
    if payload and event["unparsed"]:
        say("the body was not parsed, so there is no payload to show")
    elif payload and event["payload"] is None:
        say("the payload is no longer kept")
    elif payload:
        console.print()
        console.print(in_json(event["payload"]), soft_wrap=True)


def _event_facts(event: dict[str, Any]) -> Pairs:
    return Pairs(
        [
            ("event", event["id"]),
            ("kind", event["kind"]),
            ("rule", "  ".join(word for word in (event["rule"], event["rule_id"]) if word)),
            ("received", f"{at(event['received_at'])} ({ago(event['received_at'])})"),
            ("size", f"{event['bytes']:,} bytes" + (", repaired JSON" if event["repaired"] else "")),
            ("state", state(event["state"])),
            ("because", undecided_in_words(event) or event["reason"]),
            ("matched", _counted(event, ' by "*" routes', " by fallback routes (unmatched)")),
            ("unmatched", unmatched_in_words(event)),
            ("held back", held_in_words(event)),
            ("unparsed", event["unparsed"] or ""),
            ("copies", _copies(event)),
        ]
    )


def _copies(event: dict[str, Any]) -> str:
    """How often the webhook was sent again, and what to do if that was meant; empty where it was not."""
    if not event["copies"]:
        return ""
    replay = f"; engine replay {short_event(event['id'])} fires its actions again"
    return f"{event['copies']} more received, not acted on" + (replay if event["payload"] is not None else "")


def _decisions_table(decisions: Sequence[Mapping[str, Any]], found: Found, *, given_up: bool) -> Table:
    """Verdicts; what waits for data when it is ``given_up`` to evaluate the event stays undecided."""
    verdicts = _VERDICTS | ({"wanting": ("undecided", "yellow")} if given_up else {})
    made = Table("VERDICT", "ROUTE*")
    for decision in decisions:
        words, style = verdicts.get(decision["verdict"], (decision["verdict"], "yellow"))
        if words == "matched" and is_fallback(decision["route"]):
            words = "fallback"
        made.add_row(Text(words, style=style), _route(decision, found))
    return made


def _route(decision: Mapping[str, Any], found: Found) -> Text:
    """Route and run, and below them why."""
    run = "the whole event" if decision["index"] < 0 else f"run {decision['index']}"
    head = Text.assemble(decision["route"], (f"  {run}", "dim"))
    return Text("\n").join([head, *(Text(line, style="dim") for line in _why(decision, found))])


def _why(decision: Mapping[str, Any], found: Found) -> Iterator[str]:
    if reason := reason_of(decision):
        known = found.get((decision["index"], decision["route"]))
        yield f"{reason}  found {known}" if known else reason
    collected = decision.get("collected", {})
    if fires := [name for name in decision.get("fires", ()) if name not in collected]:
        yield f"fires {', '.join(fires)}"
    for name, delivery in collected.items():
        yield f"{name}: collected for digest {short_delivery(delivery)}"
    for name, note in decision.get("notes", {}).items():
        yield f"{name}: {note}"
    for name, reason in decision.get("skipped", {}).items():
        yield f"not {name}: {reason}"
    if pending := decision.get("pending"):
        yield f"{', '.join(pending)} waits for data"


#: By run and route: what the condition found that decided.
Found = Mapping[tuple[int, str], str]


async def found_by_decision(asked: Asked, event: Mapping[str, Any]) -> Found:
    """What the deciding conditions of a detailed answer found.

    Nothing if the rules in use are not those that decided, or the payload was deleted: it would be a guess.
    """
    if not event["evaluations"] or event["payload"] is None:
        return {}
    try:
        report = await asked.do("explain", {"event": event["id"]})
    except (AccessError, NotFound, ConfigError):  # it is beside the point
        return {}
    if report["config"]["hash"] != event["evaluations"][-1]["config_hash"]:
        return {}
    return {
        (document["index"], route["route"]): _first_unmet(route["filter"])
        for document in report["documents"]
        for route in document["routes"]
    }


def _first_unmet(verdict: Mapping[str, Any]) -> str:
    """Of the first condition that does not hold; a group of conditions found nothing itself."""
    unmet = next((child for child in verdict["children"] if child["truth"] != "true"), None)
    return found_of(unmet) if unmet else ""
