"""The plug-in API is documented, attribute by attribute, and typed; docs/plugins.md says what the code says."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import engine
from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
ATTRIBUTES = {
    engine.ActionContext: {field.name for field in dataclasses.fields(engine.ActionContext)} | {"payload", "payloads"},
    engine.Action: {"Params", "main", "needs", "libraries", "keeps_progress"},
    engine.Scope: {"url", "credential", "service"},
    engine.Retry: {"after"},
    engine.LangSmithFailure: {"status", "headers"},
}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> set[str]:
    """What the first column of a table names."""
    return {name.removesuffix("()") for name in re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE)}


def members(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def documented(kind: type) -> dict[str, str]:
    """Names and texts under Attributes."""
    text = inspect.getdoc(kind).partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def beside(kind: type) -> dict[str, str]:
    """Names and texts of the docstrings below attributes, which editors show."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        one.target.id: " ".join(two.value.value.split())
        for one, two in pairs
        if isinstance(one, ast.AnnAssign) and isinstance(two, ast.Expr) and isinstance(two.value, ast.Constant)
    }


@pytest.mark.parametrize("kind", ATTRIBUTES, ids=lambda kind: kind.__name__)
def test_each_attribute_is_documented_for_help_and_for_editors_alike(kind: type) -> None:
    assert documented(kind).keys() == ATTRIBUTES[kind]
    shown = beside(kind)
    properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
    assert shown.keys() == ATTRIBUTES[kind] - properties
    for name, text in shown.items():
        assert documented(kind)[name] in (text, "The same."), name


@pytest.mark.parametrize("name", engine.__all__)
def test_whatever_is_exported_has_a_docstring_and_so_have_its_methods(name: str) -> None:
    exported = getattr(engine, name)
    if name == "Service":
        return
    assert len(inspect.getdoc(exported)) > 20
    if inspect.isclass(exported) and exported.__module__.startswith("engine."):
        for method, function in inspect.getmembers(exported, inspect.isfunction):
            ours = function.__module__.startswith("engine.") and not method.startswith("_")
            assert not ours or inspect.getdoc(function), method


def test_the_page_s_table_of_the_context_has_every_attribute_and_no_other() -> None:
    public = members(engine.ActionContext) | ATTRIBUTES[engine.ActionContext]
    assert rows("The context") == public


def test_the_page_s_table_of_the_action_has_every_attribute_and_no_other() -> None:
    assert rows("The action") == members(engine.Action)


def test_the_page_names_all_that_is_exported() -> None:
    for name in engine.__all__:
        assert re.search(rf"\bengine\.{name}\b", PAGE) or name in ("Service", "Scope", "webhook_key"), name


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The plug-in and the tests of the page, as files."""
    plugin, test = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if block.startswith("# "))
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "judge.py").write_text(plugin)
    (tmp_path / "test_judge.py").write_text(test)
    return tmp_path


def test_the_page_s_plug_in_is_an_action(page: Path) -> None:
    registry = PluginLoader().load([page / "plugins"], Registry({}))
    assert not registry.broken
    assert set(registry.actions) == {"judge"}


@pytest.mark.slow
def test_the_page_s_tests_pass(page: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_judge.py"]
    ran = subprocess.run(command, cwd=page, capture_output=True, text=True, check=False, timeout=100)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.slow
def test_plug_ins_are_typed(page: Path) -> None:
    """Outside of this tree, by the installed package's ``py.typed``, and without any plug-in of mypy."""
    (page / "typed_plugin.py").write_text((ROOT / "tests" / "action" / "typed_plugin.py").read_text())
    readme = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (page / "open_ticket.py").write_text(readme[0])
    wrong = "import engine\n\n\nengine.Retry('x', after='soon')\nengine.ActionContext.nothing\n"
    (page / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--cache-dir", "cache", "."]
    ran = subprocess.run(command, cwd=page, capture_output=True, text=True, check=False, timeout=110)
    lines = ran.stdout.splitlines()
    assert [line.partition(": error")[0] for line in lines[:-1]] == ["wrong.py:4", "wrong.py:5"], (
        ran.stdout + ran.stderr
    )
