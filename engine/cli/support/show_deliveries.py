"""Lists of deliveries as people see them: what each one is, and why those wait that do, once for each destination."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from engine.admin.destinations import OPEN_STATES
from engine.admin.query import DELIVERY_STATES
from engine.cli.support.admin_client import Asked
from engine.cli.support.output import age, ago, at, plural, short_delivery, state
from engine.cli.support.tables import Table
from engine.core.schedule import HELD
from engine.worker.destinations.messages import WAITS

#: So much of a run's id is shown at least.
_SHORT_RUN = 8

Row = Mapping[str, Any]


class DeliveryState(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A delivery's state by the word that lists have for it, or by the one of JSON."""

    def __init__(self) -> None:
        super().__init__(["waiting", *(state for state in DELIVERY_STATES if state != "due")])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The state as JSON has it, or click's error."""
        return "due" if value in ("due", "waiting") else super().convert(value, param, ctx)


@dataclass(frozen=True, slots=True)
class Present:
    """How the destinations of waiting deliveries are now. ``live``: an engine runs."""

    live: bool = False
    destinations: Mapping[str, Row] = field(default_factory=dict)

    @classmethod
    async def of(cls, asked: Asked, rows: Sequence[Row]) -> Present:
        """Asks only where something waits for a destination."""
        names = {_destination(row) for row in rows if row["state"] == "due"} - {""}
        known = (await asked.destinations())["destinations"] if names else ()
        return cls(asked.live, {each["name"]: each for each in known if each["name"] in names})

    def is_blocked(self, row: Row) -> bool:
        """Whether a delivery waits because its destination takes none."""
        known = self.destinations.get(_destination(row))
        return known is not None and not is_open(known)

    def waits_for_destination(self, row: Row) -> bool:
        """Whether it waits for its destination, now or when that was noted."""
        if not row["due_at"] or not _destination(row) or row["reason"].startswith(HELD) or _collects(row):
            return False
        return self.is_blocked(row) or waits_for(row) in row["reason"]

    def explains(self, row: Row) -> bool:
        """Whether the destination's state says why a delivery waits."""
        known = self.destinations.get(_destination(row))
        if known is None:
            return False
        return (self.is_blocked(row) and self.waits_for_destination(row)) or _is_in(
            row["reason"], known.get("last_error", "")
        )


def _collects(row: Row) -> bool:
    """Whether it is a digest that more may still come to."""
    return bool(row["item_count"]) and not row["attempts"] and age(row["due_at"]).startswith("in ")


def _is_in(reason: str, error: str) -> bool:
    """Whether a destination's last error, which is cut, is a delivery's reason."""
    return bool(error) and " ".join(reason.split()).startswith(error.removesuffix("…"))


def print_deliveries(
    console: Console, rows: Sequence[Row], present: Present | None = None, *, of_one_event: bool = False
) -> None:
    """The table, and below it how each destination is that deliveries wait for."""
    present = present or Present()
    console.print(deliveries_table(rows, present, of_one_event=of_one_event))
    print_what_they_wait_for(console, rows, present)


def print_what_they_wait_for(console: Console, rows: Sequence[Row], present: Present) -> None:
    """How each destination is that deliveries wait for, as far as that says why."""
    for name in dict.fromkeys(_destination(row) for row in rows if row["state"] == "due" and present.explains(row)):
        known = present.destinations[name]
        console.print()
        console.print(Text.assemble((name, "bold"), "  ", state_of(known)))
        for line in detail_lines(known, live=present.live):
            console.print(Text("  ").append_text(line), soft_wrap=bool(line.no_wrap))
    if not present.live and any(row["state"] == "due" for row in rows):
        console.print()
        console.print(Text("no engine runs: what waits is sent once engine serve runs", style="yellow"))


def deliveries_table(rows: Sequence[Row], present: Present, *, of_one_event: bool = False) -> Table:
    """Deliveries; within one event its age need not be said again."""
    made = Table("DELIVERY", *(() if of_one_event else ("AGE>",)), "WHAT*", "STATE", "TRIES>")
    size, several = _run_size(rows), _several(rows)
    for row in rows:
        what = Text.assemble(row["route"], (" → ", "dim"), row["action"], (_run(row, size), "dim"))
        if (row["route"], row["action"]) in several and (name := _destination(row)):
            what.append(f"  {name}", style="dim")
        if why := why_of(row, present):
            what.append("\n").append(" ".join(why.split()), style="dim")
        ages = () if of_one_event else (age(row["created_at"]),)
        made.add_row(short_delivery(row["id"]), *ages, what, state(row["state"]), _tries(row))
    return made


