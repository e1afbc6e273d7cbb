"""A sender for the command in a process of its own, which ``make chaos`` kills, too."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from chaos.serving import COMMAND, Serve, left_behind

__all__ = ["COMMAND", "Courier", "Serve", "left_behind"]


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
