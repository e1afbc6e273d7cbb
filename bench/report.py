"""Results as a table for people and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.measure import Sample
from bench.plan import BEFORE, IDLE, NOW, ROWS, Row
from bench.ratios import Pair, Ratio, ratio

#: A generator that takes more of a core is taken for the limit of what it measures.
BUSY = 0.8


@dataclass(frozen=True, slots=True)
class Results:
    """``samples`` by group and party; ``pairs`` of the rows without a group by key and engine."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    pairs: dict[str, dict[str, list[Pair]]] = field(default_factory=dict)
    #: Why a row could not be measured, by key and engine.
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, row: Row, engine: str) -> list[Pair]:
        """A row's pairs for one of the engines; empty where it was not measured."""
        if not row.group:
            return self.pairs.get(row.key, {}).get(engine, [])
        samples = self.samples.get(row.group, {})
        ours, theirs = (
            samples.get(engine + name if name.startswith(",") else name, []) for name in (row.ours, row.theirs)
        )
        return [(mine.rate, other.rate) for mine, other in zip(ours, theirs, strict=False)]

    def changes(self, row: Row) -> list[Pair]:
        """What the engine reached and what the one before it did, round by round."""
        now, before = self.of(row, NOW), self.of(row, BEFORE)
        return [(mine, other) for (mine, _), (other, _) in zip(now, before, strict=False)]

    def cpu_changes(self, row: Row) -> list[Pair]:
        """The processor time for each event of both, round by round."""
        samples = self.samples.get(row.group, {})
        both = (samples.get(name + row.ours, []) for name in (NOW, BEFORE))
        return [(now.cpu, before.cpu) for now, before in zip(*both, strict=False)]

    def measured(self) -> list[Row]:
        """Rows whose group was measured, if not each of its parties: what is not installed has no samples."""
        return [row for row in ROWS if row.group in self.samples or row.key in self.pairs]

    def missed(self) -> list[Row]:
        """Rows whose ratio is beyond its bound. What was not measured is not missed, unless it failed."""
        return [row for row in ROWS if self._is_missed(row)]

    def _is_missed(self, row: Row) -> bool:
        pairs = self.of(row, NOW)
        return not row.bound.holds(ratio(pairs).median) if pairs else NOW in self.failures.get(row.key, {})


def machine(folder: Path) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(folder, Path("/proc/mounts").read_text()),
        "load": os.getloadavg()[0],
    }


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the file system that holds a folder, by a table of mounts."""
    found = [line.split()[1:3] for line in mounts.splitlines()]
    holding = [(point, kind) for point, kind in found if folder.resolve().is_relative_to(point)]
    return max(holding, key=lambda each: len(each[0]), default=("", "unknown"))[1]


def as_json(results: Results, facts: dict[str, object]) -> dict[str, object]:
    """Everything that was measured."""
    return {
        **facts,
        "rows": [_row(results, row) for row in results.measured()],
        "samples": {
            group: {party: [asdict(sample) for sample in each] for party, each in found.items()}
            for group, found in results.samples.items()
        },
    }


def _row(results: Results, row: Row) -> dict[str, object]:
    ratios = {name: ratio(pairs) for name in (NOW, BEFORE) if (pairs := results.of(row, name))}
    changes, cpu = results.changes(row), results.cpu_changes(row)
    return {
        "key": row.key,
        "title": row.title,
        "unit": row.unit,
        "bound": str(row.bound),
        "missed": row in results.missed(),
        "ratios": {name: asdict(found) for name, found in ratios.items()},
        "pairs": {name: results.of(row, name) for name in ratios},
        "now/before": asdict(ratio(changes)) if changes else None,
        "now/before, CPU": asdict(ratio(cpu)) if cpu else None,
        "failures": results.failures.get(row.key, {}),
    }


def table(results: Results) -> str:
    """The rows, what each party took, and what to be wary of."""
    parts = [_ratios(results), _parties(results), *warnings(results)]
    return "\n".join(filter(None, parts))


def _ratios(results: Results) -> str:
    lines = [f"{'':<44} {'ours':>9} {'theirs':>9} {'':<8} {'ratio':>7} {'lowest … highest':>19}  bound"]
    missed = results.missed()
    for row in results.measured():
        verdict = f"{row.bound} {'MISSED' if row in missed else 'ok'}"
        lines.append(_line(row.title, row, results.of(row, NOW), verdict, results.failures.get(row.key, {}).get(NOW)))
        if before := results.of(row, BEFORE):
            lines.append(_line("  before", row, before, ""))
            lines += _changes("  now / before", results.changes(row))
            lines += _changes("  now / before, CPU per event", results.cpu_changes(row))
    return "\n".join(lines) + "\n"


def _line(title: str, row: Row, pairs: list[Pair], verdict: str, failure: str | None = None) -> str:
    if not pairs:
        return f"{title:<44} {failure or 'not installed'}"
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    return f"{title:<44} {_number(ours):>9} {_number(theirs):>9} {row.unit:<8} {_spread(ratio(pairs))}  {verdict}"


def _changes(title: str, pairs: list[Pair]) -> list[str]:
    return [f"{title:<44} {'':>28} {_spread(ratio(pairs))}"] if pairs else []


def _spread(found: Ratio) -> str:
    return f"{found.median:>7.3g} {f'{found.low:.3g} … {found.high:.3g}':>19}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _parties(results: Results) -> str:
    lines = [
        f"{'medians':<44} {'events/s':>9} {'CPU µs':>9} {'peak MB':>8} {'generator':>10} {'sink':>6} {'rounds':>7}"
    ]
    for group, parties in results.samples.items():
        lines.append(group)
        lines += [f"  {party:<42} {_figures(samples)}" for party, samples in parties.items() if samples]
    return "\n".join(lines) + "\n"


def _figures(samples: list[Sample]) -> str:
    def middle(name: str) -> float:
        return statistics.median(getattr(sample, name) for sample in samples)

    own = f"{_number(middle('rate')):>9} {middle('cpu'):>9,.0f} {middle('peak_rss') / 1e6:>8,.0f}"
    return f"{own} {middle('generator'):>9.0%} {middle('sink'):>6.0%} {len(samples):>7}"


def warnings(results: Results) -> list[str]:
    """What makes a figure doubtful."""
    found = []
    for group, parties in results.samples.items():
        for party, samples in parties.items():
            found += [f"warning: {group}, {party}: {text}" for text in _doubts(party, samples)]
    return found


def _doubts(party: str, samples: list[Sample]) -> list[str]:
    doubts = []
    driver = max((sample.generator for sample in samples), default=0)
    if driver > BUSY and party != IDLE:
        doubts.append(f"the load generator took {driver:.0%} of a core and may be the limit")
    if (sink := max((sample.sink for sample in samples), default=0)) > BUSY:
        doubts.append(f"the sink took {sink:.0%} of a core and may be the limit")
    if unexpected := sum(sample.unexpected for sample in samples):
        doubts.append(f"{unexpected} requests got another answer than expected, or none")
    if missing := sum(sample.missing for sample in samples):
        doubts.append(f"{missing} accepted events were not forwarded")
    return doubts
