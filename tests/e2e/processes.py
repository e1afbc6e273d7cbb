"""The command itself in a process of its own, that may be killed; and a look into the store it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from engine.store import open_store
from engine.store.protocol import Store

COMMAND = Path(sys.executable).with_name("engine")
#: What a process needs to run at all; of the test's own environment nothing else is handed on.
_BARE = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}


class Serve:
    """``engine serve`` on free ports. ``said`` are the lines of its log, one JSON object each."""

    def __init__(
        self, config: Path, data: Path, environ: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self._arguments = ["serve", "--config", str(config), "--data", str(data), "--log-format", "json", *options]
        self._arguments += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        self._environ = {**_BARE, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        #: Set while it serves, for all that is known.
        self.serving = asyncio.Event()
        self.said: list[dict[str, Any]] = []
        self.address = self.admin = ""

    async def spawn(self) -> None:
        """Start the process, and don't wait for it to serve."""
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
            self.said.append(said)
            if said["message"] == "serving":
                self.address, self.admin = said["public"], said["admin"]
                self.serving.set()

    @property
    def words(self) -> str:
        """What it said, for people."""
        return "\n".join(f"{one.get('level', '')} {one['message']} {one.get('traceback', '')}" for one in self.said)

    def url(self, secret: str) -> str:
        """Where LangSmith would post to."""
        return f"http://{self.address}/webhooks/langsmith?secret={secret}"

    async def kill(self) -> None:
        """``kill -9``."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """``SIGTERM``; the exit code."""
        return await self._end(signal.SIGTERM)

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
    """The store of a process that has ended."""
    store = open_store(data / "engine.db")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class Courier:
    """Sends events until each is accepted: what fails to connect, breaks or is a 5xx is sent again, byte for byte."""

    def __init__(self, serve: Serve, secret: str) -> None:
        self._serve, self._secret = serve, secret
        #: Event ids by the key the sender gave; more than one id would be two events made of one.
        self.accepted: dict[Any, set[str]] = {}
        self.again = 0

    async def send(self, http: aiohttp.ClientSession, key: Any, body: bytes, seconds: float = 30.0) -> None:
        """Until there is a 202."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.wait_for(self._serve.serving.wait(), seconds)
            try:
                async with http.post(self._serve.url(self._secret), data=body) as response:
                    if response.status == 202:
                        self.accepted.setdefault(key, set()).add((await response.json())["event"])
                        return
                    assert response.status == 503, await response.text()
            except (aiohttp.ClientError, OSError, ValueError):
                self.again += 1
            await asyncio.sleep(0.05)
        raise AssertionError(f"event {key} was never accepted")
