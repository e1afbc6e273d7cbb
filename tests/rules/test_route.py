"""Parameters as a delivery gets them, and why it doesn't: with the parameter, its line and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.action.failures import classify
from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.document import Fetched
from engine.core.errors import ParamsError
from engine.core.event import parse_event
from engine.rules.compile import compile_router
from engine.testing.payloads import seed

HEAD = "secrets: [x]\nlangsmith: {api_key: k}\nslack: {token: t}\nroutes:\n  '*':\n    actions:\n"


def rendered(action: str, **run: Any) -> Any:
    """What the parameters of the one action, which begins on line 7, come to on LangSmith's own example."""
    import orjson

    text = HEAD + "".join(f"      {line}\n" for line in action.strip("\n").splitlines())
    config = parse_config(text, file=str(Path("somewhere") / "config.yaml"), environ={})
    router = compile_router(config, load_installed())
    payload = seed()
    payload["runs"][0] |= run
    event = parse_event(orjson.dumps(payload), 1_700_000_000.0)
    [plan] = router.decide(event, Fetched()).plans
    return plan.action.params(plan.document)


def reason(action: str, **run: Any) -> str:
    """Why the delivery is dead, as the store keeps it."""
    with pytest.raises(ParamsError) as caught:
        rendered(action, **run)
    failure = classify(caught.value)
    assert not failure.retry
    return failure.reason


def test_a_missing_key_is_reported_with_parameter_line_and_hint() -> None:
    assert reason('- log:\n    message: "{{ run.extra.metadata.customer }}"', extra={"metadata": {"a": 1}}) == (
        "parameter message (config.yaml:8): run.extra.metadata has no 'customer' (it has 'a'); "
        "where it may be absent, write `| default(…)`, or `| default(omit)` to leave the parameter out"
    )


def test_a_block_of_text_is_reported_with_the_line_within_it() -> None:
    action = "- log:\n    message: |\n      first\n      {{ run.extra.nothing }}\n    fields: {a: 1}"
    assert reason(action, extra={"metadata": 1}).startswith(
        "parameter message (config.yaml:10): run.extra has no 'nothing'"
    )


def test_a_parameter_within_a_parameter_is_reported_by_its_path() -> None:
    action = '- post_to_slack:\n    channel: "#q"\n    blocks:\n      - {type: x, text: "{{ run.extra.nothing }}"}'
    assert reason(action, extra={}).startswith(
        "parameter blocks[0].text (config.yaml:10): run.extra has no 'nothing' (it is empty)"
    )


def test_a_value_of_the_wrong_type_is_reported_with_its_parameter() -> None:
    action = '- add_to_dataset:\n    dataset: d\n    inputs: "{{ run.name }}"'
    assert reason(action, name="x") == (
        "parameter inputs (config.yaml:9): must be a mapping, not a text; give it a name: inputs: {NAME: …}"
    )


def test_the_events_own_data_stays_out_of_the_reason() -> None:
    action = '- add_to_dataset:\n    dataset: d\n    inputs: "{{ run.name }}"'
    assert "customer" not in reason(action, name="a customer's words")


def test_an_actions_own_error_is_reported_with_its_parameter() -> None:
    action = '- forward_webhook:\n    url: "{{ run.name }}"'
    assert reason(action, name="x") == "parameter url (config.yaml:8): must be absolute, like https://example.com/hook"


def test_an_error_about_all_parameters_is_reported_at_the_action() -> None:
    action = '- post_to_slack:\n    channel: "#q"\n    text: "{{ run.name | default(omit) }}"'
    assert reason(action, name=None) == "post_to_slack (config.yaml:7): needs text or blocks"


def test_null_where_a_value_is_needed_says_what_to_write() -> None:
    assert reason('- log:\n    message: "{{ run.error }}"', error=None) == (
        "parameter message (config.yaml:8): must be a text, not null; "
        "if it may be null, write `| default(…)`, or `| default(omit)` to leave it out"
    )


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (0.5, "0.5"), (True, "true")])
def test_a_number_out_of_a_template_is_written_where_a_text_is_wanted(value: Any, text: str) -> None:
    assert rendered('- log: {message: "{{ run.extra.n }}"}', extra={"n": value}).message == text
    slack = rendered('- post_to_slack: {channel: "#q", text: "{{ run.extra.n }}"}', extra={"n": value})
    assert slack.text == text


def test_a_number_stays_one_where_it_may() -> None:
    action = '- annotate: {feedback: {key: k, score: "{{ run.extra.n }}", value: "{{ run.extra.n }}"}}'
    feedback = rendered(action, extra={"n": 0.5}).feedback
    assert (feedback.score, feedback.value) == (0.5, 0.5)
    assert rendered('- log: {message: m, fields: {n: "{{ run.extra.n }}"}}', extra={"n": 7}).fields == {"n": 7}
