"""What is measured: the groups of parties, and the table of rows with their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.bodies import LARGE, MEDIUM, SMALL
from bench.measure import Group
from bench.processes import ROOT
from bench.ratios import Bound
from bench.servers import FORWARD, NO_MATCH, NO_ROUTES, Party

#: The engine that is measured, and the one of --against, as they are called in tables.
NOW, BEFORE = "engine", "before"
#: A server that does next to nothing shows how fast the load generator can be.
IDLE = "generator alone"


@dataclass(frozen=True, slots=True)
class Row:
    """The rate of one of a group's parties divided by that of another.

    What begins with a comma comes behind the name of the engine. Rows without a group are measured on their own.
    """

    key: str
    title: str
    bound: Bound
    group: str = ""
    ours: str = ""
    theirs: str = ""
    unit: str = "events/s"


_SMALL, _MEDIUM, _LARGE, _FORWARD, _PLUGIN = "accept 2 KB", "accept 170 KB", "accept 3 MB", "forward 2 KB", "plug-in"
_BARE, _SCRIPT, _FASTAPI, _WEBHOOK = "bare handler", "hand-written script", "FastAPI handler", "Debian's webhook"
_NO_ROUTES, _NO_MATCH, _ONE, _BLOCKS, _WAITS = ", no routes", ", no match", ", one forward", ", blocks", ", waits"

#: The bounds are 0.8 of the lowest medians of some quick runs on a busy machine, when this table was made.
ROWS = (
    Row("accept-2k-no-routes", "accept 2 KB, no routes / bare handler", Bound(0.11), _SMALL, _NO_ROUTES, _BARE),
    Row("accept-2k", "accept 2 KB, no match / bare handler", Bound(0.1), _SMALL, _NO_MATCH, _BARE),
    Row("accept-2k-fastapi", "accept 2 KB, no match / FastAPI handler", Bound(0.58), _SMALL, _NO_MATCH, _FASTAPI),
    Row("accept-2k-webhook", "accept 2 KB, no match / Debian's webhook", Bound(0.07), _SMALL, _NO_MATCH, _WEBHOOK),
    Row("accept-170k", "accept 170 KB, no match / bare handler", Bound(0.1), _MEDIUM, _NO_MATCH, _BARE),
    Row("accept-3m", "accept 3 MB, no match / bare handler", Bound(0.21), _LARGE, _NO_MATCH, _BARE),
    Row("forward", "forward 2 KB / hand-written script", Bound(0.14), _FORWARD, _ONE, _SCRIPT),
    Row("forward-fastapi", "forward 2 KB / FastAPI that only accepts", Bound(0.2), _FORWARD, _ONE, _FASTAPI),
    Row("blocking", "accept, a plug-in blocks / it waits", Bound(0.61), _PLUGIN, _BLOCKS, _WAITS),
    Row("hanging", "latency, another destination hangs / alone", Bound(1.5, at_most=True), unit="ms"),
    Row("filters", "compiled filters / jsonpath-ng", Bound(21), unit="checks/s"),
)


def engines(against: Path | None) -> dict[str, Path]:
    """The checkouts of the engines that are measured, by their names."""
    return {NOW: ROOT, **({BEFORE: against} if against else {})}


def groups(checkouts: dict[str, Path]) -> list[Group]:
    """Every group, with all engines in each."""
    fastapi, webhook = servers.documented(_FASTAPI), servers.debian_webhook(_WEBHOOK)
    bare, idle = servers.rival(_BARE, "bare"), servers.nothing(IDLE)
    script = servers.rival(_SCRIPT, "script", forwards=True)

    def every(suffix: str, config: str, **changes: object) -> list[Party]:
        return [servers.engine(name + suffix, config, path, **changes) for name, path in checkouts.items()]

    def sleepers(suffix: str, sleep: str) -> list[Party]:
        return [servers.sleeper(name + suffix, sleep, path) for name, path in checkouts.items()]

    no_match = every(_NO_MATCH, NO_MATCH)
    blocks, waits = sleepers(_BLOCKS, "time.sleep(0.05)"), sleepers(_WAITS, "await asyncio.sleep(3600)")
    return [
        Group(_SMALL, SMALL, 64, (bare, *every(_NO_ROUTES, NO_ROUTES), *no_match, *fastapi, *webhook, idle)),
        Group(_MEDIUM, MEDIUM, 32, (bare, *no_match, idle)),
        Group(_LARGE, LARGE, 8, (bare, *no_match, idle)),
        Group(_FORWARD, SMALL, 64, (script, *every(_ONE, FORWARD, forwards=True), *fastapi)),
        Group(_PLUGIN, SMALL, 64, (*blocks, *waits)),
    ]