def _destination(row: Row) -> str:
    return str(row.get("destination", ""))  # an engine of an earlier version has none


def waits_for(row: Row) -> str:
    """That a delivery waits for its destination."""
    return f"{WAITS}{_destination(row)}"


def _several(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """The routes and actions whose deliveries go to several destinations."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        found.setdefault((row["route"], row["action"]), set()).add(_destination(row))
    return {key for key, names in found.items() if len(names - {""}) > 1}


def _run_size(rows: Sequence[Row]) -> int:
    """How much of a run's id tells it from the others'."""
    ids = {row["run_id"] for row in rows if row["run_id"]}
    return next((size for size in range(_SHORT_RUN, 36) if len({one[:size] for one in ids}) == len(ids)), 36)


def _run(row: Row, size: int) -> str:
    if row["run_index"] < 0:
        return ""
    return f"  run {row['run_index']} {(row['run_id'] or '')[:size]}".rstrip()


def _tries(row: Row) -> Text:
    """How many attempts there were in all, and how often it was replayed: log lines count from each replay on."""
    text = Text(str(row["attempts"]))
    return text.append(f" ({plural(row['replays'], 'replay')})", style="dim") if row["replays"] else text


def why_of(row: Row, present: Present) -> str:
    """Why a delivery waits or is dead. What its destination's state explains stands below the table."""
    reason: str = row["reason"]
    if not row["due_at"] or reason.startswith(HELD):
        return reason
    if present.waits_for_destination(row):
        return waits_for(row)
    told = "" if present.explains(row) else reason
    return ": ".join(part for part in (_time(row, live=present.live), told) if part)


def _time(row: Row, *, live: bool) -> str:
    """When one that waits is attempted, or since when it is due; a stopped engine attempts nothing."""
    if _collects(row):
        return f"collecting ({plural(row['item_count'], 'item')}) until {at(row['due_at'])}"
    when = age(row["due_at"])
    if not live or not (row["attempts"] or row["reason"]):
        return ""
    return f"retry {when}" if when.startswith("in ") else f"retry due for {when}"


#: What people read for a state where that is another word: attempts that fail in a row are failing, too.
_SHOWN: Mapping[str, str] = {"erring": "failing", "probing": "failing"}
_STYLES = {"healthy": "green", "paused": "yellow", "erring": "yellow", "probing": "yellow", "unknown": "dim"}


def state_of(row: Mapping[str, Any]) -> Text:
    """The state in one word."""
    word = row["state"]
    return Text(_SHOWN.get(word, word), style=_STYLES.get(word, "red"))


def is_open(row: Mapping[str, Any]) -> bool:
    """Whether deliveries may go there, as far as is known."""
    return row["state"] in OPEN_STATES


def detail_lines(row: Mapping[str, Any], *, live: bool) -> Iterator[Text]:
    """Since when and why, then the command that ends it; of a healthy one its last error. ``live``: an engine runs."""
    for line in (_times(row, live=live), row["reason"], _last(row, live=live)):
        if line:
            yield Text(line, style="dim")
    if not is_open(row):
        yield resume_line(row["name"])


def resume_line(name: str) -> Text:
    """The command that lets deliveries go to a destination, to be copied: it is never wrapped."""
    return Text(f"engine destinations resume {shlex.quote(name)}", style="cyan", no_wrap=True)


def _times(row: Mapping[str, Any], *, live: bool) -> str:
    word = row["state"]
    until = at(row["until"]) if row["until"] and live else ""
    if word == "paused" and until:
        return f"until {until} ({age(row['until']).removeprefix('in ')} more)"
    if word == "unknown" and row.get("last_attempt_at"):
        return f"last attempt {ago(row['last_attempt_at'])}"
    parts = [f"for {age(row['since'])}" if row["since"] else "", *_next(word, until)]
    return "; ".join(part for part in parts if part)


def _next(word: str, until: str) -> Iterator[str]:
    if word == "gone":
        yield "until the configuration changes"
    elif word == "probing":
        yield "a probe is due"
    elif until:
        yield f"next probe at {until}"


def _last(row: Mapping[str, Any], *, live: bool) -> str:
    """Why the latest attempt failed, unless the reason says so, and when the next one is due that waits for a retry."""
    if not row.get("last_error"):  # an engine of an earlier version has none
        return ""
    parts = [] if row["last_error"] in row["reason"] else [f"last error: {row['last_error']}"]
    if row["state"] == "erring" and row["next_at"] and live:
        parts.append(f"next attempt at {at(row['next_at'])}")
    return "; ".join(parts)
