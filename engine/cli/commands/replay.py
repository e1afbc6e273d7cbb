"""``engine replay``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine.admin.events import LAST
from engine.admin.query import (
    MOST_ROWS,
    BadQuery,
    Candidate,
    NotFound,
    ambiguous,
    delivery_candidate,
    event_candidate,
)
from engine.cli.main import FINDINGS
from engine.cli.support.access import Place, access_options, opened, place_from
from engine.cli.support.admin_client import Absent, AccessError, Asked
from engine.cli.support.names import resolved
from engine.cli.support.options import json_option, selecting_options
from engine.cli.support.output import age, emit, err, one_line, out, plural, say, short_delivery
from engine.cli.support.show_deliveries import DeliveryState, Present, print_deliveries
from engine.cli.support.show_explanation import outline_of, outline_of_event, succeeded_before
from engine.core.batches import batches
from engine.core.errors import EngineError
from engine.core.vocabulary import ON_DEAD

#: How many are asked for at once: each request is one transaction.
_BATCH = 500
#: How many are listed by --dry-run, and how many of those that died.
_LISTED = 50
#: For how many of them --dry-run shows what would be sent; in JSON it does for all.
_SHOWN = 10
#: States of what nothing more is done for.
_GIVEN_UP = ("dead", "discarded")
_Show = Callable[[str], Awaitable[dict[str, Any]]]
#: How often --wait looks, in seconds.
_LOOK = 0.25


@click.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--dead", is_flag=True, help="All that gave up: --state dead, which is what options mean anyway.")
@click.option("--state", type=DeliveryState(), help="Those in another state.")
@selecting_options
@click.option("--dry-run", is_flag=True, help="Only count, list, and show what would be sent.")
@click.option("--wait", is_flag=True, help="Follow until all of it is settled; exits with 1 if anything is dead.")
@access_options
@json_option
def command(
    ids: tuple[str, ...],
    dead: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
    wait: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Retry deliveries, or evaluate events again, now.

    IDs are of deliveries (the same actions again, with the same idempotency keys) or of
    events (evaluated again, against the rules of today); their starts are enough, from 8
    characters on, and last is the newest event. Without IDs the options say which: deliveries, and with them
    the events whose evaluation is dead (undecided what matches), unless it is for one --route or --action.
    A delivery that waits for a retry is due now. With no engine running this happens when one starts.
    --dry-run renders the first by the rules of today (--json: all of them), and says which had succeeded before.
    """
    place = place_from(options)
    query = {word: value for word, value in options.items() if value is not None}
    if dead:
        query["state"] = "dead"
    if bool(ids) == bool(query):
        raise click.UsageError("give IDs, or options that say which deliveries (such as --dead)")
    failed = asyncio.run(_replay(place, ids, query, dry_run=dry_run, wait=wait, as_json=as_json))
    if failed:
        sys.exit(FINDINGS)


async def _replay(
    place: Place, ids: Sequence[str], query: dict[str, Any], *, dry_run: bool, wait: bool, as_json: bool
) -> bool:
    """Whether anything that was waited for is dead."""
    async with opened(place, changes=not dry_run) as asked:
        if wait and not (asked.live or dry_run):
            raise AccessError("--wait needs a running engine", "start it with engine serve; it takes up what is due")
        chosen = await _choose(asked, ids, query)
        if dry_run:
            await _list(asked, chosen, as_json=as_json)
            return False
        before = await _succeeded_before(asked, chosen)
        done = await _mark_due(asked, chosen)
        settled = await _follow(asked, done) if wait else None
        held = [] if wait else await _held(asked, done["deliveries"])
    if as_json or any(done.values()):
        _tell(done, settled, held, before, live=asked.live, as_json=as_json)
    else:
        out().print(f"nothing to replay: {_why_nothing(chosen, query)}")
    return bool(settled and settled.died)


async def _choose(asked: Asked, ids: Sequence[str], query: dict[str, Any]) -> dict[str, list[str]]:
    """Whole ids by what they are of."""
    if not ids:
        found = await asked.do("replay", await resolved(asked, query) | {"dry_run": True})
        return {"deliveries": found["deliveries"], "events": found["events"]}
    return await chosen_by_id(asked, ids)


async def chosen_by_id(asked: Asked, ids: Sequence[str]) -> dict[str, list[str]]:
    """Whole ids, from their starts, by what they are of."""
    chosen: dict[str, list[str]] = {"deliveries": [], "events": []}
    for start in ids:
        kind, whole = await _identify(asked, start)
        chosen[kind].append(whole)
    return chosen


async def _identify(asked: Asked, start: str) -> tuple[str, str]:
    """Events' ids have dashes, deliveries' have none; a short start may be of either. ``last`` is an event."""
    candidates = [*await _meant(asked.event, event_candidate, start)]
    if "-" not in start and start != LAST:
        candidates += await _meant(asked.delivery, delivery_candidate, start)
    if len(candidates) > 1:
        raise ambiguous(start, candidates)
    if not candidates:
        raise _unknown(start)
    [one] = candidates
    return ("events" if one["kind"] == "event" else "deliveries"), one["id"]


