"""One attempt of an action in a test, without a server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

from engine.action.contract import Action, ActionContext
from engine.clients.langsmith import LangSmith, LangSmithSettings
from engine.clients.network import Network, parse_network
from engine.clients.session import open_session
from engine.clients.slack import SlackSettings
from engine.core.document import Fetched, build_document, run_indexes
from engine.core.event import parse_event
from engine.testing import payloads

#: Nothing listens on this port, so services that a test does not start cannot be reached.
_NOWHERE = "http://127.0.0.1:9"


async def attempt(
    action: Action,
    params: Mapping[str, Any],
    *,
    payload: Mapping[str, Any] | None = None,
    langsmith: str = _NOWHERE,
    slack: str = _NOWHERE,
    **fields: Any,
) -> Mapping[str, Any] | None:
    """Validate the parameters and run the action once, as the engine does. Return its result.

    Args:
        action: An instance of the action.
        params: The parameters, with templates rendered.
        payload: The webhook's body; its first run is ``context.run``. By default a sample of a rule's webhook.
        langsmith: The address of a stand-in for LangSmith (``LangSmithStandIn().url``).
        slack: The same for Slack.
        fields: Attributes of the context to change, such as ``attempt=2`` or ``progress={}``.

    Raises:
        pydantic.ValidationError: the parameters are not valid.
        TimeoutError: it took longer than ``timeout`` seconds, 10 unless given.
        Exception: whatever the action raises, such as ``Retry``.
    """
    checked = action.Params.model_validate(params, strict=True)
    client = LangSmith(LangSmithSettings(api_key="lsv2_sandbox", endpoint=langsmith))
    try:
        async with open_session(_loopback) as http:
            clients = {"http": http, "langsmith": client, "slack": SlackSettings("xoxb-sandbox", slack)}
            context = ActionContext(**(_facts(payload) | clients | fields))
            async with asyncio.timeout(context.timeout):
                return await action.run(checked, context)
    finally:
        await client.aclose()


def _facts(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes of a context for the first run of an event."""
    now = time.time()
    event = parse_event(orjson.dumps(payloads.rule() if payload is None else payload), now)
    document = build_document(event, run_indexes(event)[0], Fetched(), web_url=None, vars={})
    return {
        "delivery_id": uuid4().hex,
        "attempt": 1,
        "timeout": 10.0,
        "replayed": False,
        "event_id": event.id,
        "event_kind": str(event.kind),
        "rule_id": event.rule_id,
        "received_at": datetime.fromtimestamp(now, UTC),
        "route": "test",
        "action": "test",
        "document": document,
        "run": document["run"],
        "logger": logging.getLogger("engine.action.test"),
    }


def _loopback() -> Network:
    """The addresses of the stand-ins."""
    return parse_network(["127.0.0.0/8", "::1"])
