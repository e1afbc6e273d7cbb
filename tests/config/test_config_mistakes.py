"""Each file in ``config_mistakes`` is one mistake people make; the report beside it is what they get to read."""

import re
from pathlib import Path

import pytest

from engine.config import load_config
from engine.config.yaml import compose as yamlcompose
from engine.core.errors import ConfigError, Problem

FOLDER = Path(__file__).parent / "config_mistakes"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.fixture(autouse=True, params=["libyaml", "pure"])
def parser(request, monkeypatch):
    """Both of PyYAML's parsers: libyaml's, where it reads a text, and the one in Python."""
    if request.param == "pure":
        monkeypatch.setattr(yamlcompose, "LIBYAML", None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_gets_the_report_beside_it(path):
    """The whole text is compared: place, words, the line as written and as it should read."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    report = str(caught.value).replace(f"{FOLDER}/", "")
    assert report + "\n" == path.with_suffix(".expected").read_text()
    assert all(problem.line > 0 and problem.column > 0 for problem in caught.value.problems)


def test_no_report_stands_without_its_file():
    assert {path.stem for path in FOLDER.glob("*.expected")} == {path.stem for path in FILES}
    assert len(FILES) > 50


SHOULD_READ = re.compile(r"the lines? should read:(?: (?P<inline>\S.*)|\n(?P<below>(?: {4}.*(?:\n|$))+))")


def problems_of(text: str) -> list[Problem]:
    try:
        parse = load_config(FOLDER / "tried.yaml", environ={}, text=text)
    except ConfigError as error:
        return list(error.problems)
    assert parse.routes is not None
    return []


def advised(text: str, problem: Problem) -> str | None:
    """The text with the lines that a problem's hint shows; None where it shows none."""
    shown = SHOULD_READ.search(problem.hint)
    if shown is None:
        return None
    lines = text.splitlines()
    written = lines[problem.line - 1]
    if shown["inline"]:
        new = [written[: len(written) - len(written.lstrip())] + shown["inline"]]
    else:
        new = [line[4:] for line in shown["below"].splitlines()]
    assert "…" not in new, "only whole advice can be followed"
    return "\n".join([*lines[: problem.line - 1], *new, *lines[problem.line - 1 + len(new) :]]) + "\n"


WITH_ADVICE = [path for path in FILES if "should read:" in path.with_suffix(".expected").read_text()]


@pytest.mark.parametrize("path", WITH_ADVICE, ids=lambda path: path.stem)
def test_a_line_written_as_advised_is_right(path):
    """Whoever follows the advice does not meet the same mistake, nor another one in its place."""
    text = path.read_text()
    before = problems_of(text)
    for problem in before:
        if (changed := advised(text, problem)) is None:
            continue
        after = problems_of(changed)
        on_line = [one for one in after if one.line == problem.line and one not in before]
        assert problem not in after, changed
        assert not on_line, f"{changed}\n{on_line[0]}"


def test_many_files_show_a_line_to_write():
    assert len(WITH_ADVICE) > 25
