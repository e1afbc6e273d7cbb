"""``config.example.yaml``: loads with nothing set, shows everything once, and acts on LangSmith's example payload."""

import re
from pathlib import Path

import orjson
import pytest

from engine.action.registry import load_installed
from engine.config import ENGINE_KEYS, load_config
from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.rules.compile import compile_router
from engine.rules.conditions.operators import OPERATORS
from engine.testing.payloads import seed

PATH = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture(scope="module")
def config():
    return load_config(PATH, environ={})


@pytest.fixture(scope="module")
def router(config):
    return compile_router(config, load_installed())


def every_key(tree):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from every_key(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from every_key(item)


def words_of(config):
    return {word for route in config.routes for word in every_key([route.filters, *(a.when for a in route.actions)])}


def test_it_loads_without_any_environment_variable(config):
    assert config.secrets == ("change-me",)
    assert config.masked == frozenset()
    assert config.langsmith.endpoint == "https://api.smith.langchain.com"


def test_a_run_that_may_be_corrected_is_waited_for_and_no_other(router):
    payload = seed()
    awaited = []
    for tags in (None, ["for-review"]):
        payload["runs"][0]["tags"] = tags
        awaited.append(list(router.decide(parse_event(orjson.dumps(payload), 0.0), Fetched()).awaiting))
    assert awaited == [[], ["waits for feedback 'correctness' until 1970-01-01 00:10:00 UTC"]]


def test_every_operator_group_and_quantifier_is_shown(config):
    shown = words_of(config)
    assert set(OPERATORS) - shown == set()
    assert {"path", "expr", "any", "all", "none", "not", "quantifier", "at_least", "more_than", "absent"} <= shown


def test_every_action_and_engine_key_is_shown(config):
    actions = [action for route in config.routes for action in route.actions]
    assert {action.type for action in actions} == {
        "add_to_dataset", "annotate", "post_to_slack", "forward_webhook", "notify", "log",
    }  # fmt: skip
    text = PATH.read_text()
    assert all(re.search(rf"^ +{key}:", text, re.MULTILINE) for key in ENGINE_KEYS)


def test_every_route_key_is_shown(config):
    text = PATH.read_text()
    for key in (
        "name", "filters", "actions", "for_each", "stop", "sample", "enabled", "active", "wait_for", "on_dead",
    ):  # fmt: skip
        assert re.search(rf"^ +(- )?{key}:", text, re.MULTILINE), key
    keys = {route.key for route in config.routes}
    assert {"*", "unmatched", "alert", "prompt", "issue", "context_hub", "corrections"} <= keys
    assert any(len(ids) > 1 for ids in config.rules.values())
    assert len([route for route in config.routes if route.key == "corrections"]) > 1


def test_addresses_come_out_of_variables():
    """So that a demo can point everything at stand-ins."""
    environ = {
        "LANGSMITH_ENDPOINT": "http://127.0.0.1:1/api",
        "SLACK_ENDPOINT": "http://127.0.0.1:2/api",
        "FORWARD_URL": "http://127.0.0.1:3/hook",
        "LANGSMITH_WEBHOOK_SECRET": "s3cret",
        "CORRECTIONS_RULE_ID": "0B4F8E0E-93F5-4A6B-9D7A-54F1B8F0C009",
    }
    config = load_config(PATH, environ=environ)
    assert config.langsmith.endpoint == "http://127.0.0.1:1/api"
    assert config.slack.endpoint == "http://127.0.0.1:2/api/"
    assert config.secrets == ("s3cret",)
    assert config.rules["corrections"] == ("0b4f8e0e-93f5-4a6b-9d7a-54f1b8f0c009",)
    assert config.vars["forward_url"] == "http://127.0.0.1:3/hook"
    params = [action.params for route in config.routes for action in route.actions]
    urls = [each.get("url") for each in params if isinstance(each, dict)]
    assert "{{ vars.forward_url }}" in urls


def test_only_secrets_are_masked():
    """What is no secret stands below ``vars``, so that logs and pages can be read."""
    names = re.findall(r"\$\{([A-Z_]+)", "\n".join(re.sub("#.*", "", line) for line in PATH.read_text().splitlines()))
    config = load_config(PATH, environ={name: f"http://value-of-{name.lower()}" for name in names})
    assert config.masked == {
        f"http://value-of-{name}"
        for name in (
            "langsmith_webhook_secret", "langsmith_signing_secret", "langsmith_api_key", "slack_bot_token",
            "forward_token",
            "incident_signing_key", "slack_webhook_url", "notify_url",
        )
    }  # fmt: skip


def test_it_compiles(router, config):
    assert set(router.routes) == {route.id for route in config.routes if route.enabled}


def test_langsmiths_example_payload_fires_every_destination(router):
    routing = router.decide(parse_event(orjson.dumps(seed()), 1_700_000_000.0), Fetched())
    fired = {(plan.route.id, plan.action.name) for plan in routing.plans if plan.route.id.startswith("corrections/")}
    assert fired == {
        ("corrections/finished", name)
        for name in ("log", "annotate", "add_to_dataset", "post_to_slack", "forward_webhook")
    }
    assert routing.unmatched_reason is None


def test_every_parameter_renders_on_langsmiths_example_payload(router):
    event = parse_event(orjson.dumps(seed()), 1_700_000_000.0)
    for plan in router.decide(event, Fetched()).plans:
        rendered = plan.action.template.render(plan.document)
        assert plan.action.registered.params.model_validate(rendered)
