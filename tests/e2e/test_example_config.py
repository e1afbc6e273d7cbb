"""``engine serve --config config.example.yaml``, LangSmith's own example payload, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import until
from processes import Serve

from engine.testing import payloads

CONFIG = Path(__file__).parents[2] / "config.example.yaml"
SECRET = "change-me"
RUN_ID = payloads.seed()["runs"][0]["id"]
#: What the payload's route does; ``log`` is a line on standard error.
ACTIONS = {"log", "annotate", "add_to_dataset", "post_to_slack", "forward_webhook"}


@pytest.fixture
async def serve(tmp_path: Path, langsmith, slack, sink) -> AsyncIterator[Serve]:
    """The command, with stand-ins for everything that the file names."""
    langsmith.add_queue("needs-review")
    environ = {
        "LANGSMITH_ENDPOINT": langsmith.url,
        "LANGSMITH_API_KEY": "lsv2_test_key",
        "SLACK_ENDPOINT": slack.url,
        "SLACK_BOT_TOKEN": "xoxb-test-token",
        "FORWARD_URL": sink.url,
    }
    made = Serve(CONFIG, tmp_path / "data", environ)
    await made.start()
    yield made
    await made.kill()


async def post(serve: Serve, payload: Any) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.post(serve.url(SECRET), json=payload) as response:
        return response.status, await response.json()


async def deliveries(serve: Serve) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"http://{serve.admin}/api/v1/deliveries") as response:
        return (await response.json())["deliveries"]


async def all_done(serve: Serve, count: int) -> list[dict[str, Any]] | None:
    # The audit route takes a sample: for what has no trace, by the event's id, which is another each time.
    rows = [row for row in await deliveries(serve) if row["route"] != "*/audit"]
    return rows if len(rows) == count and all(row["state"] in ("succeeded", "dead") for row in rows) else None


def whole() -> dict[str, Any]:
    """The example payload with its run made whole: inputs, outputs, tags, costs."""
    run = payloads.complete()["runs"][0] | {"id": RUN_ID}
    return payloads.seed() | {"runs": [run]}


FINISHED = {("corrections/finished", action) for action in ACTIONS}
#: The whole run has a score, which is low.
SCORED = {("corrections/low-score", "post_to_slack")}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(payloads.seed(), FINISHED), (whole(), FINISHED | SCORED)],
    ids=["to the letter", "made whole"],
)
async def test_the_example_payload_does_all_it_should_and_once(
    serve, langsmith, slack, sink, payload, expected
) -> None:
    langsmith.add_run(payload["runs"][0])
    status, first = await post(serve, payload)
    assert (status, first["duplicate"]) == (202, False)
    rows = await until(lambda: all_done(serve, len(expected)))
    status, again = await post(serve, payload)
    assert (status, again) == (202, {"event": first["event"], "duplicate": True})
    await asyncio.sleep(0.5)
    assert await all_done(serve, len(expected)) == rows, "nothing fires twice"

    assert {(row["route"], row["action"]) for row in rows} == expected
    assert {(row["state"], row["reason"]) for row in rows} == {("succeeded", "")}
    (run,) = payload["runs"]
    (example,) = langsmith.examples.values()
    assert example["inputs"] == (run["inputs"] or {"name": "Search"})
    assert example["source_run_id"] == RUN_ID
    assert [item["run_id"] for item in langsmith.queue_items] == [RUN_ID]
    (feedback,) = langsmith.feedback.values()
    assert (feedback["run_id"], feedback["key"], feedback["value"]) == (RUN_ID, "triage", "seen")
    assert {message.channel for message in slack.messages} == {"#llm-quality"}
    texts = [message.text for message in slack.messages]
    assert [f"|{run['name']}> finished" in text for text in texts].count(True) == 1
    assert len(texts) == len(expected) - 4
    (forwarded,) = sink.received
    assert forwarded.query["source"] == "langsmith"
    assert forwarded.body["run"] == RUN_ID
    assert (forwarded.body["tags"], type(forwarded.body["latency"])) == (run.get("tags") or [], float)
    assert [one for one in serve.said if one["message"].startswith(f"{run['name']} finished in")]
    assert await serve.terminate() == 0


async def test_with_nothing_set_at_all_it_starts_and_accepts(tmp_path: Path) -> None:
    """Only what needs nobody else is sent to it: a test must not knock at LangSmith's and Slack's real doors."""
    serve = Serve(CONFIG, tmp_path / "data")
    await serve.start()
    noise = payloads.rule([payloads.run(0, name="health check")])
    unknown = payloads.rule([payloads.run(1)], rule_id="33333333-3333-4333-8333-333333333333")
    for payload in (noise, unknown, payloads.prompt_commit(), payloads.issue(), {"text": "test notification"}):
        status, answer = await post(serve, payload)
        assert (status, answer["duplicate"]) == (202, False)
        assert (await post(serve, payload))[1] == {"event": answer["event"], "duplicate": True}
    rows = await until(lambda: all_done(serve, 4))
    assert {(row["route"], row["action"], row["state"]) for row in rows} == {
        ("unmatched", "log", "succeeded"),
        ("prompt", "log", "succeeded"),
        ("issue", "log", "succeeded"),
    }
    said = {one["message"] for one in serve.said}
    assert {"no route matched: unknown_rule", f"a new issue in LangSmith: {payloads.issue()['id']}"} <= said
    assert await serve.terminate() == 0
