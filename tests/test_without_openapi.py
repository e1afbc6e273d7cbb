"""What becomes of the tests that need LangSmith's OpenAPI document where it is absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A module as ``test_sandbox_openapi.py``.
NEEDING = """
import openapi
import pytest

openapi.DOCUMENT = openapi.DOCUMENT.with_name("none.json")
openapi.skip_module_if_absent()

@pytest.fixture(scope="module")
def api():
    return openapi.required()

@pytest.mark.parametrize("number", range(3))
def test_one(api, number): ...

def test_another(api): ...
"""


@pytest.mark.parametrize(
    ("ci", "code", "total", "lines"), [("", 0, "1 passed, 1 skipped", 1), ("true", 1, "1 passed, 4 errors", 4)]
)
def test_one_line_says_so_and_with_ci_they_fail(tmp_path: Path, ci: str, code: int, total: str, lines: int) -> None:
    (tmp_path / "test_needing.py").write_text(NEEDING)
    (tmp_path / "test_other.py").write_text("def test_other(): ...\n")
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    environ = {**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_ADDOPTS": "--color=no"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    summary = done.stdout.partition("short test summary info")[2]
    assert done.returncode == code, done.stdout
    assert total in summary
    assert summary.count("requests to the stand-in are not checked") == lines
    assert done.stdout.count("With CI=true it must be there") == (2 * lines if ci else 0)
