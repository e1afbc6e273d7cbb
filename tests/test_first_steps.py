"""The README's first steps in a copy of the tree. ``.ci/run`` takes them in a clone that it installs into.

Here the environment that runs the tests stands in place of the installation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import first_steps
import pytest
from first_steps import ROOT, STEPS, blocks

from engine.cli.demo.stage import Stage

VENV = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not (VENV / "bin" / "activate").exists() or shutil.which("sh") is None,
    reason="the first steps are for a POSIX shell and a virtual environment",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone has."""
    folder = tmp_path / "a clone"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "engine-data", "config.yaml", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=left_out)
    return folder


def test_the_first_steps_end_with_ones_own_message(clone: Path, record_property, monkeypatch) -> None:
    monkeypatch.setattr(first_steps, "PATIENCE", 60.0)
    (clone / ".venv").symlink_to(VENV)
    seconds, lines = first_steps.take(clone, install="")
    record_property("seconds", round(seconds, 1))
    for line in lines:
        assert len(line) <= 80 or max(map(len, line.split())) > 60, f"a line that could have been broken: {line}"


def test_a_step_that_does_not_work_is_shown(clone: Path) -> None:
    with pytest.raises(first_steps.Failed, match=r"(?s)it ended with 3:\nno network"):
        first_steps.take(clone, install="echo no network; exit 3\n")


def test_the_variables_in_the_readme_are_those_that_the_sandbox_prints() -> None:
    stage = Stage((9101, 9102, 9103))
    shown = dict(pair.split("=", 1) for line in re.findall("^export (.*)$", STEPS, re.M) for pair in line.split())
    shown.pop("LANGSMITH_WEBHOOK_SECRET")
    assert shown == stage.environ


def test_the_installation_step_installs_into_the_folder_that_is_activated(clone: Path) -> None:
    made = subprocess.run(
        ["make", "--dry-run", "install"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout
    assert "python3 -m venv .venv" in made
    assert "--editable ." in made
    assert ". .venv/bin/activate" in made
    assert blocks("sh")[0].startswith(first_steps.INSTALL)


def test_continuous_integration_takes_them_in_a_clone() -> None:
    """With its own installation, and shows the time."""
    assert "\npython3 tests/first_steps.py\n" in (ROOT / ".ci" / "run").read_text()


def test_what_can_be_made_is_shown_in_80_columns() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert all(len(line) <= 80 for line in shown)
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in shown if not line.startswith(" ")] == targets
    assert any("ONCE=1" in line for line in shown)
