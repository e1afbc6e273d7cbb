"""What a body takes in memory once it is parsed, estimated from its bytes."""

from __future__ import annotations

import sys

import orjson
import pytest

from engine.sandbox import payloads
from engine.scan import parsed_size

MANY = 40_000


def really(value: object) -> int:
    """How many bytes a parsed value takes: every object once, with what the garbage collector adds."""
    total, seen, queue = 0, set(), [value]
    while queue:
        one = queue.pop()
        if id(one) not in seen:
            seen.add(id(one))
            total += sys.getsizeof(one)
            queue += [*one.keys(), *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return total


@pytest.mark.parametrize(
    "body",
    [
        payloads.to_body(payloads.seed()),
        payloads.to_body(payloads.rule()),
        payloads.to_body(payloads.complete()),
        payloads.to_body(payloads.alert()),
        payloads.to_body(payloads.several(100)),
        payloads.to_body(payloads.several(1000)),
        orjson.dumps({"a": [[]] * MANY}),
        orjson.dumps({"a": [{"a": number} for number in range(MANY)]}),
        orjson.dumps({"a": list(range(MANY))}),
        orjson.dumps({f"k{number}": number for number in range(MANY)}),
        orjson.dumps({"a": "plain text without much in it " * MANY}),
        orjson.dumps({"a": "€" + "mostly ASCII " * MANY}),
        b'{"a": "\\u20ac' + b"mostly ASCII " * MANY + b'"}',
    ],
    ids=[
        *("seed", "rule", "three runs", "alert", "100 runs", "1000 runs"),
        *("empty arrays", "small objects", "numbers", "keys", "text", "wide text", "escaped text"),
    ],
)
def test_the_estimate_is_within_a_factor_of_three(body):
    estimate, real = parsed_size(body), really(orjson.loads(body))
    assert real / 3 < estimate < real * 3


@pytest.mark.parametrize("text", ["a, b, c [d] {e} " * MANY, "," * MANY])
def test_commas_in_texts_are_taken_for_values(text):
    assert parsed_size(orjson.dumps({"a": text})) > len(text)


def test_nothing_is_larger_when_it_is_looked_at_in_pieces():
    one = b'{"a":"' + b"x" * (3 * 1024 * 1024) + b'",' + b"0," * 10
    assert parsed_size(one) == len(one) + 12 * 80
