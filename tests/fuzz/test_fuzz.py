"""Whatever is written into a configuration or posted to the engine: no crash, no 500, no hang, and errors with words.

Few examples of each, the same every time. ``make fuzz`` looks for more, guided by coverage.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entries import ENTRIES, check_filter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from receiving import post, serving

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.yaml").read_bytes()
SLIPS = [b"\n", b"  ", b": ", b"- ", b"{", b"[", b'"', b"&a ", b"*a", b"<<: "]
EVENT_KEYS = ["rule_id", "start_time", "runs", "threads", "alert_rule_id", "prompt_id", "type"]
CONFIG_KEYS = ["secrets", "routes", "vars", "rules", "network", "slack", "defaults", "limits", "retention", "x"]
#: Seconds after which an input is said to hang; the slowest template that is stopped takes about one.
HANGS = 10.0

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [
        "$.runs[*].status",
        "$.runs[0].name",
        "$..id",
        "$.runs[*].extra.metadata.env",
        "$",
        "$.feedback_stats.x.avg",
        "$.a",
    ]
)
EXPRESSIONS = st.sampled_from(
    ["run.latency > 1", "run.name", "runs | length", "feedback.x.score < 1", "a.b.c", "1 / a"]
)
OPERATORS = st.sampled_from(
    [
        "eq",
        "ne",
        "lt",
        "lte",
        "gt",
        "gte",
        "between",
        "in",
        "not_in",
        "contains",
        "starts_with",
        "ends_with",
        "matches",
        "exists",
        "empty",
        "length",
        "count",
        "type",
        "before",
        "after",
        "older_than",
        "newer_than",
        "quantifier",
        "nope",
    ]
)
SOUND = st.sampled_from(
    [
        {"eq": 1},
        {"eq": None},
        {"ne": "x", "quantifier": "all"},
        {"lt": 3, "gte": -1.5},
        {"between": [1, 2]},
        {"in": ["a", 1, None]},
        {"not_in": [True], "quantifier": {"more_than": "30%"}},
        {"contains": "a"},
        {"starts_with": ""},
        {"matches": "^a.*$"},
        {"exists": False},
        {"empty": True, "quantifier": "none"},
        {"length": 3},
        {"count": 2},
        {"type": "string"},
        {"before": "2026-01-01"},
        {"older_than": "1d"},
    ]
)
CONDITIONS = st.recursive(
    st.builds(lambda path, more: {"path": path, **more}, PATHS, SOUND | st.dictionaries(OPERATORS, JSON, max_size=2))
    | st.builds(
        lambda expr, more: {"expr": expr, **more}, EXPRESSIONS, SOUND | st.dictionaries(OPERATORS, JSON, max_size=1)
    ),
    lambda inner: (
        st.builds(lambda word, items: {word: items}, st.sampled_from(["any", "all", "none"]), st.lists(inner))
        | st.builds(lambda one: {"not": one}, inner)
    ),
    max_leaves=5,
)
PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{run.name}}",
        "{{run.cost|round(2)}}",
        "{{runs|map(attribute='id')|list}}",
        "run.name",
        "run.inputs",
        "if",
        "for",
        "x",
        "in",
        "runs",
        "endfor",
        "endif",
        "else",
        "|",
        "default('x')",
        "urlencode",
        "length",
        "tojson",
        "'",
        '"',
        "(",
        ")",
        "[",
        "]",
        ".",
        "~",
        "*",
        "**",
        "9999999",
        "range(9)",
        "-",
        "omit",
        "vars.channel",
        "feedback",
        "x",
        "{",
        "}",
        "set",
        "a",
        "=",
        "macro",
        "m()",
        "é",
    ]
) | st.sampled_from([" ", "\n", "\0", "\u2028", "{{ ", " }}"])


def budget(examples: int) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=quiet)


def within(entry: Callable[[Any], None], value: Any) -> None:
    begun = time.monotonic()
    entry(value)
    assert time.monotonic() - begun < HANGS


@pytest.mark.parametrize("file", sorted((Path(__file__).parent / "found").glob("*-*")), ids=lambda file: file.name)
def test_what_was_found_once_is_not_found_again(file: Path) -> None:
    within(ENTRIES[file.name.partition("-")[0]], file.read_bytes())


@pytest.mark.parametrize("name", ENTRIES)
@budget(60)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode()))
def test_any_bytes_come_back(name: str, data: bytes) -> None:
    within(ENTRIES[name], data)


@budget(60)
@given(st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON))
def test_any_json_as_a_configuration_is_one_or_says_why_not(tree: Any) -> None:
    within(ENTRIES["config"], json.dumps(tree).encode())


@budget(25)
@given(st.data())
def test_the_example_configuration_with_something_else_in_it_is_one_or_says_why_not(data: st.DataObject) -> None:
    """Cut, doubled, or with a piece of something put in: what hands, and merges, do to a file."""
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(start + data.draw(st.integers(0, 60)), len(text))
        piece = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\n", b"  ", b": ", b"- ", b"{", b"[", b'"', b"&a ", b"*a", b"<<: "])
        )
        text = text[:start] + piece + text[end if data.draw(st.booleans()) else start :]
    within(ENTRIES["config"], text)


@budget(120)
@given(st.lists(PIECES, max_size=14).map("".join))
@example("{{ run }}" * 50)
def test_any_template_renders_or_says_why_not(text: str) -> None:
    within(ENTRIES["template"], text.encode())


@budget(80)
@given(st.lists(CONDITIONS, max_size=3), st.dictionaries(st.sampled_from(["runs", "a", "feedback_stats"]), JSON))
@example([{"path": "$.a", "eq": 10**400}], {"a": 1.5})
def test_any_condition_about_any_document_comes_to_one_of_three_values(written: Any, document: dict[str, Any]) -> None:
    within(lambda one: check_filter(one, document), written)


@budget(60)
@given(st.dictionaries(st.sampled_from(EVENT_KEYS), JSON))
@example({"runs": [None, 1, [], {}, {"id": {}}], "rule_id": {}, "feedback_stats": 3})
@example({"runs": {"0": {}}, "rule_id": "*"})
@example({"runs": [{"inputs_s3_urls": {"ROOT": 3}, "start_time": 1e308, "total_cost": "nan", "tags": "x"}]})
def test_any_object_is_an_event_that_is_decided_about(body: dict[str, Any]) -> None:
    within(ENTRIES["event"], json.dumps(body).encode())


# --- the receiver, over a real socket --------------------------------------------------------------------------------

HEADERS = st.sampled_from(
    [
        "Content-Encoding: gzip",
        "Content-Encoding: zstd",
        "Content-Encoding: x",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Content-Type: multipart/form-data",
        "Connection: upgrade",
        "Upgrade: websocket",
        "X-Webhook-Secret: bad",
        "Cookie: a=b",
        "Content-Length: 3",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Authorization: Bearer \xff",
        "A:" + "b" * 9000,
    ]
)


async def answer_to(request: bytes) -> bytes:
    """What a receiver says to some bytes, after which it must still take an event."""
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request)
        writer.write_eof()
        said = await asyncio.wait_for(reader.read(), HANGS)
        writer.close()
        assert (await served.send(b"{}")).status == 202
        return said


def check_answer(said: bytes) -> None:
    statuses = [int(line.split(b" ")[1]) for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    assert all(status < 500 or status == 503 for status in statuses), said[:300]
    assert b"Traceback" not in said


@budget(60)
@given(st.binary(max_size=300))
@example(b"GET / HTTP/9.9\r\n\r\n")
@example(b"POST /webhooks/langsmith?secret=good HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
def test_any_bytes_on_the_socket_are_answered_or_hung_up_on(request: bytes) -> None:
    check_answer(asyncio.run(answer_to(request)))


@budget(60)
@given(st.binary(max_size=100) | JSON.map(lambda one: json.dumps(one).encode()), st.lists(HEADERS, max_size=3))
def test_any_body_under_any_headers_is_taken_or_refused(body: bytes, headers: list[str]) -> None:
    lengths = [header for header in headers if header.startswith(("Content-Length", "Transfer"))]
    request = post(body, *headers, length=None if lengths else -1)
    check_answer(asyncio.run(answer_to(request)))
