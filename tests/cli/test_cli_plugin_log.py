"""What a plug-in logs says which delivery it is about, however it is logged."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Command, Server

CONFIG = """
secrets: none
plugins: [plugins]
langsmith: {api_key: "${LANGSMITH_API_KEY}"}
defaults: {retry: {attempts: 1, within: 1m}}
routes:
  "*": {name: noisy, actions: [odd: {text: "{{ run.name }}"}]}
"""
PLUGIN = """
import asyncio
import logging
import os
import warnings

from pydantic import field_validator

import engine

from . import _helper

log = logging.getLogger(__name__)


class Odd(engine.Action):
    class Params(engine.Params):
        text: str

        @field_validator("text")
        @classmethod
        def _noisy(cls, text):
            log.info("a validator")
            return text

    async def run(self, params, context):
        key = os.environ["LANGSMITH_API_KEY"]
        context.logger.info("the context's", extra={"action": "mine", "key": key})
        log.info("the module's %s", key)
        log.debug("too fine")
        _helper.speak()
        logging.getLogger("a_library").warning("a library's %s", key)
        warnings.warn("a warning")
        await asyncio.to_thread(log.info, "a thread's")
        await asyncio.create_task(later())
        await context.log_line(logging.INFO, "a sure line", {"n": 1})
        raise ValueError(params.text)


async def later():
    log.info("a task's")
"""
SECRET = "lsv2_pt_0123456789abcdef"
SAID = ["a validator", "the context's", "the module's ***", "a helper's", "a library's ***", "a thread's", "a task's"]


@pytest.fixture
def noisy(engine: Command, serve: Callable[..., Server]) -> Callable[..., Server]:
    engine.write(CONFIG)
    engine.environ["LANGSMITH_API_KEY"] = SECRET
    (engine.folder / "plugins").mkdir()
    (engine.folder / "plugins" / "odd.py").write_text(PLUGIN)
    helper = 'import logging\n\n\ndef speak():\n    logging.getLogger(__name__).info("a helper\'s")\n'
    (engine.folder / "plugins" / "_helper.py").write_text(helper)

    def start(*flags: str) -> Server:
        server = serve(*flags)
        body = json.dumps({"rule_id": "r", "runs": [{"id": "1", "name": "a name"}]}).encode()
        with urllib.request.urlopen(f"{server.url.partition('/webhooks')[0]}/webhooks/langsmith", body) as answer:
            assert answer.status == 202
        server.until(lambda: any("delivery dead" in line for line in server.log))
        return server

    return start


@pytest.mark.slow
def test_json_lines_of_a_plug_in_have_the_fields_of_its_attempt(engine: Command, noisy: Callable[..., Server]) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in noisy("--log-format", "json").log]
    dead = next(line for line in lines if line["message"] == "delivery dead")
    names = ("delivery", "event", "route", "action", "action_type", "run", "attempt")
    assert (dead["delivery"], dead["action_type"], dead["attempt"]) == (
        engine.json("deliveries")["deliveries"][0]["id"],
        "odd",
        1,
    )
    # The validator also runs while the configuration is loaded: last comes the attempt.
    by_message = {line["message"]: line for line in lines}
    for message in [*SAID, "a sure line"]:
        assert {name: by_message[message][name] for name in names} == {name: dead[name] for name in names}, message
    assert (by_message["the context's"]["action_"], by_message["the context's"]["key"]) == ("mine", "***")
    assert by_message["the context's"]["logger"] == "engine.action.odd"
    assert by_message["the module's ***"]["logger"] == "plugins.odd"
    assert by_message["a helper's"]["logger"] == "plugins._helper"
    assert "too fine" not in by_message
    (warned,) = [line for line in lines if line.get("logger") == "py.warnings"]
    assert warned["delivery"] == dead["delivery"]
    assert not any("delivery" in line for line in lines if line["message"] in ("accepted", "routed"))
    assert SECRET not in str(lines)


@pytest.mark.slow
def test_text_lines_of_a_plug_in_say_it_in_short(engine: Command, noisy: Callable[..., Server]) -> None:
    log = noisy().log
    assert SECRET not in str(log)
    short = engine.json("deliveries")["deliveries"][0]["id"][:18]
    about = rf"  delivery={short}  event=[0-9a-f-]{{18}}  route=\*/noisy  action=odd  run=1  attempt=1\n"
    for message in ("plugins.odd: the module's ***", "plugins._helper: a helper's", "a sure line  n=1"):
        pattern = rf"\d\d:\d\d:\d\d INFO    {re.escape(message)}{about}"
        assert any(re.fullmatch(pattern, line) for line in log), (message, log)
