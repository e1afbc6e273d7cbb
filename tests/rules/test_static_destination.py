"""Destinations that are known before there is an event."""

from __future__ import annotations

import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.rules.compile import compile_router

URL = "https://hooks.example.com"


@pytest.mark.parametrize(
    ("action", "destination"),
    [
        (f'forward_webhook: {{url: "{URL}/x?a=1"}}', URL),
        (f'forward_webhook: {{url: "{URL}/x", body: "{{{{ run.id }}}}", headers: {{X: "{{{{ run.id }}}}"}}}}', URL),
        ('forward_webhook: {url: "{{ vars.url }}"}', "https://of.vars"),
        ('forward_webhook: {url: "{{ vars.url }}/{{ run.id }}"}', None),
        ('forward_webhook: {url: "{{ run.url }}"}', None),
        ('post_to_slack: {channel: "#ops", text: "{{ run.id }}"}', "slack #ops"),
        ('post_to_slack: {channel: "{{ run.name }}", text: "x"}', None),
        ('annotate: {feedback: {key: k, value: "{{ run.name }}"}}', "langsmith"),
        ("log: {message: x}", "log"),
        ('notify: {urls: "mailto://a@b.example", body: "{{ run.name }}"}', "notify mailto"),
    ],
)
def test_a_destination_is_known_where_no_event_decides_it(action, destination) -> None:
    config = parse_config(
        "secrets: none\nlangsmith: {api_key: k}\nslack: {token: xoxb-1}\nvars: {url: https://of.vars/hook}\n"
        f"routes: {{alert: {{actions: [{{{action}}}]}}}}\n",
        environ={},
    )
    (compiled,) = compile_router(config, load_installed()).routes["alert"].actions
    assert compiled.destination == destination
