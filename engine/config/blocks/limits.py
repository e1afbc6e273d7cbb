"""The block ``limits``: how much may go to a destination, how often."""

from __future__ import annotations

from typing import Any, Final

from engine.clients.limits import LimitsSpec, LimitTable
from engine.config.section import Section, kind_of
from engine.core.units import format_rate, parse_rate

_KEYS: Final = frozenset({"concurrency", "rate", "burst"})
_WORDS: Final = {
    "max": "concurrency",
    "parallel": "concurrency",
    "limit": "concurrency",
    "max_concurrency": "concurrency",
    "rate_limit": "rate",
    "per_second": "rate",
    "rps": "rate",
    "qps": "rate",
    "bursts": "burst",
}
_EXAMPLE: Final = 'write limits: {"https://example.com": {concurrency: 4, rate: 1/s, burst: 3}}'


def read_limits(top: Section) -> LimitTable:
    """Limits by destination: its name, or its start with ``*`` at the end, or ``default``."""
    if "limits" not in top.values:
        return LimitTable()
    value = top.values["limits"]
    if not isinstance(value, dict):
        top.reader.wrong(("limits",), f"'limits' must be a mapping (destination: …), not {kind_of(value)}", _EXAMPLE)
        return LimitTable()
    found = {pattern: _read_one(top, pattern, written) for pattern, written in value.items()}
    return LimitTable({pattern: spec for pattern, spec in found.items() if spec is not None})


def _read_one(top: Section, pattern: str, value: Any) -> LimitsSpec | None:
    where = ("limits", pattern)
    if fault := _fault_of(pattern):
        top.reader.source.report(where, *fault, at_key=True)
    section = top.reader.section(value, where, f"the limits of {pattern!r}", _KEYS, _WORDS)
    if section is None:
        return None
    spec = LimitsSpec(section.count("concurrency"), section.parsed("rate", None, parse_rate), section.count("burst"))
    if spec.burst is not None and spec.rate == 0.0:
        top.reader.wrong((*where, "burst"), "'burst' means nothing without a rate", "remove it, or write rate: 1/s")
    return spec


def _fault_of(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a pattern, and how to write it: it would fit no destination."""
    if pattern.startswith("#"):
        return f"no destination is called {pattern!r}", f'a channel of Slack is "slack {pattern}"'
    if "*" in pattern[:-1]:
        return f"{pattern!r} fits nothing: a * stands at the end only", 'write the start, as in "slack *"'
    scheme, _, rest = pattern.partition("://")
    if scheme in ("http", "https") and "/" in rest:
        host = rest.partition("/")[0]
        return f"{pattern!r} fits nothing: destinations have no path", f'write "{scheme}://{host}"'
    return None


def write_limits(table: LimitTable) -> dict[str, dict[str, Any]]:
    """What takes effect, as it would be written."""
    return {name: _write_one(spec) for name, spec in table.patterns.items()}


def _write_one(spec: LimitsSpec) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if spec.concurrency is not None:
        written["concurrency"] = spec.concurrency
    if spec.rate is not None:
        written["rate"] = format_rate(spec.rate)
    if spec.burst is not None and spec.rate != 0.0:
        written["burst"] = spec.burst
    return written
