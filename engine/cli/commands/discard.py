"""``engine discard``."""

from __future__ import annotations

from typing import Any

import click

from engine.admin.events import MOST_REPLAYED
from engine.cli.commands.replay import chosen_by_id, counted
from engine.cli.support.access import access_options, ask, place_from
from engine.cli.support.admin_client import Asked
from engine.cli.support.names import resolved
from engine.cli.support.options import json_option, selecting_options
from engine.cli.support.output import emit, out, say, who
from engine.cli.support.show_deliveries import print_deliveries

#: How many are listed by --dry-run.
_LISTED = 50


@click.command("discard")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--dead", is_flag=True, help="All that are dead.")
@selecting_options
@click.option("--reason", metavar="TEXT", help="Why; it is kept in the history.")
@click.option("--dry-run", is_flag=True, help="Only count and list.")
@access_options
@json_option
def command(
    ids: tuple[str, ...],
    dead: bool,  # noqa: FBT001
    reason: str | None,
    dry_run: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Give up deliveries or events that are dead: they count as dead no longer, and nothing follows.

    IDs are of deliveries or of events (the evaluation and the deliveries that are dead); their starts are enough,
    from 8 characters on, and last is the newest event.
    Without IDs the options say which, as in engine replay. The history keeps what happened, who gave it up and why.
    Until retention deletes the event, engine replay ID makes it due again.
    """
    place = place_from(options)
    query = {word: value for word, value in options.items() if value is not None}
    if bool(ids) == bool(dead or query):
        raise click.UsageError("give IDs, or options that say what (such as --dead)")
    beside = {"by": who("engine discard"), "dry_run": dry_run} | ({"reason": reason} if reason else {})
    answer, rows = ask(place, lambda asked: _discard(asked, ids, query, beside), changes=not dry_run)
    if as_json:
        emit(answer)
        return
    if rows:
        print_deliveries(out(), rows)
    if dry_run:
        say(f"{counted(answer)} would be discarded")
    else:
        out().print(f"{counted(answer)} discarded" if answer["count"] else "nothing to discard: nothing of it is dead")


async def _discard(
    asked: Asked, ids: tuple[str, ...], query: dict[str, Any], beside: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was discarded, or would be; and then the first of its deliveries."""
    if ids:
        named = await chosen_by_id(asked, ids)
        answers = [await asked.do("discard", {kind: some} | beside) for kind, some in named.items() if some]
    else:
        words = await resolved(asked, query) or {"limit": MOST_REPLAYED}
        answers = [await asked.do("discard", words | beside)]
    whole: dict[str, Any] = {
        kind: list(dict.fromkeys(one for answer in answers for one in answer[kind]))
        for kind in ("deliveries", "events")
    }
    whole |= {"count": len(whole["deliveries"]) + len(whole["events"]), "dry_run": beside["dry_run"]}
    listed = whole["deliveries"][:_LISTED] if beside["dry_run"] else []
    return whole, [await asked.delivery(one) for one in listed]
