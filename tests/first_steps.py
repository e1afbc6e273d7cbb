"""The README's first steps, as a script: its own commands, in plain shells of 80 columns.

``python3 tests/first_steps.py`` makes a fresh clone of this checkout, installs into it as the README says, takes the
steps, and prints how long they took. It needs nothing but Python, git and make. Only the ports are not the README's:
others may have them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STEPS = README.partition("## Your own rules, without an account")[2].partition("\n## ")[0]
INSTALL = "make install\n"
#: How long any one thing in a terminal may take, in seconds; installing takes longest.
PATIENCE = 300.0


class Failed(Exception):  # noqa: N818 - said of a step
    """A step does not do what the README says."""


def blocks(language: str) -> list[str]:
    """The code of one language in the steps."""
    return re.findall(rf"```{language}\n(.*?)```", STEPS, re.DOTALL)


def exchanged(text: str, old: str, new: str) -> str:
    """The text with another piece in place of one that it has once."""
    if text.count(old) != 1:
        raise Failed(f"the README has no longer one {old!r}")
    return text.replace(old, new)


def plain(home: Path) -> dict[str, str]:
    """The environment of a new terminal, with nothing of ours but free ports and the way to the package index."""
    path = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    index = {name: value for name, value in os.environ.items() if re.match(r"PIP_|SSL_CERT|https?_proxy", name)}
    ports = {"ENGINE_LISTEN": "127.0.0.1:0", "ENGINE_ADMIN": "127.0.0.1:0"}
    return index | ports | {"PATH": path, "HOME": str(home), "TERM": "dumb", "COLUMNS": "80", "LANG": "C.UTF-8"}


class Terminal:
    """A shell in a folder, and what is to be read in it."""

    def __init__(self, folder: Path, script: str) -> None:
        self._process = subprocess.Popen(
            ["sh", "-e", "-c", script],
            cwd=folder,
            env=plain(folder),
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
        """Wait for a line."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            if self._process.poll() not in (None, 0):
                self._reader.join(5)
                raise Failed(f"it ended with {self._process.returncode}:\n{self.text}")
            if time.monotonic() > deadline:
                raise Failed(f"no {pattern} in:\n{self.text}")
            time.sleep(0.02)
        return found

    def ends(self) -> None:
        """Wait for its end, which must be good."""
        code = self._process.wait(PATIENCE)
        self._reader.join(5)
        if code:
            raise Failed(f"it ended with {code}:\n{self.text}")

    def close(self) -> None:
        """End what still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()


@contextmanager
def terminals(folder: Path) -> Iterator[Callable[[str], Terminal]]:
    """Opens terminals in a folder; the last one is closed first."""
    with ExitStack() as stack:

        def opened(script: str) -> Terminal:
            terminal = Terminal(folder, script)
            stack.callback(terminal.close)
            return terminal

        yield opened


def take(folder: Path, *, install: str = INSTALL) -> tuple[float, list[str]]:
    """Take the steps in a clone, with these lines in place of the README's installation.

    Returns how many seconds passed until one's own message was shown, and the lines that were shown.

    Raises:
        Failed: a step does not do what the README says.
    """
    begun = time.monotonic()
    (config,) = blocks("yaml")
    first, second, third, *_ = blocks("sh")
    config = exchanged(config, "failed: {{ run.error }}", "MY OWN: {{ run.error }}")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    with terminals(folder) as terminal:
        first = exchanged(exchanged(first, INSTALL, install), "engine sandbox", "exec engine sandbox --port 0")
        sandbox = terminal(first)
        printed = sandbox.until(r"^export INBOX_URL=.*\n")
        exports = "".join(re.findall(r"^export .*\n", printed.string, re.MULTILINE))
        (written,) = re.findall(r"(?:^export \S*_ENDPOINT.*\n)+^export INBOX.*\n", second, re.MULTILINE)
        serve = terminal(exchanged(exchanged(second, written, exports), "engine serve", "exec engine serve"))
        url = serve.until(r"webhook +(http://\S+:\d+)/")[1]
        acting = terminal(exchanged(third, "http://127.0.0.1:8080", url))
        acting.ends()
        sandbox.until(r"→ 200\n")
        shown = " ".join(sandbox.until(r"^  request: channel #llm-quality").string.split())
        seconds = time.monotonic() - begun
    for text, pattern in (
        (serve.text, r"good · 1 route · 1 action"),
        (acting.text, r"attempt 1: accepted \(202\)"),
        (acting.text, r"(?m)^01\w+-\w+-\w+ +\w+ +rule "),
        (shown, r"channel #llm-quality"),
        (shown, r"▌ classify-issue MY OWN: RateLimitError: 429 Too Many Requests"),
    ):
        if not re.search(pattern, text):
            raise Failed(f"no {pattern} in:\n{text}")
    return seconds, [*sandbox.text.splitlines(), *acting.text.splitlines()]


def main() -> int:
    """Take them in a fresh clone."""
    with tempfile.TemporaryDirectory(prefix="first steps ") as scratch:
        clone = Path(scratch) / "langsmith-rules-engine"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        try:
            seconds, _ = take(clone)
        except Failed as error:
            print(f"first steps: {error}", file=sys.stderr)
            return 1
    print(f"first steps: {seconds:.0f} s from `make install` to a message of one's own rule")
    return 0


if __name__ == "__main__":
    sys.exit(main())
