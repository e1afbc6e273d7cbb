"""Actions from files: found, verified, reloaded, and harmless when broken."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry

GOOD = """
from typing import Literal
import engine


class OpenTicket(engine.Action):
    \"\"\"Open a ticket for a bad run.\"\"\"

    class Params(engine.Params):
        title: str
        priority: Literal["low", "high"] = "low"

    async def run(self, params, context):
        return {"title": params.title}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, loader: PluginLoader | None = None, installed: Registry | None = None) -> Registry:
    return (loader or PluginLoader()).load([folder], installed or Registry({}))


def test_a_file_is_an_action_under_its_own_name(folder: Path) -> None:
    (folder / "open_ticket.py").write_text(GOOD)
    registered = load(folder).get("open_ticket")
    assert registered is not None
    assert registered.summary == "Open a ticket for a bad run."
    assert not registered.builtin
    assert set(registered.params.model_fields) == {"title", "priority"}


def test_an_edited_file_is_loaded_anew_and_an_unchanged_one_is_not(folder: Path) -> None:
    loader = PluginLoader()
    file = folder / "open_ticket.py"
    file.write_text(GOOD)
    first = load(folder, loader).get("open_ticket")
    assert load(folder, loader).get("open_ticket") is first
    file.write_text(GOOD.replace("a bad run", "an awful run"))
    second = load(folder, loader).get("open_ticket")
    assert second is not None
    assert second.summary == "Open a ticket for an awful run."


def test_a_helper_file_is_imported_relatively_and_is_no_action(folder: Path) -> None:
    (folder / "_words.py").write_text("TITLE = 'from the helper'\n")
    (folder / "open_ticket.py").write_text("from . import _words\n" + GOOD.replace("a bad run", "x"))
    registry = load(folder)
    assert set(registry.actions) == {"open_ticket"}
    assert not registry.broken


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("import engine\n\ndef broken(:\n", 3, "syntax error"),
        ("import engine\n\n\nraise RuntimeError('no database')\n", 4, "import raised RuntimeError: no database"),
        ("import sys\nsys.exit(3)\n", 2, "import raised SystemExit: 3"),
        ("import engine\n", 1, "a plug-in file contains one action, this one none"),
        (GOOD + GOOD.replace("OpenTicket", "Other"), 20, "this one OpenTicket, Other"),
        (GOOD.replace("async def", "def"), 13, "OpenTicket.run is not async"),
        (GOOD.replace("self, params, context", "self, params"), 13, "(self, params, context): def run(self, params)"),
        (GOOD.replace("params, context", "params, *, context"), 13, "OpenTicket.run takes other arguments"),
        (GOOD.replace("async def run", "async def go"), 6, "run"),
        (GOOD.replace("title: str", "title: Text"), 9, "OpenTicket.Params uses the type 'Text', which is not defined"),
        (GOOD.replace("(engine.Params)", ""), 6, "OpenTicket.Params is not a class of parameters"),
        (GOOD + '    needs = frozenset({"everything"})\n', 6, "OpenTicket.needs names ['everything']"),
        (GOOD + "    def __init__(self, key): ...\n", 6, "OpenTicket() raised TypeError"),
        (GOOD + "    def __init__(self):\n        self.x = {}['y']\n", 16, "OpenTicket() raised KeyError: 'y'"),
        (GOOD.replace("(engine.Params)", "(__import__('pydantic').BaseModel)"), 9, "would ignore unknown parameters"),
    ],
)
def test_a_broken_file_is_reported_with_its_line_and_hurts_no_other(
    folder: Path, text: str, line: int, words: str
) -> None:
    (folder / "broken.py").write_text(text)
    (folder / "open_ticket.py").write_text(GOOD)
    registry = load(folder)
    assert set(registry.actions) == {"open_ticket"}
    problem = registry.broken["broken"]
    assert words in problem.message
    assert (Path(problem.file).name, problem.line) == ("broken.py", line)


