"""A body that is written as JSON text: `check` says what becomes of it, and what is no JSON is not sent as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from destination_cases import CASES, configuration, deliver

from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader
from engine.testing import WebhookSink

PAYLOAD = (CASES / "09" / "payload.json").read_bytes()
MEANT = 'answer-question answered He said "yes"\nand left'


def remarks(folder: Path, text: str) -> list:
    """What is said of the body, apart from the remark that the case's ``outputs`` may be null."""
    path = folder / "config.yaml"
    path.write_text(text)
    return [remark for remark in lint(Loader(path, {}).load()) if "outputs is null" not in remark.message]


def with_header(text: str, name: str) -> str:
    return text.replace("          body:", f"          headers: {{{name}: application/json}}\n          body:")


def as_advised(text: str, hint: str) -> str:
    """The configuration with the body that the hint names."""
    return text[: text.index("          body:")] + " " * 10 + hint[hint.index("body: ") :] + "\n"


async def test_check_says_what_becomes_of_it_and_its_advice_works(tmp_path: Path, sink: WebhookSink) -> None:
    text = configuration("09", sink=sink.origin)
    (remark,) = remarks(tmp_path, text)
    assert (remark.line, remark.message) == (8, "this body is a text: it is sent as text/plain, not as JSON")
    fixed = as_advised(text, remark.hint)
    assert remarks(tmp_path, fixed) == []
    await deliver(tmp_path, fixed, PAYLOAD, 1)
    (request,) = sink.received
    assert (request.headers["Content-Type"], request.body) == ("application/json", {"content": MEANT})


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
async def test_what_is_no_json_is_not_sent_as_json(tmp_path: Path, sink: WebhookSink, name: str) -> None:
    text = with_header(configuration("09", sink=sink.origin), name)
    (remark,) = remarks(tmp_path, text)
    assert "a quote or a line break in {{ run.name }} makes this body invalid JSON" in remark.message
    (delivery,) = (await deliver(tmp_path, text, PAYLOAD, 1)).values()
    assert delivery.row.state == "dead"
    reason = "is not JSON, although its content type is application/json: Expecting ',' delimiter"
    assert reason in delivery.row.reason
    assert "put | tojson after each value" in delivery.row.reason
    assert sink.received == []


async def test_the_advice_of_the_reason_works(tmp_path: Path, sink: WebhookSink) -> None:
    text = with_header(configuration("09", sink=sink.origin), "Content-Type")
    text = text.replace(
        '"{{ run.name }} answered {{ run.outputs.output }}"',
        '{{ (run.name ~ " answered " ~ run.outputs.output) | tojson }}',
    )
    assert remarks(tmp_path, text) == []
    await deliver(tmp_path, text, PAYLOAD, 1)
    assert [json.loads(request.raw) for request in sink.received] == [{"content": MEANT}]
