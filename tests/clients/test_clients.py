"""The clients of one event loop: those of the current settings, and earlier ones as long as they are used."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from engine.clients.langsmith import LangSmithSettings
from engine.clients.langsmith.sdk import Sdk
from engine.clients.network import Network
from engine.clients.session import Clients
from engine.clients.slack import SlackSettings


@pytest.fixture
def outside(langsmith) -> Any:
    return SimpleNamespace(
        langsmith=LangSmithSettings("key-0", langsmith.url), slack=SlackSettings(), network=Network()
    )


@pytest.fixture
async def clients(outside) -> AsyncIterator[Clients]:
    clients = Clients(lambda: outside)
    yield clients
    await clients.close()


@pytest.fixture
def closed(monkeypatch) -> list[Sdk]:
    """The SDKs that were closed."""
    seen: list[Sdk] = []
    close = Sdk.aclose

    async def noted(self: Sdk) -> None:
        seen.append(self)
        await close(self)

    monkeypatch.setattr(Sdk, "aclose", noted)
    return seen


async def test_clients_of_earlier_keys_are_closed_without_a_collection(clients, outside, langsmith, closed) -> None:
    """Each kept 1.7 MB for ever."""
    gc.disable()
    try:
        for number in range(5):
            outside.langsmith = LangSmithSettings(f"key-{number}", langsmith.url)
            assert await clients.langsmith.dataset_id("none of that name") is None
        await asyncio.sleep(0.05)
        assert len(closed) == 4
        assert [settings.api_key for settings in clients._langsmith] == ["key-4"]
    finally:
        gc.enable()


async def test_a_client_that_is_used_stays_open_and_is_found_again(clients, outside, langsmith, closed) -> None:
    used, settings = clients.langsmith, outside.langsmith
    await used.warm_up()
    outside.langsmith = LangSmithSettings("key-1", langsmith.url)
    other = clients.langsmith
    assert other is not used
    assert await used.list_feedback(["5d2b4a4e-8b1f-4b4e-9d3a-0f6a3f1c2b1a"]) == []
    await asyncio.sleep(0.05)
    assert closed == []
    outside.langsmith = settings
    assert clients.langsmith is used
    assert clients.langsmith is used
    await clients.close()
    assert len(closed) == 1, "the other one made no request"


async def test_a_client_is_closed_once(clients, closed) -> None:
    await clients.langsmith.warm_up()
    await clients.close()
    await asyncio.sleep(0.05)
    assert len(closed) == 1
