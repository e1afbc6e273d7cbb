"""A real process that may have few files open, and somebody who opens many connections and says nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from processes import COMMAND, Serve

import chaos.serving

pytest.importorskip("resource")

FILES = 200
CONFIG = """
secrets: [s3cret-value]
routes:
  alert: {actions: [{forward_webhook: {url: "${SINK}"}}]}
"""


@pytest.fixture
async def serve(tmp_path: Path, sink, monkeypatch: pytest.MonkeyPatch):
    narrow = tmp_path / "narrow"
    narrow.write_text(f'#!/bin/sh\nulimit -n {FILES}\nexec {COMMAND} "$@"\n')
    narrow.chmod(0o755)
    monkeypatch.setattr(chaos.serving, "COMMAND", narrow)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    made = Serve(config, tmp_path / "data", {"SINK": sink.url})
    await made.start()
    yield made
    await made.terminate()


async def metric(http: aiohttp.ClientSession, serve: Serve, name: str) -> float:
    async with http.get(f"http://{serve.admin}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_webhooks_and_probes_are_answered_beside_hundreds_of_idle_connections(serve, sink) -> None:
    host, _, port = serve.address.rpartition(":")
    half = b"POST /webhooks/langsmith?secret=s3cret-value HTTP/1.1\r\nHost: x\r\nContent-Le"
    writers = []
    async with aiohttp.ClientSession() as http:
        for number in range(3 * FILES):
            writers.append((await asyncio.open_connection(host, int(port)))[1])
            if number % 2:
                writers[-1].write(half)
            if number % 50 == 0:
                body = json.dumps({"alert_rule_id": "a", "n": number})
                async with http.post(serve.url("s3cret-value"), data=body) as response:
                    assert response.status == 202
                async with http.get(f"http://{serve.address}/readyz") as response:
                    assert await response.text() == "ready\n"
        async with asyncio.timeout(10):
            while len(sink.received) < 3 * FILES // 50:
                await asyncio.sleep(0.05)
        assert 0 < await metric(http, serve, "engine_connections ") <= FILES // 4
        assert await metric(http, serve, "engine_connections_closed_total{") > 2 * FILES
    for writer in writers:
        writer.close()
    told = [line for line in serve.said if line["message"].startswith("too many connections")]
    assert len(told) == 1
    assert not [line for line in serve.said if line.get("level") == "error"]
