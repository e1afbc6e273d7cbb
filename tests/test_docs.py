"""The documents tell the truth: what they show is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from engine import Action, ActionContext, Params
from engine.cli.main import COMMANDS, cli
from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ENVIRON = {
    "LANGSMITH_WEBHOOK_SECRET": "s3cret",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "LS_WEBHOOK": "s",
    "LANGSMITH_API_KEY": "k",
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readme_configuration_loads_and_is_short(tmp_path: Path) -> None:
    text, _ = blocks(README, "yaml")
    (tmp_path / "config.yaml").write_text(text)
    loaded = Loader(tmp_path / "config.yaml", ENVIRON).load()
    assert len(loaded.router.routes) == 1
    assert len(text.splitlines()) <= 10


def test_the_conditions_within_the_readme_load_without_a_warning(tmp_path: Path) -> None:
    shown = re.findall(r"`(\{(?:path|expr): .*?\})`", README.replace("\n  ", " "))
    assert shown
    rules = "\n".join(f"      - {condition}" for condition in shown)
    (tmp_path / "config.yaml").write_text(
        f"secrets: none\nroutes:\n  '*':\n    filters:\n{rules}\n    actions: [{{log: {{message: hi}}}}]\n"
    )
    assert lint(Loader(tmp_path / "config.yaml", {}).load()) == []


def test_what_the_readme_says_of_json_holds_for_each_command_of_its_table() -> None:
    table = README.partition("\n## Commands\n")[2].partition("\n\nIf an engine")[0]
    named = sorted(set(re.findall(r"`engine ([a-z]+)", table)))
    assert len(named) > 12
    for name in named:
        command = cli.get_command(click.Context(cli), name)
        leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        assert all(any("--json" in option.opts for option in leaf.params) for leaf in leaves), name


def test_the_page_about_time_loads_and_shows_all_of_it(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rules-over-time.md").read_text()
    (text,) = blocks(page, "yaml")
    (tmp_path / "config.yaml").write_text(text)
    environ = ENVIRON | {"LANGSMITH_WEBHOOK_SECRET": "long enough to be no remark"}
    assert lint(Loader(tmp_path / "config.yaml", environ).load()) == []
    for word in ("throttle", "digest", "active", "wait_for", "on_dead"):
        assert f"{word}:" in text
        assert f"`{word}`" in page
    for command in re.findall(r"^engine ([a-z]+)", page, re.MULTILINE):
        assert command in COMMANDS


def test_the_readme_plug_in_is_an_action(tmp_path: Path) -> None:
    (text,) = blocks(README, "python")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "open_ticket.py").write_text(text)
    _, used = blocks(README, "yaml")
    assert "`plugins: [plugins]`" in README
    (tmp_path / "config.yaml").write_text(f'secrets: none\nplugins: [plugins]\nroutes:\n  "*":\n{used}')
    loaded = Loader(tmp_path / "config.yaml", {}).load()
    assert loaded.registry.get("open_ticket").summary == "Open a ticket for a bad run."


def test_the_readme_error_is_what_the_engine_says(tmp_path: Path) -> None:
    (shown,) = [block for block in blocks(README, "text") if "unknown key" in block]
    config = tmp_path / "config.yaml"
    wrong = '      - {path: "$.runs[*].name", regex: "^chat"}'
    config.write_text(
        f"secrets: none\n\n\n\nroutes:\n  alert:\n    filters:\n{wrong}\n    actions: [{{log: {{message: x}}}}]\n"
    )
    command = [sys.executable, "-m", "engine", "check", "config.yaml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert shown.strip() in ran.stdout + ran.stderr


def test_every_command_in_the_readme_exists_and_every_command_is_in_the_readme() -> None:
    named = set(re.findall(r"`engine ([a-z]+)", README)) | set(re.findall(r"^engine ([a-z]+)", README, re.MULTILINE))
    assert named <= set(COMMANDS)
    assert set(COMMANDS) - {"demo"} <= named
    assert "make demo" in README


@pytest.mark.parametrize(
    "page", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_flag_of_serve_has_a_variable() -> None:
    serve = cli.get_command(None, "serve")
    for parameter in serve.params:
        if parameter.name not in ("help", "json"):
            assert parameter.envvar is not None, parameter.name


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def test_decisions_are_numbered_without_gaps_and_each_has_a_status() -> None:
    assert [int(file.name[:4]) for file in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for file in DECISIONS:
        text = file.read_text()
        assert text.startswith(f"# {int(file.name[:4])}. "), file.name
        assert re.search(r"\*\*Status:?\*\*:?", text), file.name


def test_the_index_of_decisions_lists_each_one_by_its_title() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", index, re.MULTILINE)
    titles = [file.read_text().partition("\n")[0].partition(". ")[2] for file in DECISIONS]
    assert rows == [(file.name[:4], file.name, title) for file, title in zip(DECISIONS, titles, strict=True)]


def test_every_decision_that_is_named_exists() -> None:
    folders = ("engine", "actions", "bench", "chaos", "docs", "tests")
    files = [file for folder in folders for suffix in ("py", "md") for file in (ROOT / folder).rglob(f"*.{suffix}")]
    known = {file.name[:4]: file.name for file in DECISIONS}
    named = 0
    for file in (*files, *ROOT.glob("*.md")):
        for number, page in re.findall(r"(?:decisions/|\bdecision )(\d{4})\b(-[a-z0-9-]+\.md)?", file.read_text()):
            named += 1
            assert number in known, f"{file}: {number}"
            assert not page or number + page == known[number], f"{file}: {number}{page}"
    assert named > 8


def test_every_action_module_and_every_status_of_the_table_is_documented() -> None:
    delivery = (ROOT / "docs" / "delivery.md").read_text()
    for status in ("2xx", "3xx", "401", "403", "408", "425", "429", "5xx", "404", "409"):
        assert status in delivery
    for file in (ROOT / "actions").glob("[a-z]*.py"):
        assert f"`{file.stem}`" in (ROOT / "CHANGELOG.md").read_text()


def test_the_plan_shows_every_package_and_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## The packages")[2].partition("\n## ")[0]
    shown = re.findall(r"^([a-z.]+) {3,}", page, re.MULTILINE)
    engine = ROOT / "engine"
    there = {each.parent.name for each in engine.glob("*/__init__.py")} | {
        each.name for each in engine.glob("*.py") if not each.name.startswith("__")
    }
    assert set(shown) == there
    assert len(shown) == len(there)
    for name in re.findall(r"`([a-z_/*]+/[a-z_*]*(?:\.py)?)`", page):
        assert list(ROOT.glob(name)) or list(engine.glob(name)), f"there is no {name}"


def test_the_plan_and_the_linter_have_the_same_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## The packages")[2].partition("\n## ")[0]
    layers = re.search(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[1]
    checked = re.findall(r"[a-z]+", layers)
    assert [name.removesuffix(".py") for name in re.findall(r"^([a-z.]+) {3,}", page, re.MULTILINE)] == checked


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| \S", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == [(file.name[:4], file.name) for file in sorted(folder.glob("0*.md"))]


async def test_the_example_of_a_test_works() -> None:
    (code,) = blocks((ROOT / "CONTRIBUTING.md").read_text(), "python")

    class MyAction(Action):
        """Say hello."""

        class Params(Params):
            channel: str

        async def run(self, params: Params, context: ActionContext) -> None:
            text = {"channel": params.channel, "text": "hello"}
            headers = {"Authorization": f"Bearer {context.slack.token}"}
            async with context.http.post(f"{context.slack.endpoint}chat.postMessage", json=text, headers=headers):
                pass

    scope: dict[str, Any] = {"MyAction": MyAction}
    exec(code, scope)
    await scope["test_it_posts"]()


def test_the_commands_for_contributors_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", page)) <= set(targets)
    for path in re.findall(r"`((?:docs|tests|engine|bench)/[a-z_/0-9.]*)`", page):
        assert (ROOT / path).exists(), path
