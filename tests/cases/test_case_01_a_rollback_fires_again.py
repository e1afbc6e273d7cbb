"""A prompt's tag goes from A to B and back: the third webhook repeats the first one's bytes, and fires all the same."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.testing import WebhookSink

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from harness import Engine, until

INPUTS = Path(__file__).with_name("01")


@pytest.fixture
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as running:
        yield running


@pytest.fixture
async def engine(tmp_path: Path, sink: WebhookSink) -> AsyncIterator[Engine]:
    made = Engine(tmp_path, {})
    text = (INPUTS / "config.yaml").read_text().replace("http://127.0.0.1:29303", sink.origin)
    made.config.write_text(text)
    await made.start()
    yield made
    await made.stop()


async def send(engine: Engine, name: str) -> dict[str, object]:
    url = f"http://{engine.running.public}/webhooks/langsmith?secret=s3cret-value"
    async with engine.http.post(url, data=(INPUTS / name).read_bytes()) as answer:
        assert answer.status == 202, await answer.text()
        return await answer.json()


async def test_a_rollback_is_deployed(engine: Engine, sink: WebhookSink) -> None:
    answers = [await send(engine, name) for name in ("payload.json", "payload-b.json", "payload.json")]
    assert [answer["duplicate"] for answer in answers] == [False, False, False]
    assert len({answer["event"] for answer in answers}) == 3
    await until(lambda: len(sink.received) == 3)
    deployed = [(one.path, one.body["prompt"], one.body["commit"]) for one in sink.received]
    assert sorted(deployed) == [("/deploy", "triage", commit) for commit in ("aaaa1111", "aaaa1111", "bbbb2222")]


async def test_a_senders_retry_is_one_event_and_can_be_made_anyway(engine: Engine, sink: WebhookSink) -> None:
    first = await send(engine, "payload.json")
    again = [await send(engine, "payload.json") for _ in range(2)]
    assert again == [{"event": first["event"], "duplicate": True}] * 2
    await engine.settled(1)
    assert len(sink.received) == 1
    detail = await engine.running.store.event(first["event"])
    assert detail.row.copies == 2
    api = f"http://{engine.running.admin}/api/v1"
    async with engine.http.get(f"{api}/events/{first['event']}") as answer:
        assert (await answer.json())["copies"] == 2
    async with engine.http.post(f"{api}/replay", json={"events": [first["event"]]}) as answer:
        assert answer.status == 200, await answer.text()
    await until(lambda: len(sink.received) == 2)
    assert [one.body["commit"] for one in sink.received] == ["aaaa1111"] * 2
