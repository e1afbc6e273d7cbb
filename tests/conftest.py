"""Stand-ins that every test may ask for; each is checked when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.sandbox import LangSmithStandIn, SlackStandIn, WebhookSink


@pytest.fixture
async def langsmith() -> AsyncIterator[LangSmithStandIn]:
    async with LangSmithStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def slack() -> AsyncIterator[SlackStandIn]:
    async with SlackStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as stand_in:
        yield stand_in
