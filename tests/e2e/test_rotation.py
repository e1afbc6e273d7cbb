"""Every secret a sender may show is changed under load, and no request with a good one is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

from harness import until

from engine.core.signatures import sign

RULES = "routes: {}\n"


class Senders:
    """Post all the time, each in a way of its own, with whatever secret they have at the moment."""

    def __init__(self, engine, secret: str, signing: str) -> None:
        self.engine, self.secret, self.signing = engine, secret, signing
        self.statuses: list[int] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Senders:
        ways = (self._in_query, self._in_header, self._as_bearer, self._signed)
        self._tasks = [asyncio.create_task(self._go_on(way)) for way in ways * 2]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    async def more(self, count: int = 40) -> None:
        """Wait until so many more requests were answered, all begun after now or accepted anyway."""
        target = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= target)

    async def _go_on(self, way) -> None:
        url = f"http://{self.engine.running.public}/webhooks/langsmith"
        while True:
            body = json.dumps({"number": next(self._numbers)}).encode()
            query, headers = way(body)
            async with self.engine.http.post(url, data=body, params=query, headers=headers) as answer:
                self.statuses.append(answer.status)

    def _in_query(self, _body: bytes):
        return {"secret": self.secret}, {}

    def _in_header(self, _body: bytes):
        return {}, {"X-Webhook-Secret": self.secret}

    def _as_bearer(self, _body: bytes):
        return {}, {"Authorization": f"Bearer {self.secret}"}

    def _signed(self, body: bytes):
        return {}, sign("github", self.signing, body, "", 0)


async def test_secrets_are_rotated_under_load_without_one_refusal(engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file-1\n")

    async def configure(secrets: list[str], signing: list[str]) -> None:
        text = json.dumps(secrets), json.dumps(signing)
        engine.config.write_text(f"secrets: {text[0]}\nsigning_secrets: {text[1]}\n{RULES}")
        if engine.running is not None:
            assert (await engine.running.reloader.reload()).good

    await configure(["old-secret"], ["old-signing"])
    await engine.start()
    async with Senders(engine, "old-secret", "old-signing") as senders:
        await senders.more()
        await configure(["old-secret", "${file:secret}"], ["old-signing", "new-signing"])
        await senders.more()
        senders.secret, senders.signing = "from-a-file-1", "new-signing"
        await senders.more()
        await configure(["${file:secret}", "bridge"], ["new-signing"])
        senders.secret = "bridge"
        await senders.more()
        # A file that is replaced counts by itself: the watcher sees it.
        (tmp_path / "secret").write_text("from-a-file-2\n")
        await until(lambda: "from-a-file-2" in engine.running.reloader.current.config.secrets)
        senders.secret = "from-a-file-2"
        await senders.more()
    assert set(senders.statuses) == {202}
    assert len(senders.statuses) >= 200
    url = f"http://{engine.running.public}/webhooks/langsmith"
    for gone in ("old-secret", "from-a-file-1"):
        async with engine.http.post(url, data=b"{}", params={"secret": gone}) as answer:
            assert answer.status == 401
    async with engine.http.post(url, data=b"{}", headers=sign("github", "old-signing", b"{}", "", 0)) as answer:
        assert answer.status == 401