async def _meant(show: _Show, about: Callable[[Mapping[str, Any]], Candidate], start: str) -> Sequence[Candidate]:
    """What a start may stand for, of one kind."""
    try:
        return [about(await show(start))]
    except (NotFound, Absent):
        return []
    except BadQuery as error:
        if not error.candidates:
            raise
        return error.candidates


def _unknown(start: str) -> EngineError:
    hint = "engine deliveries list and engine events list show their ids"
    return AccessError(f"no delivery or event starts with {start!r}", hint)


async def _list(asked: Asked, chosen: dict[str, list[str]], *, as_json: bool) -> None:
    """How many there are, and what would be sent: of the first for people, of all for programs."""
    ids = chosen["deliveries"]
    if as_json:
        shown = {
            "previews": await _previewed(asked, "delivery", ids),
            "event_previews": await _previewed(asked, "event", chosen["events"]),
        }
        emit(chosen | {"dry_run": True} | shown)
        return
    for delivery_id in ids[:_SHOWN]:
        outline_of(await asked.do("preview", {"delivery": delivery_id})).print(out())
    if listed := ids[_SHOWN:_LISTED]:
        rows = [await asked.delivery(delivery_id) for delivery_id in listed]
        print_deliveries(out(), rows, await Present.of(asked, rows))
    for event_id in chosen["events"][:_SHOWN]:
        outline_of_event(await asked.do("preview", {"event": event_id})).print(out())
    say(f"{counted(chosen)} would be replayed" + _more(chosen))


