"""Bodies have the size they are said to have, and no two of them are one webhook."""

import json

import orjson
import pytest

from bench.bodies import LARGE, MARK, MEDIUM, MOST, SMALL, Shape, body_template, numbered, request_template
from bench.sink import Arrivals
from engine.core.event import Kind, parse_event

SHAPES = pytest.mark.parametrize("shape", [SMALL, MEDIUM, LARGE], ids=lambda shape: shape.name)


def body(shape, number):
    return numbered(body_template(shape).split(MARK), number)


@SHAPES
def test_size_and_runs(shape):
    made = body(shape, 7)
    assert len(made) == shape.size
    assert MARK not in made
    assert len(json.loads(made)["runs"]) == shape.runs


def test_the_sizes_are_those_of_the_issue():
    assert [(shape.size, shape.runs) for shape in (SMALL, MEDIUM, LARGE)] == [
        (2048, 1),
        (174_080, 100),
        (3_145_728, 100),
    ]


def test_runs_that_do_not_fit():
    with pytest.raises(ValueError, match="10 runs take more than 2048 bytes"):
        body_template(Shape("", 2048, 10))


@pytest.mark.parametrize("shape", [SMALL, MEDIUM], ids=lambda shape: shape.name)
def test_each_body_is_another_event(shape):
    events = [parse_event(body(shape, number), 0.0) for number in (0, 1, 10, MOST - 1)]
    assert {event.kind for event in events} == {Kind.RULE}
    assert len({event.dedup_key for event in events}) == 4
    assert len({(event.payload["start_time"], event.payload["end_time"]) for event in events}) == 4
    assert len({run["id"] for event in events for run in event.payload["runs"]}) == 4 * shape.runs
    assert all(event.dedup_key.startswith("rule:") for event in events)


def test_runs_differ_in_what_they_say():
    runs = json.loads(body(MEDIUM, 0))["runs"]
    assert len({run["outputs"]["answer"] for run in runs}) == 100


def test_a_request_says_the_length_of_its_body():
    head, _, sent = numbered(request_template(SMALL, "/x?secret=y").split(MARK), 5).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x?secret=y HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 2048" in head
    assert sent == body(SMALL, 5)


def test_the_sink_finds_the_number_in_what_is_forwarded():
    arrivals = Arrivals()
    arrivals.note(orjson.dumps(orjson.loads(body(SMALL, 123))))
    arrivals.note(json.dumps(json.loads(body(SMALL, 456))).encode())
    assert list(arrivals.at) == [123, 456]
