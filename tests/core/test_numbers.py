"""Whole numbers beyond 64 bits, restore_long_numbers from the body."""

from __future__ import annotations

import pytest

from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.core.json_text import may_have_long_numbers, restore_long_numbers
from engine.worker.context import LoadedEvent

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
    assert repr(restore_long_numbers(payload, body.encode(), index)) == repr(expected)


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (f"[{2**64}]", True), (f"[-{2**63 + 1}]", True), (f'"{"1" * 19}"', True), ("[123456789012345678]", False),
        ("[1234567890.1234567890]", False), ("", False),
    ],
)  # fmt: skip
def test_a_body_is_looked_through_for_as_many_digits_as_such_a_number_has(body, may):
    assert may_have_long_numbers(body.encode()) is may


def test_a_payload_without_such_numbers_is_left_alone_and_the_body_unread():
    payload = {"runs": [{"n": 1.5, "id": "1" * 40, "ns": 1_700_000_000_000_000_000}]}
    assert restore_long_numbers(payload, b"not read", 0) is payload


def test_an_events_body_is_looked_through_once(monkeypatch):
    asked = []
    monkeypatch.setattr("engine.worker.context.may_have_long_numbers", lambda body: asked.append(body) or True)
    loaded = LoadedEvent(parse_event(b'{"a": 1}', 1.7e9), Fetched())
    assert [loaded.exact_body for _ in range(3)] == [b'{"a": 1}'] * 3
    assert len(asked) == 1
