"""Fills the disk under load: refusals are clear, no accepted event is lost, and the engine recovers by itself."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from chaos.compare import read_store
from chaos.kills import SECRET, drained, free_ports, is_trouble, unforeseen
from chaos.serving import Serve
from chaos.table import Row
from engine.testing import WebhookSink, payloads
from engine.testing.server import Recorded

CONFIG = """
secrets: ["${SECRET}"]
defaults: {retry: {attempts: 100, within: 1h, min: 50ms, max: 1s}}
routes:
  "*": {for_each: event, actions: [{forward_webhook: {url: "${HOOKS}", body: {key: "{{ payload.chaos }}"}}}]}
"""
#: Size of the disk, and of the file that fills it for a while, in MB.
DISK, TAKEN = 24, 21
#: Bytes added to each webhook.
PADDING = 20_000
#: Refusals after which the disk is emptied.
ENOUGH = 20


async def run() -> list[Row]:
    """Fill and empty the disk; return the rows of the table, or one that says why nothing can be mounted."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        if words := await stack.enter_async_context(_small_disk(folder / "disk")):
            return [Row("the disk is full for a while", "skipped", words)]
        hooks = await stack.enter_async_context(WebhookSink())
        serve = _serve(folder, hooks)
        stack.push_async_callback(serve.kill)
        await serve.start()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        load = Load(serve, http)
        await load.until(lambda: len(load.accepted) >= 50)
        filler = folder / "disk" / "filler"
        fill(filler)
        await load.until(lambda: load.refused >= ENOUGH)
        filler.unlink()
        before = len(load.accepted)
        await load.until(lambda: len(load.accepted) >= before + 50)
        all_made = await drained(serve, 60.0)
        await serve.terminate()
        kept = await read_store(folder / "disk" / "data")
        return _rows(load, set(kept.ids), made_of(hooks.received), unforeseen(serve), all_made=all_made)


class Load:
    """Sends one webhook after another, four at a time."""

    def __init__(self, serve: Serve, http: aiohttp.ClientSession) -> None:
        self._serve, self._http = serve, http
        self._next = 0
        self.accepted: set[int] = set()
        self.answers: dict[int, int] = {}

    @property
    def refused(self) -> int:
        """How many were answered with 503."""
        return self.answers.get(503, 0)

    async def until(self, enough) -> None:
        """Send until it is enough, at most a minute."""
        async with asyncio.timeout(60):
            while not enough():
                await asyncio.gather(*(self._one() for _ in range(4)))

    async def _one(self) -> None:
        number, self._next = self._next, self._next + 1
        run = payloads.run(number, error="x" * PADDING)
        body = payloads.to_body(payloads.rule([run], chaos=number))
        async with self._http.post(self._serve.url(SECRET), data=body) as response:
            self.answers[response.status] = self.answers.get(response.status, 0) + 1
            if response.status == 202:
                self.accepted.add(number)


def fill(filler: Path) -> None:
    """Use up the disk."""
    try:
        with filler.open("wb", buffering=0) as file:
            for _ in range(TAKEN * 16):
                file.write(b"x" * 65536)
    except OSError:
        return  # the disk is full


def made_of(received: list[Recorded]) -> set[int]:
    """The numbers of the events that were forwarded."""
    return {int(one.body["key"]) for one in received}


@asynccontextmanager
async def _small_disk(place: Path) -> AsyncIterator[str]:
    """A disk of a few MB at ``place``; yield why it could not be mounted, or an empty text."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(place)]
    words = await asyncio.to_thread(_told, ["mount", *options])
    try:
        yield words
    finally:
        if not words:
            await asyncio.to_thread(_told, ["umount", "-l", str(place)])


def _told(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        return str(error)
    return ended.stderr.strip() if ended.returncode else ""


def _serve(folder: Path, hooks: WebhookSink) -> Serve:
    (folder / "config.yaml").write_text(CONFIG)
    environ = {"SECRET": SECRET, "HOOKS": hooks.url}
    data = folder / "disk" / "data"
    return Serve(folder / "config.yaml", data, environ, ports=free_ports(), keep=is_trouble)


def _rows(load: Load, kept: set[int], made: set[int], odd: list[str], *, all_made: bool) -> list[Row]:
    lost, undone = load.accepted - kept, kept - made
    others = {status: count for status, count in load.answers.items() if status not in (202, 503)}
    return [
        Row("the disk is full for a while: refused with 503", f"{load.refused:,}", "must be some", load.refused > 0),
        Row("  answered otherwise than 202 and 503", f"{others or 'none'}", "must be none", not others),
        Row("  accepted, and lost", f"{len(lost)} of {len(load.accepted):,}", "must be 0", not lost),
        Row("  kept, and not made", f"{len(undone)}", "must be 0", all_made and not undone),
        *(Row(f"  {line}", "", good=False) for line in odd),
    ]
