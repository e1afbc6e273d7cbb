"""Runs the command in a process that may be killed, and opens the store it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.store import open_store
from engine.store.protocol import Store

COMMAND = Path(sys.executable).with_name("engine")
#: The variables that a process needs. Nothing else of this environment is passed on.
_BARE = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}


class Serve:
    """``engine serve`` on loopback, on free ports unless told.

    ``said`` are the lines of its log that ``keep`` wants, one JSON object each.
    """

    def __init__(
        self,
        config: Path,
        data: Path,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        *,
        ports: tuple[int, int] = (0, 0),
        keep: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    ) -> None:
        self._arguments = ["serve", "--config", str(config), "--data", str(data), "--log-format", "json", *options]
        self._arguments += ["--listen", f"127.0.0.1:{ports[0]}", "--admin", f"127.0.0.1:{ports[1]}"]
        self._keep = keep
        self._environ = {**_BARE, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        #: Set while it serves, as far as this process knows.
        self.serving = asyncio.Event()
        self.said: list[dict[str, Any]] = []
        self.address = self.admin = ""

    async def spawn(self) -> None:
        """Start the process without waiting until it serves."""
        self.serving.clear()
        self._process = await asyncio.create_subprocess_exec(
            COMMAND,
            *self._arguments,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def start(self, seconds: float = 20.0) -> None:
        """Start the process and wait until it serves."""
        await self.spawn()
        serving = asyncio.ensure_future(self.serving.wait())
        await asyncio.wait({serving, self._reading}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        assert self.serving.is_set(), f"it does not serve; it said {self.words[-2000:]}"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            try:
                said = json.loads(line)
            except ValueError:
                said = {"message": line.decode(errors="replace").rstrip()}
            if self._keep(said):
                self.said.append(said)
            if said["message"] == "serving":
                self.address, self.admin = said["public"], said["admin"]
                self.serving.set()

    @property
    def pid(self) -> int | None:
        """The process id, or None."""
        return None if self._process is None else self._process.pid

    @property
    def words(self) -> str:
        """Its output, for people."""
        return "\n".join(f"{one.get('level', '')} {one['message']} {one.get('traceback', '')}" for one in self.said)

    def url(self, secret: str) -> str:
        """The URL for webhooks."""
        return f"http://{self.address}/webhooks/langsmith?secret={secret}"

    async def ended(self) -> int:
        """Wait for the process to end by itself; return its exit code."""
        assert self._process is not None
        assert self._reading is not None
        process, self._process = self._process, None
        code = await process.wait()
        await self._reading
        return code

    async def kill(self) -> None:
        """``kill -9``."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """``SIGTERM``; the exit code."""
        return await self._end(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal without waiting."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        self.serving.clear()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        code = await asyncio.wait_for(process.wait(), 30)
        await self._reading
        return code


@contextlib.asynccontextmanager
async def left_behind(data: Path) -> AsyncIterator[Store]:
    """Open the store of a process that has ended."""
    store = open_store(data / "engine.db")
    await store.open()
    try:
        yield store
    finally:
        await store.close()
