"""The way of an event, as docs/architecture.md tells it: which code really runs, and in which order."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from harness import Engine, until

from engine.testing import WebhookSink, payloads

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text().partition("## The way of an event")[2].partition("\n## ")[0]
#: Files of engine/ and actions/ that run for one event with one forwarded webhook. It is to become fewer.
MOST_FILES = 45  # 42 or 43 as a rule; what the clock does meanwhile may add some
SETTLED = ("store/sqlite/settle.py", "settle_attempts")
RULES = """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters:
      - {path: "$.runs[*].status", eq: success}
    actions:
      - forward_webhook: {url: "SINK"}
"""


@contextmanager
def watched(seen: dict[tuple[str, str], int]) -> Iterator[None]:
    """Notes each function of the engine and of its actions when it is called first, in all threads."""

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith((f"{ROOT}/engine/", f"{ROOT}/actions/")):
            file = Path(code.co_filename).relative_to(ROOT).as_posix().removeprefix("engine/")
            if not file.startswith("testing/"):
                seen.setdefault((file, code.co_qualname), len(seen))

    threading.setprofile_all_threads(note) if sys.version_info >= (3, 12) else threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile_all_threads(None) if sys.version_info >= (3, 12) else threading.setprofile(None)


async def test_an_event_goes_the_way_that_the_page_shows(tmp_path: Path) -> None:
    told = re.findall(r"^\d+\. `([a-z_/]+\.py)` `([\w.]+)`", PAGE, re.MULTILINE)
    assert len(told) > 8
    seen: dict[tuple[str, str], int] = {}
    async with WebhookSink() as sink:
        engine = Engine(tmp_path, {})
        with watched(seen):  # threads of the engine begin within
            await engine.start(RULES.replace("SINK", sink.url))
            await engine.post(payloads.rule([payloads.run(1)]))
            await engine.settled(1)
            await asyncio.sleep(0.5)  # what an engine does once, at its start, is over
            seen.clear()
            await engine.post(payloads.rule([payloads.run(2)]))
            await until(lambda: len(sink.received) == 2 and SETTLED in seen)
        await engine.stop()
    assert [place for place in told if place not in seen] == []
    assert sorted(told, key=seen.__getitem__) == told
    assert len({file for file, _ in seen}) <= MOST_FILES
