"""Compiled filters beside jsonpath-ng's own ``find``, on the same conditions and documents, in one run.

    python bench/filters.py

The baseline is what a careful person writes by hand: paths parsed once, ``find`` per document,
the values compared in Python, stopping at the first condition that does not hold.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # so that it runs as a file, too
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import re

from jsonpath_ng.ext.parser import parse

from engine.filters import compile_filter
from engine.source import Source
from engine.templates import Templates
from engine.truth import Truth

TARGET = 20.0
ROUNDS = 7
CONDITIONS: list[dict[str, Any]] = [
    {"path": "$.runs[*].status", "eq": "success"},
    {"path": "$.feedback_stats.user_score.avg", "gte": 0, "lt": 0.5},
    {"path": "$.runs[*].extra.metadata.env", "in": ["prod", "staging"]},
    {"path": "$.runs[0].total_tokens", "gt": 100},
    {"path": "$.runs[*].tags[*]", "eq": "customer"},
    {"path": "$.runs[0].name", "matches": "^support-(bot|agent)$"},
]

Check = Callable[[Any], bool]


def document() -> dict[str, Any]:
    """A document like those of LangSmith's rule webhooks, of about 2 KB."""
    run = {
        "id": "d75d7417-0c57-4655-88fe-1db3cda3a47a",
        "name": "support-bot",
        "status": "success",
        "start_time": "2026-05-04T10:59:00",
        "total_tokens": 1234,
        "total_cost": "0.0731",
        "tags": ["production", "customer", "v2"],
        "extra": {"metadata": {"env": "prod", "revision": "abc"}, "runtime": {"sdk": "langsmith-py"}},
        "inputs": {"messages": [{"role": "user", "content": "Where is my parcel? " * 20}]},
        "outputs": {"answer": "On its way. " * 20},
    }
    return {
        "rule_id": "d75d7417-0c57-4655-88fe-1db3cda3a47a",
        "runs": [run],
        "run": run,
        "feedback_stats": {"user_score": {"n": 3, "avg": 0.3}},
        "event": {"id": "e", "kind": "rule", "received_at": "2026-05-04T12:00:00Z"},
    }


def by_hand(condition: dict[str, Any]) -> Check:
    """One condition on jsonpath-ng's own ``find``."""
    find = parse(condition["path"]).find
    tests: list[Check] = [_TESTS[name](operand) for name, operand in condition.items() if name != "path"]
    return lambda doc: any(all(test(match.value) for test in tests) for match in find(doc))


_TESTS: dict[str, Callable[[Any], Check]] = {
    "eq": lambda operand: lambda value: value == operand,
    "gt": lambda operand: lambda value: value > operand,
    "gte": lambda operand: lambda value: value >= operand,
    "lt": lambda operand: lambda value: value < operand,
    "in": lambda operand: lambda value: value in operand,
    "matches": lambda operand: lambda value: re.search(operand, value) is not None,
}


def seconds(function: Check, doc: Any) -> float:
    """Seconds of processor time one call takes, over some hundredths of a second."""
    count = 200
    while (spent := _time(function, doc, count)) < 0.02:
        count *= 2
    return spent / count


def _time(function: Check, doc: Any, count: int) -> float:
    started = time.process_time()
    for _ in range(count):
        function(doc)
    return time.process_time() - started


def compiled(conditions: list[dict[str, Any]]) -> Callable[[Any], Truth]:
    """The engine's filter."""
    source = Source("bench")
    result = compile_filter(conditions, (), source, Templates())
    if source.problems:
        raise SystemExit("\n".join(map(str, source.problems)))
    return result.check


def compare(conditions: list[dict[str, Any]], doc: Any) -> tuple[float, float]:
    """Seconds a document takes: ours, theirs. Medians over rounds that alternate."""
    check, hands = compiled(conditions), [by_hand(condition) for condition in conditions]

    def hand(each: Any) -> bool:
        return all(test(each) for test in hands)

    if not (check(doc) is Truth.TRUE and hand(doc)):
        raise SystemExit(f"the two do not agree on {conditions}")
    rounds = [(seconds(check, doc), seconds(hand, doc)) for _ in range(ROUNDS)]  # type: ignore[arg-type]
    return statistics.median(ours for ours, _ in rounds), statistics.median(theirs for _, theirs in rounds)


def plain() -> list[dict[str, Any]]:
    """The conditions without patterns, which RE2 decides and not we."""
    return [condition for condition in CONDITIONS if "matches" not in condition]


def measure() -> tuple[float, float]:
    """Checks a second of one filter of several conditions: ours, and jsonpath-ng's ``find`` by hand."""
    ours, theirs = compare(plain(), document())
    return 1 / ours, 1 / theirs


def main() -> None:
    """Print the table."""
    doc = document()
    print(f"{'condition':58} {'engine':>9} {'jsonpath-ng':>12} {'ratio':>7}")
    for condition in CONDITIONS:
        operators = {name: operand for name, operand in condition.items() if name != "path"}
        _row(f"{condition['path']} {operators}", *compare([condition], doc))
    _row(f"a filter of all {len(CONDITIONS)}", *compare(CONDITIONS, doc))
    ours, theirs = compare(plain(), doc)
    _row(f"a filter of all {len(plain())} without a pattern", ours, theirs)
    print(f"target: at least {TARGET:.0f} times jsonpath-ng's own find; measured: {theirs / ours:.1f}")


def _row(name: str, ours: float, theirs: float) -> None:
    print(f"{name:58.58} {ours * 1e6:6.2f} µs {theirs * 1e6:9.2f} µs {theirs / ours:6.1f}x")


if __name__ == "__main__":
    main()
