"""Whole numbers beyond 64 bits, restored from the body."""

from __future__ import annotations

import orjson
import pytest

from engine.exact import restored

LARGE = 2**70


@pytest.mark.parametrize(
    ("body", "index", "payload", "expected"),
    [
        (f'{{"n": {LARGE}}}', -1, {"n": float(LARGE)}, {"n": LARGE}),
        (f'{{"n": -{LARGE}}}', -1, {"n": -float(LARGE)}, {"n": -LARGE}),
        (f'{{"runs": [{{"n": 1.5}}, {{"n": {LARGE}}}]}}', 1, {"runs": [{"n": float(LARGE)}]}, {"runs": [{"n": LARGE}]}),
        (f'{{"runs": [{{"n": {LARGE}}}, {{"n": 1.5}}]}}', 0, {"runs": [{"n": float(LARGE)}]}, {"runs": [{"n": LARGE}]}),
        (f'{{"t": "a\tb", "n": {LARGE}}}', -1, {"t": "a\tb", "n": float(LARGE)}, {"t": "a\tb", "n": LARGE}),
        (f'{{"a": NaN, "n": {LARGE}}}', -1, {"a": None, "n": float(LARGE)}, {"a": None, "n": LARGE}),
        (f'{{"n": {LARGE}, "m": 0.5}}', -1, {"n": "masked", "m": 0.5}, {"n": "masked", "m": 0.5}),
        (f'{{"n": {"9" * 5000}, "m": {LARGE}}}', -1, {"n": 1e300, "m": 1.0}, {"n": 1e300, "m": LARGE}),
        (f'{{"t": "[{LARGE}]", "m": 2.0}}', -1, {"t": f"[{LARGE}]", "m": 2.0}, {"t": f"[{LARGE}]", "m": 2.0}),
        (f"no JSON [{LARGE}]", -1, {"m": 2.0}, {"m": 2.0}),
    ],
)
def test_floats_become_the_whole_numbers_that_stand_in_their_places(body, index, payload, expected):
    # As text: a float equals the whole number that it was made of.
    assert repr(restored(payload, body.encode(), index)) == repr(expected)


def test_a_body_without_such_numbers_costs_nothing():
    payload = {"runs": [{"n": 1.5, "id": "1" * 40}]}
    assert restored(payload, orjson.dumps(payload), 0) is payload
