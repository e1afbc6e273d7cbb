"""Runs a case's configuration and payload with a whole engine, against the stand-ins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from engine.store.queries import DeliveryDetail

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from harness import Engine

CASES = Path(__file__).parent


def configuration(case: str, **origins: str) -> str:
    """A case's configuration, with the services' origins in place of those that stand there."""
    text = (CASES / case / "config.yaml").read_text()
    ports = {"langsmith": 29301, "slack": 29302, "sink": 29303}
    for name, origin in origins.items():
        text = text.replace(f"http://127.0.0.1:{ports[name]}", origin)
    return text


async def deliver(folder: Path, text: str, payload: bytes, count: int) -> dict[str, DeliveryDetail]:
    """What becomes of an event: its deliveries by their actions' names, once all are settled."""
    engine = Engine(folder, {})
    engine.config.write_text(text)
    await engine.start()
    try:
        url = f"http://{engine.running.public}/webhooks/langsmith?secret=s3cret-value"
        async with engine.http.post(url, data=payload) as answer:
            assert answer.status == 202, await answer.text()
        rows = await engine.settled(count, seconds=60)
        details: list[Any] = [await engine.running.store.delivery(row.id) for row in rows]
        return {detail.row.action: detail for detail in details}
    finally:
        await engine.stop()
