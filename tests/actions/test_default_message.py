"""The message of ``post_to_slack`` and ``notify`` where none is written, over every kind of webhook."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.document import Fetched, digest_document
from engine.core.event import parse_event
from engine.rules.compile import compile_router
from engine.rules.router import Router
from engine.testing import payloads
from engine.testing.slack_limits import check_message

HEAD = "secrets: none\nslack: {token: t}\nroutes:\n"
BOTH = """  "*":
    name: everything
    actions:
      - post_to_slack: "#quality"
      - notify: "json://localhost"
"""
WHOLE = BOTH.replace("name: everything", "name: everything\n    for_each: event")
EVERY = {
    "alert": payloads.alert,
    "prompt": payloads.prompt_commit,
    "issue": payloads.issue,
    "context_hub": payloads.context_hub_commit,
    "threads": payloads.threads,
    "rule": payloads.complete,
    "unknown": lambda: {"text": "test notification"},
}


@cache
def compiled(config: str) -> Router:
    return compile_router(parse_config(HEAD + config, environ={}), load_installed())


def plans(payload: Mapping[str, Any], config: str = BOTH) -> list[Any]:
    return list(compiled(config).decide(parse_event(orjson.dumps(payload), 1.7e9), Fetched()).plans)


def messages(payload: Mapping[str, Any], config: str = BOTH, **words: Any) -> list[dict[str, Any]]:
    rendered = []
    for plan in plans(payload, config):
        params = plan.action.template.render({**plan.document, **words})
        plan.action.registered.params.model_validate(params)
        rendered.append(params)
    return rendered


def without_links(text: str) -> str:
    return re.sub(r"https://smith[^ |)>\n]*", "URL", text)


def one(payload: Mapping[str, Any], config: str = BOTH, **words: Any) -> tuple[str, str]:
    """What Slack and Apprise would be sent of the last run."""
    slack, notify = messages(payload, config, **words)[-2:]
    return without_links(slack["text"]), without_links(notify["body"])


def test_a_run_that_failed() -> None:
    slack, notify = one(payloads.complete())
    assert slack == "<URL|classify-issue> error · 12.5 s · 0.62 USD\nRateLimitError: 429 Too Many Requests"
    assert notify == "classify-issue error · 12.5 s · 0.62 USD\nRateLimitError: 429 Too Many Requests\nURL"
    assert messages(payloads.complete())[-1]["title"] == "everything: classify-issue error"


def test_a_run_with_a_score() -> None:
    payload = payloads.complete()
    payload["runs"] = payload["runs"][:1]
    assert one(payload)[0] == "<URL|classify-issue> success · 3.2 s · 0.0042 USD · user_score 0.0"


@pytest.mark.parametrize(
    ("kind", "slack"),
    [
        ("alert", "<URL|Latency over 5 s>: latency 7.25 (threshold 5.0) in classifier"),
        ("prompt", "prompt classify-issue: commit 5b3f1c9e2a7d"),
        ("issue", "<URL|Classifier calls bugs questions>: issue.created"),
        ("context_hub", "agent triage-agent: commit 9c1d4e7a2b5f"),
        ("threads", "1 thread went idle: thread-1"),
    ],
)
def test_webhooks_without_runs(kind: str, slack: str) -> None:
    text, body = one(EVERY[kind]())
    assert text == slack
    assert body == re.sub(r"<URL\|(.*?)>", r"\1 (URL)", slack)


def test_an_unknown_webhook_has_its_id() -> None:
    assert re.fullmatch(r"unknown webhook [0-9a-f-]{36}", one(EVERY["unknown"]())[0])


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ValueError('no')", "ValueError('no')"),
        ("two\nlines", "two lines"),
        (
            "ValueError('no')\n\nTraceback (most recent call last):\n  File 'x', in `f`\nValueError: no",
            "ValueError('no')",
        ),
        ("Traceback (most recent call last):\n" + "  File 'x', in `f`\n" * 600 + "ValueError: no\n", "ValueError: no"),
        (["a", 1], '["a",1]'),
    ],
)
def test_of_an_error_with_a_traceback_what_was_raised_is_shown(error: Any, shown: str) -> None:
    payload = payloads.complete()
    payload["runs"][-1]["error"] = error
    for text in one(payload):
        assert text.splitlines()[1] == shown
    assert all(text.splitlines()[3].endswith(f"USD: {shown}") for text in one(payload, WHOLE)[:1])


@pytest.mark.parametrize(("run", "shown"), [({"id": "6ab80f10"}, "run 6ab80f10"), ({}, "run"), ({"name": None}, "run")])
def test_a_run_that_lacks_everything(run: dict[str, Any], shown: str) -> None:
    payload = payloads.complete() | {"runs": [run], "feedback_stats": None}
    assert one(payload) == (shown, shown)
    assert one(payload, WHOLE)[0] == f"1 run:\n• {shown}"


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("alert", "everything: Latency over 5 s"),
        ("prompt", "everything: prompt classify-issue"),
        ("issue", "everything: Classifier calls bugs questions"),
        ("context_hub", "everything: context_hub webhook"),
        ("unknown", "everything: unknown webhook"),
    ],
)
def test_a_title_says_what_it_is_about(kind: str, title: str) -> None:
    assert messages(EVERY[kind]())[-1]["title"] == title


def test_all_runs_of_a_webhook() -> None:
    slack, notify = one(payloads.complete(), WHOLE)
    assert slack == (
        "3 runs:\n• <URL|classify-issue> success · 3.2 s · 0.0042 USD · user_score 0.0\n"
        "• <URL|classify-issue> success · 2.1 s · 0.0031 USD · user_score 1.0\n"
        "• <URL|classify-issue> error · 12.5 s · 0.62 USD: RateLimitError: 429 Too Many Requests"
    )
    assert notify.splitlines()[-2:] == [
        "• classify-issue error · 12.5 s · 0.62 USD: RateLimitError: 429 Too Many Requests",
        "URL",
    ]
    assert messages(payloads.complete(), WHOLE)[-1]["title"] == "everything: 3 runs"


@pytest.mark.parametrize("kind", EVERY)
def test_a_digest_lists_some_and_counts_the_rest(kind: str) -> None:
    config = '  "*":\n    name: d\n    actions:\n      - {post_to_slack: "#q", digest: {every: 5m}}\n'
    plan = plans(EVERY[kind](), config)[-1]
    document = digest_document([plan.document] * 11, [1.7e9]) | {"route": plan.document["route"]}
    lines = plan.action.template.render(document)["text"].split("\n")
    assert lines[0] == "11 matched d since 2023-11-14T22:13:20Z:"
    assert len(lines) == 10
    assert all(line.startswith("• ") for line in lines[1:9])
    assert lines[9] == "… and 3 more"
    if kind == "rule":
        assert without_links(lines[1]) == (
            "• <URL|classify-issue> error · 12.5 s · 0.62 USD: RateLimitError: 429 Too Many Requests"
        )
        assert check_message({"text": "\n".join(lines)}) is None


def test_throttled_ones_are_counted_and_the_dead_are_named() -> None:
    config = BOTH.replace('- post_to_slack: "#quality"', '- {post_to_slack: "#quality", throttle: {every: 5m}}')
    slack = messages(payloads.alert(), config, throttle={"suppressed": 3, "since": None})[0]["text"]
    assert slack.endswith("in classifier\n(and 3 more)")
    slack = messages(payloads.alert(), config, throttle={"suppressed": 0, "since": None})[0]["text"]
    assert slack.endswith("in classifier")
    (route,) = compiled(BOTH + '    on_dead: [{post_to_slack: "#dead"}]\n').routes.values()
    document = plans(payloads.alert())[0].document
    gone = {"action": "post_to_slack", "reason": "channel_not_found"}
    text = route.on_dead[0].template.render({**document, "delivery": gone, "throttle": {"suppressed": 0}})["text"]
    assert text.startswith("post_to_slack gave up: channel_not_found\n")


def test_what_comes_out_of_a_run_is_escaped() -> None:
    payload = payloads.complete()
    payload["runs"][-1] |= {"name": "<!channel> a\nb" + "x" * 300, "error": "<@U1> & more\nlines\n" + "y" * 900}
    slack, _ = one(payload)
    assert "<!channel>" not in slack
    assert "<@U1>" not in slack
    assert "&lt;@U1&gt; &amp; more lines" in slack
    assert len(slack) < 900
    assert slack.count("\n") == 1


ODD: list[Any] = [None, True, 0, 1.5, "", "text", [], [1], {}, {"a": None}]


@pytest.mark.parametrize("kind", EVERY)
def test_no_odd_value_keeps_a_message_from_being_made(kind: str) -> None:
    for config in (BOTH, WHOLE):
        for payload in _with_odd_values(EVERY[kind]()):
            for message in messages(payload, config):
                assert message.get("text", message.get("body"))


def _with_odd_values(payload: dict[str, Any]) -> Any:
    """The payload, each time with one kind of odd value in the places of everything that the message reads."""
    names = ("name", "status", "error", "total_cost", "end_time", "feedback_stats", "url", "title", "type", "event")
    for odd in ODD:
        changed = copy.deepcopy(payload)
        for place in _mappings(changed):
            place |= {name: odd for name in place if name in names or "alert" in name or "triggered" in name}
        yield changed
        for name in ("data", "threads", "commit_hash", "prompt_name"):
            if name in payload:
                yield copy.deepcopy(payload) | {name: odd}


def _mappings(tree: Any) -> Any:
    if isinstance(tree, dict):
        for value in list(tree.values()):
            yield from _mappings(value)
        yield tree
    elif isinstance(tree, list):
        for value in tree:
            yield from _mappings(value)


def test_a_message_of_ones_own_is_left_alone() -> None:
    config = BOTH.replace('"#quality"', '{channel: "#quality", blocks: [{type: divider}]}')
    slack, notify = messages(payloads.alert(), config.replace('"json://localhost"', "{urls: json://h, body: mine}"))
    assert "text" not in slack
    assert (notify["body"], notify.get("title")) == ("mine", None)