WRONG_CLASSES = [
    # what is wrong in the class, the message, and what the hint says to write instead
    ("needs = 7", "OpenTicket.needs is 7", 'needs = frozenset({"inputs"})'),
    ("needs = None", "OpenTicket.needs is None", 'needs = frozenset({"inputs"})'),
    ("needs = 'inputs'", "OpenTicket.needs is 'inputs'", 'needs = frozenset({"inputs"})'),
    ("needs = ['inputs']", "OpenTicket.needs is ['inputs']", 'needs = frozenset({"inputs"})'),
    ("needs = frozenset({7})", "OpenTicket.needs is frozenset({7})", 'needs = frozenset({"inputs"})'),
    ("needs = [['inputs']]", "OpenTicket.needs is [['inputs']]", 'needs = frozenset({"inputs"})'),
    ("main = 7", "OpenTicket.main is 7", 'main = "title"'),
    ("main = ['title']", "OpenTicket.main is ['title']", 'main = "title"'),
    ("main = 'name'", "OpenTicket.main is 'name'", 'main = "title"'),
    ("libraries = 'json'", "OpenTicket.libraries is 'json'", 'libraries = ("json",)'),
    ("libraries = 7", "OpenTicket.libraries is 7", 'libraries = ("json",)'),
    ("keeps_progress = 'no'", "OpenTicket.keeps_progress is 'no'", "keeps_progress = True"),
    ("Params = 7", "OpenTicket.Params is not a class of parameters", "class Params(engine.Params): …"),
    ("requires = {'slack'}", "OpenTicket.requires is not a method", "def requires(self, params): …"),
    ("lacks = ''", "OpenTicket.lacks is not a method", "def lacks(self): …"),
    ("lacks = property(lambda self: '')", "OpenTicket.lacks is not a method", "def lacks(self): …"),
    ("async def destination(self, params): ...", "OpenTicket.destination is async", "def destination(self, params): …"),
    ("def warnings(self): ...", "OpenTicket.warnings takes other arguments", "def warnings(self, params): …"),
    ("def defaults(self, params): ...", "takes other arguments", "def defaults(self, params, words): …"),
    ("def scope(params): ...", "OpenTicket.scope takes other arguments", "def scope(self, params): …"),
    ("def outline(self): ...", "takes other arguments", "def outline(self, params, payload): …"),
    ("run = 7", "OpenTicket.run is not a method", "async def run(self, params, context): …"),
    ("def run(self, params, context): ...", "run is not async", "async def run(self, params, context): …"),
    ("async def run(params, context): ...", "takes other arguments", "async def run(self, params, context): …"),
    ("def __init__(self, key): ...", "OpenTicket() raised TypeError", "def __init__(self): …"),
]


@pytest.mark.parametrize(("wrong", "message", "advice"), WRONG_CLASSES)
def test_the_advice_about_a_wrong_class_works(folder: Path, wrong: str, message: str, advice: str) -> None:
    file, loader = folder / "open_ticket.py", PluginLoader()
    file.write_text(f"{GOOD}\n    {wrong}\n")
    problem = load(folder, loader).broken["open_ticket"]
    assert message in problem.message
    assert advice in problem.hint
    file.write_text(f"{GOOD}\n    {advice.replace('…', '...')}\n")
    assert load(folder, loader).get("open_ticket") is not None


def test_a_class_that_raises_when_it_is_inspected_is_broken(folder: Path) -> None:
    descriptor = "type('Odd', (), {'__get__': lambda *_: 1 / 0})()"
    (folder / "open_ticket.py").write_text(f"{GOOD}\n    main = {descriptor}\n")
    problem = load(folder).broken["open_ticket"]
    assert "cannot be inspected: ZeroDivisionError" in problem.message
    assert "without a metaclass or descriptors of its own" in problem.hint
    (folder / "open_ticket.py").write_text(f"{GOOD}\n    main = 'title'\n")
    assert load(folder).get("open_ticket") is not None


def test_types_of_parameters_that_cannot_be_checked_are_reported_with_the_way_out(folder: Path) -> None:
    text = GOOD.replace("title: str", "title: 'Text'") + "\n\nText = {str: 7}\n"
    (folder / "open_ticket.py").write_text(text)
    problem = load(folder).broken["open_ticket"]
    assert "OpenTicket.Params cannot be used" in problem.message
    assert problem.hint == "change the types of its fields to types that pydantic knows, such as str"
    (folder / "open_ticket.py").write_text(text.replace("{str: 7}", "str"))
    assert load(folder).get("open_ticket") is not None


def test_a_run_with_more_parameters_that_are_optional_is_taken(folder: Path) -> None:
    (folder / "open_ticket.py").write_text(GOOD.replace("params, context", "params, context, retries=3, **more"))
    assert load(folder).get("open_ticket") is not None


