"""Processes that are measured: how they are started, what processor time and memory they take. Linux only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: How many seconds a server may take to start.
START = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something that is to be measured does not work."""


def environment(checkout: Path = ROOT, **variables: str) -> dict[str, str]:
    """An environment in which ``engine`` is imported from a checkout."""
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: subprocess.Popen
    port: int

    def cpu(self) -> float:
        """Seconds of processor time that it and its ended children took until now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS

    def peak_rss(self) -> int:
        """The most memory that it had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def settle(self, seconds: float) -> None:
        """Wait until it has nothing to do: less than a tenth of a core over 0.2 s. So many seconds at most."""
        until, spent = time.monotonic() + seconds, self.cpu()
        while time.monotonic() < until:
            time.sleep(0.2)
            before, spent = spent, self.cpu()
            if spent - before < 0.02:
                return


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, folder: Path, env: Mapping[str, str], ready: str = ""
) -> Iterator[Server]:
    """A server, from when it listens (and answers ``GET ready`` with 200). Killed at the end.

    Raises:
        BenchError: it ended or did not get ready; with its last lines.
    """
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until = time.monotonic() + START
        while not _is_ready(port, ready):
            if process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"{' '.join(command)} does not serve:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield Server(process, port)
    finally:
        process.kill()
        process.wait()


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
        if not path:
            return True
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Helper:
    """One of our own modules in a process, spoken to by lines. Ends with this process."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-P", "-m", module, *arguments]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> str:
        """Its next line.

        Raises:
            BenchError: it ended.
        """
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"{' '.join(self.process.args)} ended")
        return line.strip()

    def ask(self, line: str) -> object:
        self.say(line)
        return json.loads(self.read())

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Sink(Helper):
    """The process that webhooks are forwarded to."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("bench.sink", *arguments)
        self.port: int = json.loads(self.read())["port"]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.server = Server(self.process, self.port)

    def wait(self, count: int, seconds: float) -> dict[str, float]:
        """Wait for so many different events: how many were ``seen``, and ``at`` which time the last of them came."""
        return self.ask(f"wait {count} {seconds}")

    def times(self, first: int, count: int) -> list[float | None]:
        """When each of these events came."""
        return self.ask(f"times {first} {count}")
