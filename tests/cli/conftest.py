"""The command as a person uses it: in-process where it is pure, a real server where it is not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import cli
from engine.testing import payloads

SECRET = "a secret & more"
CONFIG = f"""
secrets: ["{SECRET}"]
langsmith: {{api_key: the-api-key-itself, endpoint: "http://127.0.0.1:9"}}
defaults: {{retry: {{attempts: 1, within: 1m}}}}
rules:
  corrections: {payloads.RULE_ID}
routes:
  corrections:
    - name: errors
      filters: [{{path: "$.runs[*].status", eq: error}}]
      actions:
        - forward_webhook: {{url: "http://127.0.0.1:9/hook", headers: {{X-Key: the-api-key-itself}}}}
    - name: low-score
      stop: true
      filters:
        - {{path: "$.runs[*].status", eq: success}}
        - {{path: "$.feedback_stats.user_score.avg", gte: 0, lt: 0.5}}
      actions:
        - log: {{message: "low score of {{{{ run.name }}}}"}}
          when: [{{path: "$.runs[*].tags[*]", eq: classifier}}]
    - name: corrected
      filters: [{{path: "$.feedback.correctness.correction", exists: true}}]
      actions:
        - log: {{message: "should be {{{{ feedback.correctness.correction }}}}"}}
"""


class Command:
    """Runs ``engine`` in-process, in a directory of its own. What it prints is not wrapped, as in a pipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.environ: dict[str, str] = {"COLUMNS": "", "ENGINE_CONFIG": str(self.config)}

    def __call__(self, *args: str, expect: int = 0, **how: Any) -> Result:
        result = CliRunner().invoke(cli, list(args), env=self.environ, **how)
        assert result.exit_code == expect, (result.output, result.exception)
        assert "Traceback" not in result.output
        return result

    def json(self, *args: str, expect: int = 0) -> Any:
        return json.loads(self(*args, "--json", expect=expect).stdout)

    def write(self, text: str = CONFIG) -> Path:
        self.config.write_text(text)
        return self.config

    def payload(self, payload: Any = None) -> str:
        file = self.folder / "payload.json"
        file.write_bytes(payloads.to_body(payload if payload is not None else payloads.complete()))
        return str(file)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in [name for name in os.environ if name.startswith("ENGINE_")]:
        monkeypatch.delenv(name)
    command = Command(tmp_path)
    command.write()
    # A port nobody listens on: an engine that happens to run on this machine is not asked.
    monkeypatch.setattr("engine.cli.support.access.DEFAULT_ADMIN_URL", "http://127.0.0.1:9")
    return command


class Server:
    """``engine serve`` in a process of its own, on free ports."""

    def __init__(self, command: Command, *flags: str) -> None:
        arguments = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from engine.cli.main import main; main()", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | command.environ,
        )
        self.out: list[str] = []
        self.log: list[str] = []
        streams = ((self.process.stdout, self.out), (self.process.stderr, self.log))
        self._readers = [
            threading.Thread(target=lambda s=stream, kept=lines: kept.extend(iter(s.readline, "")), daemon=True)
            for stream, lines in streams
        ]
        for reader in self._readers:
            reader.start()
        if "json" in flags:
            self.until(lambda: any('"serving"' in line for line in self.log))
            facts = next(json.loads(line) for line in self.log if '"serving"' in line)
            self.admin, self.url = f"http://{facts['admin']}", f"http://{facts['public']}"
            return
        banner = "\n".join(self.until(lambda: any("webhook" in line for line in self.out)))
        self.admin = self._find(r"admin +(https?://\S+:\d+)/", banner)
        self.url = self._find(r"webhook +(https?://[^\s?]+)", banner)

    def _find(self, pattern: str, text: str) -> str:
        match = re.search(pattern, text)
        assert match, text
        return match[1]

    def until(self, happened: Callable[[], bool], seconds: float = 30.0) -> list[str]:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None or happened(), self.log
            assert time.monotonic() < deadline, (self.out, self.log)
            time.sleep(0.02)
        return self.out

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.close()
        return code

    def close(self) -> None:
        """End it, and read what it still said."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def serve(engine: Command) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*flags: str) -> Server:
        started.append(Server(engine, *flags))
        engine.environ["ENGINE_ADMIN_URL"] = started[-1].admin
        return started[-1]

    yield start
    for server in started:
        server.close()
