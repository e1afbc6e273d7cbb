"""Plug-ins run on loops of their own."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time

import pytest

from engine.worker import plugin_loop
from engine.worker.plugin_loop import NotStarted, PluginBlocks, PluginExit, PluginLoops


@pytest.fixture
async def loops():
    closed: list[str] = []

    async def close(resources: str) -> None:
        closed.append(f"{resources} in {threading.current_thread().name}")

    made = PluginLoops(lambda: "resources", close, logging.getLogger("engine"))
    yield made
    await made.close(1)
    assert set(closed) == {"resources in plug-ins"}, "closed where they were used"


def called(do):
    """A coroutine function without arguments, as one that takes the loop's resources."""
    return lambda _resources: do()


async def test_what_is_called_runs_in_the_other_thread_and_its_answer_comes_back(loops: PluginLoops) -> None:
    async def who(resources: str) -> tuple[str, str]:
        return threading.current_thread().name, resources

    assert await loops.call("me", who, 5) == ("plug-ins", "resources")


async def test_an_exception_may_be_an_answer_too(loops: PluginLoops) -> None:
    async def answer(_resources: str) -> Exception:
        return KeyError("no fault")

    assert isinstance(await loops.call("me", answer, 5), KeyError)


async def test_a_timeout_of_its_own_is_not_mistaken_for_a_loop_that_is_blocked(loops: PluginLoops) -> None:
    async def fail(_resources: str) -> None:
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await loops.call("me", fail, 5)


async def test_what_it_raises_is_raised_here(loops: PluginLoops) -> None:
    async def fail() -> None:
        raise KeyError("there")

    with pytest.raises(KeyError, match="there"):
        await loops.call("me", called(fail), 5)


async def test_a_plug_in_that_is_slow_keeps_no_other_from_starting(loops: PluginLoops) -> None:
    most, ran = plugin_loop._MOST_CALLS, 0

    async def slow() -> None:
        nonlocal ran
        ran += 1
        await asyncio.sleep(60)

    async def quick() -> str:
        return "done"

    calls = [asyncio.create_task(loops.call("slow", called(slow), 70)) for _ in range(most + 5)]
    while ran < most:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert await loops.call("quick", called(quick), 5) == "done"
    assert ran == most
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert await loops.call("slow", called(quick), 5) == "done"


async def test_cancelling_the_wait_cancels_it_there(loops: PluginLoops) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(loops.call("me", called(wait), 70))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, 5)


async def test_blocking_code_leaves_this_loop_running_and_ends_in_a_timeout(loops: PluginLoops) -> None:
    release = threading.Event()

    async def block() -> None:
        release.wait(10)

    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="blocks its loop"):
        await loops.call("me", called(block), 0.1)
    assert time.monotonic() - started < 5
    assert beats > 20
    beating.cancel()
    release.set()


async def test_a_call_behind_a_blocking_one_starts_once_and_its_time_counts_from_then(loops: PluginLoops) -> None:
    starts: list[int] = []

    async def block(number: int) -> int:
        starts.append(number)
        time.sleep(0.3)
        return number

    calls = [loops.call("me", lambda _resources, number=number: block(number), 0.1) for number in range(6)]
    assert await asyncio.gather(*calls) == list(range(6))
    assert sorted(starts) == list(range(6))


async def test_a_call_the_loop_never_gets_to_is_taken_back_before_it_starts() -> None:
    async def close(_resources: str) -> None: ...

    loops = PluginLoops(str, close, logging.getLogger("engine"), longest_queue=0.2)
    release, started = threading.Event(), threading.Event()

    async def block() -> None:
        release.wait(10)

    async def start() -> None:
        started.set()

    blocking = asyncio.create_task(loops.call("me", called(block), 5))
    await asyncio.sleep(0.05)
    with pytest.raises(NotStarted, match="was blocked for"):
        await loops.call("me", called(start), 5)
    release.set()
    await blocking
    await asyncio.sleep(0.05)
    assert not started.is_set()
    await loops.close(1)


