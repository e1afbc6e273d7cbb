"""Each file in ``compile_mistakes`` reads as YAML and is wrong all the same; the report beside it is what people read.

Where ``config_mistakes`` ends at the file's structure, these go on to conditions, templates and actions.
"""

from pathlib import Path

import pytest

from engine.core.errors import ConfigError
from engine.rules.reload import Loader

FOLDER = Path(__file__).parent / "compile_mistakes"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_gets_the_report_beside_it(path: Path) -> None:
    """The whole text is compared: place, words, the line as written and as it should read."""
    with pytest.raises(ConfigError) as caught:
        Loader(path, {}).load()
    report = str(caught.value).replace(f"{FOLDER}/", "")
    assert report + "\n" == path.with_suffix(".expected").read_text()
    assert all(problem.line > 0 and problem.column > 0 for problem in caught.value.problems)


def test_no_report_stands_without_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.expected")} == {path.stem for path in FILES}
    assert len(FILES) > 8
