"""The fixture around a whole engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import Engine


@pytest.fixture
async def engine(tmp_path: Path, langsmith, slack, sink) -> AsyncIterator[Engine]:
    """An engine whose configuration may name the stand-ins: ${LANGSMITH_ENDPOINT}, ${SLACK_ENDPOINT}, ${SINK}."""
    environ = {
        "LANGSMITH_ENDPOINT": langsmith.url,
        "LANGSMITH_API_KEY": "lsv2_test_key",
        "SLACK_ENDPOINT": slack.url,
        "SLACK_BOT_TOKEN": "xoxb-test-token",
        "SINK": sink.url,
    }
    made = Engine(tmp_path, environ)
    yield made
    await made.stop()
