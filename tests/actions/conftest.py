"""An ActionContext as the worker would make it, and one attempt as the worker would run it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from action_samples import RUN

from engine import Action, ActionContext
from engine.clients.langsmith import LangSmith, LangSmithSettings
from engine.clients.network import parse_network
from engine.clients.session import open_session
from engine.clients.slack import SlackSettings, ThreadsInMemory
from engine.testing import LangSmithStandIn, SlackStandIn

Contexts = Callable[..., ActionContext]
Attempts = Callable[..., Awaitable[Mapping[str, Any] | None]]


def loopback_permitted():
    """The stand-ins live there."""
    return parse_network(["127.0.0.0/8", "::1"])


@dataclass
class Wiring:
    """What a context's clients point at."""

    langsmith: LangSmith
    slack: SlackSettings
    threads: ThreadsInMemory = field(default_factory=ThreadsInMemory)


@pytest.fixture(scope="module", autouse=True)
def _one_tls_context():
    """The SDK reads the system's certificates four times for every client; on loopback, once is enough."""
    context = ssl.create_default_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", lambda *_args, **_options: context)
        yield


@pytest.fixture
async def wiring(langsmith: LangSmithStandIn, slack: SlackStandIn) -> AsyncIterator[Wiring]:
    door = LangSmith(LangSmithSettings(api_key="lsv2_test", endpoint=langsmith.url))
    yield Wiring(door, SlackSettings(token="xoxb-test", endpoint=slack.url))
    await door.aclose()


@pytest.fixture
async def make_context(wiring: Wiring) -> AsyncIterator[Contexts]:
    """Builds contexts; any field may be given, ``run=None`` makes an event without runs."""
    async with open_session(loopback_permitted) as http:

        def make(**fields: Any) -> ActionContext:
            run = fields.pop("run", RUN)
            payload = {"rule_id": "d75d7417-0c57-4655-88fe-1db3cda3a47a", "runs": [] if run is None else [run]}
            values: dict[str, Any] = {
                "delivery_id": "0198d6a0-0000-7000-8000-00000000000d",
                "attempt": 1,
                "timeout": 30.0,
                "replayed": False,
                "event_id": "0198d6a0-0000-7000-8000-00000000000e",
                "event_kind": "rule",
                "rule_id": payload["rule_id"],
                "received_at": datetime(2026, 1, 2, tzinfo=UTC),
                "route": "corrections/good",
                "action": "the_action",
                "document": {**payload, "payload": payload, "run": run},
                "run": run,
                "http": http,
                "langsmith": wiring.langsmith,
                "slack": wiring.slack,
                "threads": wiring.threads,
                "logger": logging.getLogger("engine.action.test"),
            }
            return ActionContext(**(values | fields))

        yield make


@pytest.fixture
def attempt(make_context: Contexts) -> Attempts:
    """Validates parameters strictly and runs an action once under its timeout, like the worker."""

    async def run(action: Action, params: Mapping[str, Any], /, **fields: Any) -> Mapping[str, Any] | None:
        context = make_context(**fields)
        checked = action.Params.model_validate(params, strict=True)
        async with asyncio.timeout(context.timeout):
            return await action.run(checked, context)

    return run
