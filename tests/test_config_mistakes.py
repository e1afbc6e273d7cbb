"""Each file in ``config_mistakes`` is one mistake people make; the report beside it is what they get to read."""

from pathlib import Path

import pytest

from engine.config import load_config, yamlfast
from engine.errors import ConfigError

FOLDER = Path(__file__).parent / "config_mistakes"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.fixture(autouse=True, params=["libyaml", "pure"])
def parser(request, monkeypatch):
    """Both of PyYAML's parsers: libyaml's, where it reads a text, and the one in Python."""
    if request.param == "pure":
        monkeypatch.setattr(yamlfast, "LIBYAML", None)


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
