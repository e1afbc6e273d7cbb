"""Compiled filters beside jsonpath-ng's own ``find``, on the same conditions and document.

``python -P filters.py ROUNDS`` prints a list of pairs in JSON: checks a second of the engine that is on
PYTHONPATH, and of jsonpath-ng. The baseline is what a careful person writes by hand: paths parsed once,
``find`` per document, the values compared in Python, stopping at the first condition that does not hold.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from jsonpath_ng.ext.parser import parse

from engine.core.positions import Source
from engine.core.truth import Truth
from engine.rules.conditions import compile_filter
from engine.rules.templates import Templates

CONDITIONS: list[dict[str, Any]] = [
    {"path": "$.runs[*].status", "eq": "success"},
    {"path": "$.feedback_stats.user_score.avg", "gte": 0, "lt": 0.5},
    {"path": "$.runs[*].extra.metadata.env", "in": ["prod", "staging"]},
    {"path": "$.runs[0].total_tokens", "gt": 100},
    {"path": "$.runs[*].tags[*]", "eq": "customer"},
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


def compiled() -> Callable[[Any], Truth]:
    """The engine's filter of the conditions."""
    source = Source("bench")
    result = compile_filter(CONDITIONS, (), source, Templates())
    if source.problems:
        raise SystemExit("\n".join(map(str, source.problems)))
    return result.check


def measure(rounds: int) -> list[tuple[float, float]]:
    """Checks a second of one filter, in rounds that alternate: the engine's, jsonpath-ng's by hand."""
    doc, check, hands = document(), compiled(), [by_hand(condition) for condition in CONDITIONS]

    def hand(each: Any) -> bool:
        return all(test(each) for test in hands)

    if not (check(doc) is Truth.TRUE and hand(doc)):
        raise SystemExit("the two do not agree")
    return [(1 / seconds(check, doc), 1 / seconds(hand, doc)) for _ in range(rounds)]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