@pytest.mark.parametrize("how", ["in the call", "in a task it left behind"])
async def test_a_plug_in_that_exits_takes_no_other_down(loops: PluginLoops, how: str) -> None:
    async def leave() -> None:
        sys.exit(3)

    async def leave_behind() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    async def answer() -> int:
        return 42

    if how == "in the call":
        with pytest.raises(PluginExit, match="the plug-in raised SystemExit: 3"):
            await loops.call("me", called(leave), 5)
    else:
        await loops.call("me", called(leave_behind), 5)
    assert await loops.call("me", called(answer), 5) == 42


async def test_what_was_given_up_before_it_started_never_starts(loops: PluginLoops) -> None:
    release, ran = threading.Event(), []

    async def block() -> None:
        release.wait(10)

    async def run() -> None:
        ran.append(1)

    first = asyncio.create_task(loops.call("me", called(block), 5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(loops.call("me", called(run), 5))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert ran == []


async def test_a_plug_in_that_blocks_stops_itself_alone_until_it_ends(loops: PluginLoops, caplog, monkeypatch) -> None:
    monkeypatch.setattr("engine.worker.plugin_loop._PATIENCE", 0.3)
    release = threading.Event()

    async def block() -> None:
        release.wait(10)

    async def answer() -> int:
        return 42

    blocking = asyncio.create_task(loops.call("blocker", called(block), 0.05))
    await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(loops.call("blocker", called(answer), 5)) for _ in range(40)]
    assert await asyncio.gather(*(loops.call("me", called(answer), 5) for _ in range(40))) == [42] * 40
    with pytest.raises(TimeoutError, match="blocks its loop"):
        await blocking
    assert {type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)} == {PluginBlocks}
    assert caplog.text.count("a plug-in blocks its thread") == 1
    assert "in block\n    release.wait(10)" in caplog.text
    with pytest.raises(PluginBlocks, match="until its file changes"):
        await loops.call("blocker", called(answer), 5)
    assert await loops.call("me", called(answer), 5) == 42
    release.set()
    async with asyncio.timeout(10):
        while "no longer blocked" not in caplog.text:
            await asyncio.sleep(0.05)
    assert await loops.call("blocker", called(answer), 5) == 42


async def test_a_task_left_behind_that_blocks_the_loop_is_found_out(caplog, monkeypatch) -> None:
    async def close(_resources: str) -> None: ...

    monkeypatch.setattr("engine.worker.plugin_loop._PATIENCE", 0.2)
    loops = PluginLoops(str, close, logging.getLogger("engine"), longest_queue=0.1)
    release = threading.Event()

    async def leave_behind() -> None:
        asyncio.get_running_loop().call_later(0.01, release.wait, 10)

    async def answer() -> int:
        return 42

    await loops.call("me", called(leave_behind), 5)
    await asyncio.sleep(0.1)
    with pytest.raises(NotStarted):
        await loops.call("me", called(answer), 5)
    await asyncio.sleep(0.4)
    with pytest.raises(PluginBlocks):
        await loops.call("me", called(answer), 5)
    assert "a plug-in blocks its thread" in caplog.text
    release.set()
    await loops.close(1)


async def test_the_loop_of_a_plug_in_that_is_not_loaded_any_more_ends_with_its_last_call(loops: PluginLoops) -> None:
    release = asyncio.Event()

    async def answer() -> int:
        return 42

    async def wait() -> int:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), here))
        return 1

    async def threads(count: int) -> None:
        async with asyncio.timeout(10):
            while [thread.name for thread in set(threading.enumerate()) - others].count("plug-ins") != count:
                await asyncio.sleep(0.01)

    here, others = asyncio.get_running_loop(), set(threading.enumerate())
    slow = asyncio.create_task(loops.call("old", called(wait), 5))
    for name in ("older", "same"):
        assert await loops.call(name, called(answer), 5) == 42
    await threads(3)
    loops.reloaded({"same", "new"})
    await threads(2)
    release.set()
    assert await slow == 1
    await threads(1)
    assert await loops.call("old", called(answer), 5) == 42, "a delivery that was bound before the reload"
    await threads(1)
