"""What changes with the destination and the credential of an action, and what does not."""

from __future__ import annotations

import pytest

from engine.action.plugin_files import PluginLoader
from engine.action.registry import load_installed
from engine.config import parse_config
from engine.rules.compile import compile_router

URL = "https://hooks.example.com"
SERVICES = "langsmith: {api_key: k1}\nslack: {token: xoxb-1}\nvars: {path: a}"
WEBHOOK = 'forward_webhook: {url: "https://x.example/{{ run.id }}", headers: {Authorization: "%s"}, body: "%s"}'


def target(action: str, services: str = SERVICES, registry=None, **environ: str) -> str:
    config = parse_config(
        f"secrets: none\n{services}\nroutes: {{alert: {{actions: [{{{action}}}]}}}}\n", environ=environ
    )
    (compiled,) = compile_router(config, registry or load_installed()).routes["alert"].actions
    return compiled.target


@pytest.mark.parametrize(
    ("action", "other"),
    [
        (f'forward_webhook: {{url: "{URL}/a"}}', f'forward_webhook: {{url: "{URL}/b"}}'),
        (f'forward_webhook: {{url: "{URL}/a"}}', f'forward_webhook: {{url: "{URL}/a", query: {{token: b}}}}'),
        (WEBHOOK % ("Bearer a", ""), WEBHOOK % ("Bearer b", "")),
        (
            f'forward_webhook: {{url: "{URL}/{{{{ run.id }}}}"}}',
            f'forward_webhook: {{url: "{URL}/x/{{{{ run.id }}}}"}}',
        ),
        ('post_to_slack: {channel: "#a", text: x}', 'post_to_slack: {channel: "#b", text: x}'),
        ('notify: {urls: "json://a.example/1", body: x}', 'notify: {urls: "json://a.example/2", body: x}'),
    ],
)
def test_it_changes_with_where_deliveries_go(action, other) -> None:
    assert target(action) != target(other)
    assert target(action) == target(action)


@pytest.mark.parametrize(
    ("action", "other"),
    [
        (WEBHOOK % ("Bearer a", "one"), WEBHOOK % ("Bearer a", "{{ run.name }}")),
        ('post_to_slack: {channel: "#a", text: x}', 'post_to_slack: {channel: "#a", text: "{{ run.name }}"}'),
        ('notify: {urls: "json://a.example/1", body: x}', 'notify: {urls: "json://a.example/1", body: y, title: z}'),
    ],
)
def test_it_does_not_change_with_what_is_sent(action, other) -> None:
    assert target(action) == target(other)


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        ("annotate: {feedback: {key: k, value: 1}}", "k2"),
        ('post_to_slack: {channel: "#a", text: x}', "xoxb-2"),
        (f'forward_webhook: {{url: "{URL}/{{{{ vars.path }}}}/{{{{ run.id }}}}"}}', "path: b"),
        (f'forward_webhook: {{url: "{URL}/{{{{ vars.path }}}}"}}', "path: b"),
    ],
)
def test_it_changes_with_its_service_and_with_the_variables_that_it_reads(action, changed) -> None:
    others = {"k2": "k1", "xoxb-2": "xoxb-1", "path: b": "path: a"}
    for new, old in others.items():
        assert (target(action) != target(action, SERVICES.replace(old, new))) is (new == changed)


def test_a_variable_of_the_environment_counts_by_its_value() -> None:
    action = WEBHOOK % ("Bearer ${TOKEN}", "")
    assert target(action, TOKEN="a") != target(action, TOKEN="b")
    assert target(action, TOKEN="a") == target(WEBHOOK % ("Bearer a", ""))


def test_the_order_of_parameters_does_not_count(tmp_path) -> None:
    code = (
        "import engine\n\n\nclass Page(engine.Action):\n    class Params(engine.Params):\n        a: str\n"
        "        b: str\n\n    async def run(self, params, context):\n        return {}\n"
    )
    (tmp_path / "page.py").write_text(code)
    registry = PluginLoader().load([tmp_path], load_installed())
    assert target("page: {a: x, b: y}", registry=registry) == target("page: {b: y, a: x}", registry=registry)
    assert target("page: {a: x, b: y}", registry=registry) != target("page: {a: y, b: x}", registry=registry)


def test_of_a_plug_in_all_parameters_count_and_its_file(tmp_path) -> None:
    code = (
        "import engine\n\n\nclass Page(engine.Action):\n    class Params(engine.Params):\n        text: str\n\n"
        "    async def run(self, params, context):\n        return {}\n"
    )
    (tmp_path / "page.py").write_text(code)
    loader = PluginLoader()
    before = loader.load([tmp_path], load_installed())
    one, other = target("page: {text: a}", registry=before), target("page: {text: b}", registry=before)
    (tmp_path / "page.py").write_text(code.replace("{}", "{'sent': True}"))
    after = loader.load([tmp_path], load_installed())
    assert len({one, other, target("page: {text: a}", registry=after)}) == 3
