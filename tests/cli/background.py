"""A command in a process of its own, as a person without a terminal has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


class Background:
    """``engine COMMAND``, 80 columns wide, with what it printed in ``text``."""

    def __init__(self, folder: Path, command: str, *args: str, environ: dict[str, str] | None = None) -> None:
        # A shell's background job ignores SIGINT and hands that down; a person's terminal does not.
        heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
        call = f"{heed}; from engine.cli.main import cli; cli(sys.argv[1:], prog_name='engine')"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
        plain = {"COLUMNS": "80", "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf8"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", call, command, *args],
            env=inherited | plain | (environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.text += line

    def until(self, words: str | Callable[[str], object], seconds: float = 30.0) -> str:
        deadline = time.monotonic() + seconds
        told = words if callable(words) else lambda text: words in text
        while not told(self.text):
            assert self._process.poll() is None, f"it ended:\n{self.text}"
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.text}"
            time.sleep(0.02)
        return self.text

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        started = time.monotonic()
        self._process.send_signal(how)
        code = self._process.wait(timeout=20)
        self._reader.join(5)
        return code, time.monotonic() - started

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()