async def _previewed(asked: Asked, kind: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    shown = []
    with _bar(hidden=len(ids) <= _BATCH) as bar:
        task = bar.add_task("rendering", total=len(ids))
        for one in ids:
            shown.append(await asked.do("preview", {kind: one}))
            bar.advance(task)
    return shown


def _more(chosen: dict[str, list[str]]) -> str:
    hidden = max(len(chosen["deliveries"]) - _LISTED, 0) + max(len(chosen["events"]) - _SHOWN, 0)
    return f" ({hidden} are not shown)" if hidden > 0 else ""


async def _succeeded_before(asked: Asked, chosen: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of the deliveries, and of the events' deliveries, that had succeeded; of very many only of the first."""
    rows = [await asked.delivery(one) for one in chosen["deliveries"][:_LISTED]]
    found = [row["id"] for row in rows if row["state"] == "succeeded" or succeeded_before(row)]
    for event_id in chosen["events"][:_LISTED]:
        found += [row["id"] for row in (await asked.event(event_id))["deliveries"] if row["state"] == "succeeded"]
    return found


async def _mark_due(asked: Asked, chosen: dict[str, list[str]]) -> dict[str, list[Any]]:
    """In batches, with a bar where it takes long."""
    done: dict[str, list[Any]] = {"deliveries": [], "events": [], "hurried": []}
    total = sum(map(len, chosen.values()))
    with _bar(hidden=total <= _BATCH) as bar:
        task = bar.add_task("marking due", total=total)
        for kind, ids in chosen.items():
            for batch in batches(ids, _BATCH):
                answer = await asked.do("replay", {kind: list(batch)})
                done[kind] += answer[kind]
                done["hurried"] += answer["hurried"]
                bar.advance(task, len(batch))
    return done


async def _held(asked: Asked, ids: Sequence[str]) -> list[str]:
    """Those of the deliveries that have to wait for their hours, a person's replay or not; of very many the newest."""
    held: list[str] = []
    for route in await asked.routes() or () if ids else ():
        for action in (*route["actions"], *({**dead, "name": f"{ON_DEAD}{dead['name']}"} for dead in route["on_dead"])):
            if _is_shut(route) or _is_shut(action):
                words = {"route": route["id"], "action": action["name"], "limit": MOST_ROWS}
                held += [row["id"] for row in (await asked.deliveries(words))["deliveries"]]
    return sorted(set(held) & set(ids))


def _is_shut(described: Mapping[str, Any]) -> bool:
    """Whether a route or an action holds its deliveries now."""
    active = described.get("active") or {"otherwise": "skip"}
    return active["otherwise"] == "hold" and not active["open"]


def _bar(*, hidden: bool) -> Progress:
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


@dataclass(slots=True)
class _Settled:
    """How what was waited for ended: how many succeeded, and those that died, by id, with the reason.

    ``before`` counts those that had succeeded before, too.
    """

    succeeded: int = 0
    before: int = 0
    died: dict[str, str] = field(default_factory=dict)

    def count(self, row: Mapping[str, Any]) -> None:
        """A delivery, or an event that could not be evaluated."""
        if row["state"] in _GIVEN_UP:
            self.died[row["id"]] = row["reason"]
        else:
            self.succeeded += 1


async def _follow(asked: Asked, done: dict[str, list[Any]]) -> _Settled:
    """Until every delivery (an event's evaluation with all that came of it) succeeded or is dead."""
    settled = _Settled()
    with _bar(hidden=False) as bar:
        task = bar.add_task("settling", total=len(done["deliveries"]) + len(done["events"]))
        for delivery_id in done["deliveries"]:
            delivery = await _settled(asked, delivery_id)
            settled.count(delivery)
            settled.before += succeeded_before(delivery)
            bar.advance(task)
        for event_id in done["events"]:
            for row in await _settled_event(asked, event_id):
                settled.count(row)
            bar.advance(task)
    return settled


async def _settled(asked: Asked, delivery_id: str) -> Mapping[str, Any]:
    while True:
        delivery = await asked.delivery(delivery_id)
        if delivery["state"] in ("succeeded", *_GIVEN_UP):
            return delivery
        await asyncio.sleep(_LOOK)


async def _settled_event(asked: Asked, event_id: str) -> Sequence[Mapping[str, Any]]:
    while True:
        event = await asked.event(event_id)
        if event["state"] in _GIVEN_UP:
            return [event]
        if event["state"] == "routed" and not event["open"]:
            deliveries: list[dict[str, Any]] = event["deliveries"]
            return deliveries
        await asyncio.sleep(_LOOK)


def _tell(
    done: dict[str, list[Any]],
    settled: _Settled | None,
    held: Sequence[str],
    before: Sequence[str],
    *,
    live: bool,
    as_json: bool,
) -> None:
    if as_json:
        told = {"held": list(held), "had_succeeded": list(before), "settled": _as_json(settled)}
        emit(done | {"dry_run": False, "live": live} | told)
        return
    console = out()
    if settled is not None:
        again = f" ({settled.before} had succeeded before)" if settled.before else ""
        console.print(f"{counted(done)} replayed: {settled.succeeded} succeeded, {len(settled.died)} dead{again}")
        _tell_died(console, settled.died)
    else:
        words = f"; {len(held)} of them only when their hours begin (active: … otherwise: hold)" if held else ""
        hurried = [each["was_due"] for each in done["hurried"] if each["id"] not in held]
        late = _hurried(hurried, len(done["deliveries"]))
        console.print(f"{_will_be(done, live=live)}{late}{_again(done, before)}{words}")


def _why_nothing(chosen: Mapping[str, Sequence[str]], query: Mapping[str, Any]) -> str:
    """Nothing was found, or what was found can't be taken."""
    if any(chosen.values()):
        return "it is being attempted or evaluated right now, or its event's body is not kept any more"
    return "nothing is dead" if query == {"state": "dead"} else "nothing is as the options say"


def _will_be(done: Mapping[str, Sequence[Any]], *, live: bool) -> str:
    """What happens to what was replayed, and when."""
    deliveries, events = len(done["deliveries"]), len(done["events"])
    parts = [f"{plural(deliveries, 'delivery', 'deliveries')} will be retried"] if deliveries else []
    parts += [f"{plural(events, 'event')} will be evaluated again"] if events else []
    return " and ".join(parts) + (" now" if live else " when engine serve starts")


def _again(done: Mapping[str, Sequence[Any]], before: Sequence[str]) -> str:
    """How many of what is made again had succeeded before."""
    if not before:
        return ""
    if not done["events"] and len(before) == len(done["deliveries"]):
        return f"; {'it' if len(before) == 1 else 'they'} had succeeded before"
    owner = "its" if len(done["events"]) == 1 and not done["deliveries"] else "their"
    of = f"of {owner} deliveries" if done["events"] else "of them"
    return f"; {len(before)} {of} had succeeded before"


def _hurried(were_due: Sequence[str], count: int) -> str:
    """How many of the deliveries were to be made later, and when."""
    if not were_due:
        return ""
    latest = age(max(were_due))
    if len(were_due) == 1:
        return f"; {'it' if count == 1 else '1 of them'} was due {latest}"
    return f"; {'they' if len(were_due) == count else f'{len(were_due)} of them'} were due later, the last {latest}"


def _as_json(settled: _Settled | None) -> dict[str, Any] | None:
    if settled is None:
        return None
    died = [{"id": dead, "reason": reason} for dead, reason in settled.died.items()]
    return {"succeeded": settled.succeeded, "succeeded_before": settled.before, "dead": len(died), "died": died}


def _tell_died(console: Console, died: Mapping[str, str]) -> None:
    """Which, and why: not all of very many."""
    for dead, reason in list(died.items())[:_LISTED]:
        console.print(Text.assemble((short_delivery(dead), "red"), "  ", one_line(reason)))
    if len(died) > _LISTED:
        say(f"{len(died) - _LISTED} more are not shown: engine deliveries --dead")


def counted(chosen: Mapping[str, Any]) -> str:
    """How many deliveries and events."""
    words = {"deliveries": "delivery", "events": "event"}
    counted = [plural(len(ids), words[kind], kind) for kind in words if (ids := chosen[kind])]
    return " and ".join(counted) or "nothing"
