"""Stand-ins that every test may ask for. When the test ends, all they were asked and answered is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openapi
import pytest
from hypothesis import settings
from logs import logging_restored

from engine.testing import LangSmithStandIn, SlackStandIn, WebhookSink

# How long an example takes depends on what else the machine does.
settings.register_profile("engine", deadline=None)
settings.load_profile("engine")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a test sets up for logging ends with it."""
    with logging_restored():
        yield


@pytest.fixture(scope="session")
def langsmith_api() -> openapi.OpenApi | None:
    """LangSmith's OpenAPI document, or None when it is not at hand."""
    return openapi.load()


@pytest.fixture
async def langsmith(langsmith_api: openapi.OpenApi | None) -> AsyncIterator[LangSmithStandIn]:
    async with LangSmithStandIn() as stand_in:
        yield stand_in
    assert stand_in.crashes == []
    if langsmith_api is not None:
        assert langsmith_api.problems(stand_in.requests) == []


@pytest.fixture
async def slack() -> AsyncIterator[SlackStandIn]:
    async with SlackStandIn() as stand_in:
        yield stand_in
    assert stand_in.crashes == []


@pytest.fixture
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as stand_in:
        yield stand_in
    assert stand_in.crashes == []
