"""The README's first steps, as a script: its own commands, from a copy of the tree, in plain shells of 80 columns.

Only what must differ on a machine that runs other tests is replaced: the ports, and the installation, in whose place
the environment that runs the tests stands.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.sandbox.demo import Stage

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STEPS = README.partition("## Your own rules, without an account")[2].partition("\n## ")[0]
VENV = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not (VENV / "bin" / "activate").exists() or shutil.which("sh") is None,
    reason="the first steps are for a POSIX shell and a virtual environment",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", STEPS, re.DOTALL)


class Terminal:
    """A shell without anything of ours in its environment, and what is to be read in it."""

    def __init__(self, folder: Path, script: str) -> None:
        plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "COLUMNS": "80"}
        self._process = subprocess.Popen(
            ["sh", "-e", "-c", script],
            cwd=folder,
            env=plain | {"LANG": "C.UTF-8", "ENGINE_LISTEN": "127.0.0.1:0", "ENGINE_ADMIN": "127.0.0.1:0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.text += line.decode()

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            assert self._process.poll() in (None, 0), f"it failed:\n{self.text}"
            assert time.monotonic() < deadline, f"no {pattern} in:\n{self.text}"
            time.sleep(0.02)
        return found

    def ends(self) -> int:
        code = self._process.wait(60)
        self._reader.join(5)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone has."""
    folder = tmp_path / "clone"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "engine-data", "config.yaml", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=left_out)
    return folder


@pytest.fixture
def terminal(clone: Path) -> Iterator[Callable[[str], Terminal]]:
    opened: list[Terminal] = []

    def open_(script: str) -> Terminal:
        opened.append(Terminal(clone, script))
        return opened[-1]

    yield open_
    for one in reversed(opened):
        one.close()


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the README has no longer one {old!r}"
    return text.replace(old, new)


def test_the_first_steps_end_with_ones_own_message(clone: Path, terminal, record_property, capsys) -> None:
    begun = time.monotonic()
    (config,) = blocks("yaml")
    first, second, third = blocks("sh")
    (clone / "config.yaml").write_text(replaced(config, "failed: {{ run.error }}", "MY OWN: {{ run.error }}"))
    (clone / ".venv").symlink_to(VENV)

    sandbox = terminal(
        replaced(replaced(first, "make install\n", ""), "engine sandbox", "exec engine sandbox --port 0")
    )
    printed = sandbox.until(r"^export INBOX_URL=.*\n")
    exports = "".join(re.findall(r"^export .*\n", printed.string, re.MULTILINE))
    (written,) = re.findall(r"(?:^export \S*_ENDPOINT.*\n)+^export INBOX.*\n", second, re.MULTILINE)
    serve = terminal(replaced(replaced(second, written, exports), "engine serve", "exec engine serve"))
    url = serve.until(r"webhook +(http://\S+:\d+)/")[1]
    assert "good · 1 route · 1 action" in serve.text
    acting = terminal(replaced(third, "http://127.0.0.1:8080", url))
    assert acting.ends() == 0, acting.text
    assert "attempt 1: delivered (202)" in acting.text
    assert re.search(r"^01\w+-\w+-\w+ +\w+ +rule ", acting.text, re.MULTILINE), acting.text

    sandbox.until(r"→ 200\n")
    shown = " ".join(sandbox.until(r"^  unfurl_media").string.split())
    assert "channel #llm-quality" in shown
    assert "|classify-issue> MY OWN: RateLimitError: 429 Too Many Requests" in shown
    seconds = time.monotonic() - begun
    record_property("seconds", round(seconds, 1))
    with capsys.disabled():
        print(f" [first steps: {seconds:.1f} s] ", end="")
    for line in [*sandbox.text.splitlines(), *acting.text.splitlines()]:
        assert len(line) <= 80 or max(map(len, line.split())) > 60, f"a line that could have been broken: {line}"


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
    assert blocks("sh")[0].startswith("make install\n")
