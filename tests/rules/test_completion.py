"""A text in place of an action's parameters, and parameters that an action adds itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.main import cli
from engine.core.errors import ConfigError
from engine.rules.lint.configuration import lint
from engine.rules.reload import Loaded, Loader

PLUGIN = """
import engine


class Mine(engine.Action):
    \"\"\"Do it.\"\"\"

    main = "title"

    class Params(engine.Params):
        title: str
        body: str | None = None

    def defaults(self, params, words):
        return {"body": "{{ event.kind }} of " + ",".join(sorted(words))}

    async def run(self, params, context):
        return {}
"""
HEAD = 'secrets: ["a secret that is long enough"]\nplugins: [./plugins]\nvars: {team: core}\n'


@pytest.fixture
def load(tmp_path: Path):
    def made(action: str, plugin: str = PLUGIN, environ: dict[str, str] | None = None, head: str = HEAD) -> Loaded:
        (tmp_path / "plugins").mkdir(exist_ok=True)
        (tmp_path / "plugins" / "mine.py").write_text(plugin)
        (tmp_path / "config.yaml").write_text(f"{head}routes:\n  alert:\n    actions:\n      - {action}\n")
        return Loader(tmp_path / "config.yaml", environ or {}).load()

    return made


def rendered(loaded: Loaded) -> dict:
    (route,) = loaded.router.routes.values()
    document = {"event": {"kind": "alert"}, "vars": {"team": "core"}, "payload": {}, "run": None}
    return route.actions[0].template.render(document)


def problems(load, action: str, **how) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(action, **how)
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("action", "title"),
    [
        ("mine: hello", "hello"),
        ('mine: "{{ vars.team }} team"', "core team"),
        ('mine: "${NAME}"', "from outside"),
        ("mine: {title: hello}", "hello"),
    ],
)
def test_a_text_is_the_main_parameter(load, action: str, title: str) -> None:
    found = rendered(load(action, environ={"NAME": "from outside"}))
    assert found["title"] == title
    assert found["body"] == "alert of "


def test_what_is_written_wins_over_what_the_action_adds(load) -> None:
    assert rendered(load("mine: {title: t, body: own}"))["body"] == "own"


def test_the_keys_in_use_are_known(load) -> None:
    assert rendered(load("{mine: t, digest: {every: 5m}}"))["body"] == "alert of digest,items"
    assert rendered(load("{mine: t, throttle: {every: 5m}}"))["body"] == "alert of throttle"


def test_a_mistake_in_the_text_has_its_place(load) -> None:
    (problem,) = problems(load, 'mine: "{{ vars.taem }}"')
    assert "config.yaml:7:24: " in problem
    assert "team" in problem


def test_without_a_main_parameter_a_text_is_a_mistake(load) -> None:
    (problem,) = problems(load, "mine: hello", plugin=PLUGIN.replace('main = "title"', ""))
    assert "the parameters of 'mine' must be a mapping (key: value), not the text 'hello'" in problem
    assert "see 'engine actions mine'" in problem


def test_a_list_fits_or_is_a_mistake_of_the_parameter(load) -> None:
    (problem,) = problems(load, "mine: [a]")
    assert "'title' must be a text, not a list" in problem


def test_a_comment_in_place_of_the_value_is_one_mistake_and_the_advice_works(load) -> None:
    (problem,) = problems(load, "mine: #quality")
    assert "'mine' has no value" in problem
    advice = problem.partition("should read: - ")[2].splitlines()[0]
    assert rendered(load(advice))["title"] == "#quality"


def test_plug_ins_that_go_wrong_are_reported(load) -> None:
    (problem,) = problems(load, "mine: hello", plugin=PLUGIN.replace('main = "title"', 'main = "titel"'))
    assert "Mine.main is 'titel', which Params does not have" in problem
    (problem,) = problems(load, "mine: hello", plugin=PLUGIN.replace('"{{ event.kind }} of "', "1 / 0"))
    assert "mine.defaults raised ZeroDivisionError" in problem


def test_a_short_action_is_checked_for_what_is_hardly_meant(load) -> None:
    head = HEAD + "langsmith: {api_key: k}\nslack: {token: t}\n"
    assert lint(load("{annotate: feedback, digest: {every: 5m}}", head=head)) == []
    assert lint(load('{post_to_slack: "#q", digest: {every: 5m}}', head=head)) == []
    (doubt,) = lint(load('log: "{{ run.naem }}"', head=head))
    assert "run" in doubt.message


def test_the_short_form_is_documented_where_it_works() -> None:
    from click.testing import CliRunner

    shown = CliRunner().invoke(cli, ["actions", "post_to_slack"]).output
    assert 'or, for short:\n- post_to_slack: "#llm-quality"\n' in shown
    assert "for short" not in CliRunner().invoke(cli, ["actions", "add_to_dataset"]).output
