"""Each file in ``config_mistakes`` is one mistake people make; the report beside it is what they get to read."""

from pathlib import Path

import pytest

from engine.config import load_config
from engine.errors import ConfigError

FOLDER = Path(__file__).parent / "config_mistakes"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


def report_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    return str(caught.value).replace(str(FOLDER) + "/", "") + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_gets_the_report_beside_it(path):
    """The whole text is compared: place, words, the line as written and as it should read."""
    assert report_of(path) == path.with_suffix(".expected").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_problem_has_a_line_and_a_column(path):
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert caught.value.problems
    assert all(problem.line > 0 and problem.column > 0 and problem.message for problem in caught.value.problems)


def test_no_report_stands_without_its_file():
    assert {path.stem for path in FOLDER.glob("*.expected")} == {path.stem for path in FILES}
    assert len(FILES) > 50
