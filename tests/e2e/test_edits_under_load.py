"""The configuration changes while events flow."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from harness import until

from engine.testing import payloads

RULES = """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{{forward_webhook: {{url: "${{SINK}}", headers: {{X-Edition: "{edition}"}}}}}}]
"""
BROKEN = """
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actons: []
"""
EDITS = 20
RATE = 200


def edition_of(sink) -> str:
    return sink.received[-1].headers["X-Edition"] if sink.received else ""


async def stream(engine, stop: asyncio.Event) -> list[str]:
    """Events at 200 a second until told to stop; the ids of what was accepted."""
    accepted: list[str] = []
    tasks: list[asyncio.Task] = []
    number, started = 0, time.monotonic()

    async def one(number: int) -> None:
        accepted.append((await engine.post(payloads.rule([payloads.run(number)])))["event"])

    while not stop.is_set():
        tasks.append(asyncio.create_task(one(number)))
        number += 1
        await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
    await asyncio.gather(*tasks)
    return accepted


async def test_twenty_edits_under_load_lose_nothing_and_act_within_two_seconds(engine, sink, caplog) -> None:
    await engine.start(RULES.format(edition=0))
    stop = asyncio.Event()
    streaming = asyncio.create_task(stream(engine, stop))
    slowest = 0.0
    good = "0"
    for edit in range(1, EDITS + 1):
        if edit % 3 == 0:
            caplog.clear()
            engine.write(BROKEN)
            await until(lambda: not engine.running.reloader.last.good, 5)
            assert f"{engine.config}:5:5" in caplog.text
            assert "did you mean 'actions'" in caplog.text
            count = len(sink.received)
            await until(lambda count=count: len(sink.received) > count + 5, 5)
            assert edition_of(sink) == good
            continue
        good = str(edit)
        engine.write(RULES.format(edition=edit))
        saved = time.monotonic()
        await until(lambda good=good: edition_of(sink) == good, 10)
        slowest = max(slowest, time.monotonic() - saved)
    stop.set()
    accepted = await streaming
    await engine.quiet()
    assert len(accepted) > 200
    assert slowest < 2.0
    delivered = {one.headers["webhook-id"] for one in sink.received}
    assert len(delivered) == len(accepted) == len(sink.received)


@pytest.mark.parametrize("how", ["rename", "symlink", "truncate"])
async def test_however_the_file_is_replaced_the_change_counts(engine, sink, how: str) -> None:
    folder = engine.config.parent
    if how == "symlink":  # as Kubernetes swaps a ConfigMap
        for name in ("one", "two"):
            (folder / name).mkdir()
        (folder / "one" / "config.yaml").write_text('secrets: ["${SECRET}"]\n' + RULES.format(edition="one"))
        (folder / "two" / "config.yaml").write_text('secrets: ["${SECRET}"]\n' + RULES.format(edition="two"))
        (folder / "..data").symlink_to("one")
        engine.config.symlink_to("..data/config.yaml")
        await engine.start()
        (folder / "..tmp").symlink_to("two")
        (folder / "..tmp").rename(folder / "..data")
    else:
        await engine.start(RULES.format(edition="one"))
        text = engine.config.read_text().replace("one", "two")
        if how == "rename":
            (folder / "config.yaml~").write_text(text)
            os.replace(folder / "config.yaml~", engine.config)  # noqa: PTH105
        else:
            engine.config.write_text("")
            engine.config.write_text(text)
    before = engine.running.reloader.current
    await until(lambda: engine.running.reloader.current is not before or how == "symlink", 5)

    async def acts() -> bool:
        await engine.post(payloads.rule([payloads.run(int(time.monotonic() * 1e6))]))
        await engine.quiet()
        return edition_of(sink) == "two"

    await until(acts, 5)


PLUGIN = """
import time
import engine


class Ticket(engine.Action):
    \"\"\"Open a ticket.\"\"\"

    class Params(engine.Params):
        title: str

    async def run(self, params, context):
        {body}
        async with context.http.post("{sink}", json={{"ticket": params.title}}) as answer:
            engine.check_response(answer.status, answer.headers)
"""


async def test_a_file_dropped_into_the_plug_in_folder_is_usable_at_once_and_a_broken_one_hurts_nothing(
    engine, sink, caplog
) -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    rules = """
        plugins: [./plugins]
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{%s}]
    """
    await engine.start(rules % "log: {message: hello}")
    (folder / "ticket.py").write_text(PLUGIN.format(body="pass", sink=sink.url))
    await until(lambda: engine.running.reloader.current.registry.get("ticket"), 2)
    engine.write(rules % 'ticket: {title: "{{ run.name }}"}')
    await until(lambda: "ticket" in str(engine.running.reloader.current.config.routes), 2)
    await engine.post(payloads.rule())
    await until(lambda: sink.received)
    assert sink.received[0].body == {"ticket": payloads.run()["name"]}

    (folder / "half.py").write_text("import engine\nclass Half(engine.Action):\n    async def run(self")
    await until(lambda: engine.running.reloader.current.registry.broken, 2)
    assert "half.py:3" in caplog.text
    await engine.post(payloads.rule([payloads.run(1)]))
    await until(lambda: len(sink.received) == 2)

    (folder / "ticket.py").write_text("raise RuntimeError('broken now')")
    await until(lambda: not engine.running.reloader.last.good, 2)
    assert "broken now" in caplog.text
    await engine.post(payloads.rule([payloads.run(2)]))
    await until(lambda: len(sink.received) == 3)


async def test_a_plug_in_that_blocks_does_not_stall_acceptance(engine, sink) -> None:
    folder = engine.config.parent / "plugins"
    folder.mkdir()
    (folder / "ticket.py").write_text(PLUGIN.format(body="time.sleep(0.3)", sink=sink.url))
    await engine.start("""
        plugins: [./plugins]
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a: {actions: [{ticket: {title: x}}]}
    """)
    await engine.post(payloads.several(10))
    started = time.monotonic()
    for number in range(20):
        await engine.post(payloads.rule([payloads.run(1000 + number)], rule_id="22222222-2222-4222-8222-222222222222"))
    assert time.monotonic() - started < 2.0, "the plug-ins block for 3 s in all"
    await engine.settled(10)
