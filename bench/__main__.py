"""``make bench``: measure every row, print the table, exit 1 if a ratio is beyond its bound."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import hanging
from bench.load import generator_name
from bench.measure import Group, Options, in_rounds, progress, rounds_until
from bench.plan import NOW, ROWS, engines, groups
from bench.processes import BenchError, environment
from bench.ratios import Pair
from bench.report import Results, as_json, machine, table

#: How many seconds all of it may take, and the quick form. What does not fit in has fewer rounds.
BUDGET, QUICK_BUDGET = 2100.0, 250.0
#: After how many seconds it gives up, because something hangs.
LIMIT, QUICK_LIMIT = 2400, 300


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under 5 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured, too")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure the engine of another checkout, too")
    parser.add_argument("--folder", type=Path, help="where data folders are made; default: /var/tmp")
    parser.add_argument("--only", metavar="TEXT", default="", help="only groups and rows whose name has this in it")
    parser.add_argument("--own-generator", action="store_true", help="not wrk, even if it is installed")
    return parser.parse_args(given)


def options_of(given: argparse.Namespace) -> Options:
    folder = given.folder or (Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir()))
    rounds, seconds, warm_up = (3, 1.2, 0.4) if given.quick else (7, 3.0, 1.0)
    return Options(rounds, seconds, warm_up, folder, given.own_generator)


def stop_by_signals(seconds: int) -> None:
    """End every process at SIGTERM, and when so many seconds are over."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"stopped after {seconds} s: something hangs"))
    signal.alarm(seconds)


def check_checkout(name: str, checkout: Path) -> None:
    """Make sure that the engine of a checkout is the one that would run.

    Raises:
        BenchError: it is not.
    """
    command = [sys.executable, "-P", "-c", "import engine; print(engine.__file__)"]
    found = subprocess.run(command, env=environment(checkout), capture_output=True, text=True, check=False)
    if found.stdout.strip() != str(checkout / "engine" / "__init__.py"):
        raise BenchError(f"{name}: no engine in {checkout}: {found.stdout}{found.stderr}")


def measure_all(checkouts: dict[str, Path], options: Options, *, only: str, budget: float) -> Results:
    """Every group and row, each with a share of the time that goes by how many processes it measures."""
    results = Results()
    chosen = [group for group in groups(checkouts) if only in group.name]
    alone = {key: measure for key, measure in ALONE.items() if only in key}
    weights = [2 * len(checkouts)] * len(alone) + [len(group.parties) for group in chosen]
    shares = shares_of(weights, time.monotonic() + budget)
    for key, measure in alone.items():
        _alone(results, key, measure, checkouts, options, next(shares))
    for group in chosen:
        _group(results, group, options, next(shares))
    return results


def shares_of(weights: list[int], end: float, clock: Callable[[], float] = time.monotonic) -> Iterator[float]:
    """Until when each of some tasks has time, asked for as it begins. What one does not use, the next ones have."""
    for place, weight in enumerate(weights):
        now = clock()
        yield now + (end - now) * weight / sum(weights[place:])


def _group(results: Results, group: Group, options: Options, until: float) -> None:
    """A group's samples, or why there are none."""
    results.samples[group.name] = {}
    try:
        results.samples[group.name] = in_rounds(group, options, until)
    except BenchError as error:
        for row in (row for row in ROWS if row.group == group.name):
            results.failures[row.key] = {NOW: str(error)}


def _alone(results: Results, key: str, measure: Measure, checkouts: dict[str, Path], options: Options, until: float):
    """A row without a group, for each engine."""
    pairs, failures = results.pairs.setdefault(key, {}), results.failures.setdefault(key, {})
    for place, (name, checkout) in enumerate(checkouts.items()):
        progress(f"{key}: {name}")
        share = (until - time.monotonic()) / (len(checkouts) - place)
        try:
            pairs[name] = measure(checkout, options, time.monotonic() + share)
        except BenchError as error:
            failures[name] = str(error)
    progress("")


def _hanging(checkout: Path, options: Options, until: float) -> list[Pair]:
    return hanging.measure(checkout, rounds_until(options.rounds * 2 - 1, until), options.folder)


def _filters(checkout: Path, options: Options, _: float) -> list[Pair]:
    """In a process of its own. Raises BenchError where that engine's filters are not where they are today."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("filters.py")), str(options.rounds)]
    found = subprocess.run(command, env=environment(checkout), capture_output=True, text=True, check=False, timeout=300)
    if found.returncode:
        raise BenchError(found.stderr.strip().splitlines()[-1])
    return [tuple(pair) for pair in json.loads(found.stdout)]


#: Rows without a group. Each is measured until a time of the monotonic clock.
Measure = Callable[[Path, Options, float], list[Pair]]
ALONE: dict[str, Measure] = {"hanging": _hanging, "filters": _filters}


def main() -> int:
    given, started = arguments(), time.monotonic()
    budget, limit = (QUICK_BUDGET, QUICK_LIMIT) if given.quick else (BUDGET, LIMIT)
    stop_by_signals(limit)
    options, checkouts = options_of(given), engines(given.against and given.against.resolve())
    try:
        for name, checkout in checkouts.items():
            check_checkout(name, checkout)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    facts = machine(options.folder) | {"generator": generator_name(own=options.own_generator), "quick": given.quick}
    print(" · ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    results = measure_all(checkouts, options, only=given.only, budget=budget)
    print(table(results))
    facts["seconds"] = round(time.monotonic() - started)
    print(f"{facts['seconds']} s in all")
    if given.json:
        given.json.write_text(json.dumps(as_json(results, facts), indent=1))
    return 1 if results.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