def test_types_that_are_defined_below_are_found(folder: Path) -> None:
    text = GOOD.replace("title: str", "title: 'Text'") + "\n\nText = str\n"
    (folder / "open_ticket.py").write_text(text)
    assert load(folder).get("open_ticket") is not None


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        (
            "import no_such_module",
            "broken.py:1",
            "ModuleNotFoundError: No module named 'no_such_module'",
            sys.executable,
        ),
        (
            "\nimport no_such.part",
            "broken.py:2",
            "ModuleNotFoundError: No module named 'no_such'",
            "install the package",
        ),
        ("import _words", "broken.py:1", "No module named '_words'", "so write: from . import _words"),
        ("from _words import T", "broken.py:1", "No module named '_words'", "so write: from . import _words"),
        ("from . import _wrods", "broken.py:1", "cannot import name '_wrods'", "whose name begins with _"),
        ("from ._wrods import T", "broken.py:1", "No module named", "whose name begins with _"),
        ("from os import no_such_name", "broken.py:1", "cannot import name 'no_such_name' from 'os'", ""),
        ("from . import _syntax", "_syntax.py:2", "syntax error: ", ""),
        ("\n\nfrom . import _fails", "_fails.py:3", "import raised KeyError: 'x'", ""),
        ("exec(compile('(', 'elsewhere.py', 'exec'))", "broken.py:1", "import raised SyntaxError", ""),
        ("raise SyntaxError", "broken.py:1", "import raised SyntaxError", ""),
    ],
)
def test_what_fails_at_import_is_shown_where_it_is_with_what_to_do(
    folder: Path, text: str, place: str, message: str, hint: str
) -> None:
    (folder / "_words.py").write_text("T = 1\n")
    (folder / "_syntax.py").write_text("x = 1\ndef (:\n")
    (folder / "_fails.py").write_text("def go():\n    pass\n{}['x']\n")
    (folder / "broken.py").write_text(text + "\n")
    problem = load(folder).broken["broken"]
    assert f"{Path(problem.file).name}:{problem.line}" == place
    assert message in problem.message
    assert hint in problem.hint
    assert bool(problem.hint) == bool(hint)
    assert problem.source.strip() in (folder / place.partition(":")[0]).read_text()
    assert problem.source.strip()


def test_the_advice_about_a_helper_works(folder: Path) -> None:
    (folder / "_words.py").write_text("T = 1\n")
    (folder / "open_ticket.py").write_text("import _words\n" + GOOD)
    loader = PluginLoader()
    hint = load(folder, loader).broken["open_ticket"].hint
    (folder / "open_ticket.py").write_text(hint.partition("write: ")[2] + "\n" + GOOD)
    assert load(folder, loader).get("open_ticket") is not None


def test_a_package_that_is_installed_later_is_found_when_the_file_is_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    loader = PluginLoader()
    (folder / "open_ticket.py").write_text("import a_late_package\n" + GOOD)
    assert "save this file again" in load(folder, loader).broken["open_ticket"].hint
    (packages / "a_late_package.py").write_text("")
    (folder / "open_ticket.py").write_text("import a_late_package\n" + GOOD + "\n")
    assert load(folder, loader).get("open_ticket") is not None


def test_a_name_that_is_taken_is_a_clash_and_the_first_owner_keeps_it(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for place in (folder, other):
        (place / "open_ticket.py").write_text(GOOD)
    registry = PluginLoader().load([folder, other], Registry({}))
    assert registry.actions["open_ticket"].origin == str(folder / "open_ticket.py")
    (clash,) = registry.clashes
    assert "the name 'open_ticket' is taken by" in clash.message
    assert clash.file == str(other / "open_ticket.py")


def test_an_unknown_action_is_answered_with_the_nearest_name(folder: Path) -> None:
    (folder / "open_ticket.py").write_text(GOOD)
    assert load(folder).explain_missing("open_tiket") == ("unknown action 'open_tiket'", "did you mean 'open_ticket'?")


def modules_of(folder: Path) -> set[str]:
    """The generations of a folder that Python knows of."""
    return {
        name
        for name, module in list(sys.modules.items())
        if name.startswith("_langsmith_rules_engine_plugins_") and "." not in name and module.__path__ == [str(folder)]
    }


def test_of_many_edits_two_generations_are_kept(folder: Path) -> None:
    loader = PluginLoader()
    (folder / "_words.py").write_text("TITLE = 1\n")
    for edition in range(6):
        (folder / "open_ticket.py").write_text(f"from . import _words\n{GOOD}# {edition}\n")
        assert load(folder, loader).get("open_ticket") is not None
        loader.adopt()
        assert len(modules_of(folder)) == min(edition + 1, 2)
    kept = modules_of(folder)
    for name in kept:
        assert f"{name}.open_ticket" in sys.modules
        assert f"{name}._words" in sys.modules


def test_what_is_at_work_outlives_edits_that_are_never_adopted(folder: Path) -> None:
    loader = PluginLoader()
    (folder / "open_ticket.py").write_text(GOOD)
    (folder / "_late.py").write_text("TITLE = 'late'\n")
    in_use = load(folder, loader).get("open_ticket")
    assert in_use is not None
    loader.adopt()
    for edition in range(5):
        (folder / "open_ticket.py").write_text(f"raise RuntimeError({edition})\n")
        assert load(folder, loader).broken
    package = type(in_use.action).__module__.rpartition(".")[0]
    assert modules_of(folder) >= {package}
    assert len(modules_of(folder)) == 2
    assert importlib.import_module("._late", package).TITLE == "late"


def test_an_adopted_generation_that_did_not_change_stays(folder: Path) -> None:
    loader = PluginLoader()
    (folder / "open_ticket.py").write_text(GOOD)
    for _ in range(3):
        load(folder, loader)
        loader.adopt()
    assert len(modules_of(folder)) == 1


def test_a_folder_that_cannot_be_read_has_no_files(folder: Path) -> None:
    assert load(folder / "missing").actions == {}
