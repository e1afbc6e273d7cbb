"""The loop for code that is not ours."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time

import pytest

from engine.worker import plugin_loop as foreign_module
from engine.worker.plugin_call import PluginExit
from engine.worker.plugin_loop import ForeignLoop, NotStarted, PluginBlocks


@pytest.fixture
async def foreign():
    closed: list[str] = []

    async def close(means: str) -> None:
        closed.append(f"{means} in {threading.current_thread().name}")

    loop = ForeignLoop(lambda: "means", close, logging.getLogger("engine"))
    loop.start()
    yield loop
    await loop.close(1)
    assert set(closed) == {"means in plug-ins"}, "closed where they were used"


def called(do):
    """A coroutine function without arguments, as one that takes the loop's means."""
    return lambda _means: do()


async def test_what_is_called_runs_in_the_other_thread_and_its_answer_comes_back(foreign: ForeignLoop) -> None:
    async def who(means: str) -> tuple[str, str]:
        return threading.current_thread().name, means

    assert await foreign.call_within("me", who, 5) == ("plug-ins", "means")


async def test_an_exception_may_be_an_answer_too(foreign: ForeignLoop) -> None:
    async def answer(_means: str) -> Exception:
        return KeyError("no fault")

    assert isinstance(await foreign.call_within("me", answer, 5), KeyError)


async def test_a_timeout_of_its_own_is_not_mistaken_for_a_loop_that_is_blocked(foreign: ForeignLoop) -> None:
    async def fail(_means: str) -> None:
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await foreign.call_within("me", fail, 5)


async def test_what_it_raises_is_raised_here(foreign: ForeignLoop) -> None:
    async def fail() -> None:
        raise KeyError("there")

    with pytest.raises(KeyError, match="there"):
        await foreign.call_within("me", called(fail), 5)


async def test_a_plug_in_that_is_slow_keeps_no_other_from_starting(foreign: ForeignLoop) -> None:
    most, ran = foreign_module._MOST_CALLS_OF_ONE, 0

    async def slow() -> None:
        nonlocal ran
        ran += 1
        await asyncio.sleep(60)

    async def quick() -> str:
        return "done"

    calls = [asyncio.create_task(foreign.call_within("slow", called(slow), 70)) for _ in range(most + 5)]
    while ran < most:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert await foreign.call_within("quick", called(quick), 5) == "done"
    assert ran == most
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert await foreign.call_within("slow", called(quick), 5) == "done"


async def test_cancelling_the_wait_cancels_it_there(foreign: ForeignLoop) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(foreign.call_within("me", called(wait), 70))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, 5)


async def test_blocking_code_leaves_this_loop_running_and_ends_in_a_timeout(foreign: ForeignLoop) -> None:
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
        await foreign.call_within("me", called(block), 0.1)
    assert time.monotonic() - started < 5
    assert beats > 20
    beating.cancel()
    release.set()


async def test_a_call_behind_a_blocking_one_starts_once_and_its_time_counts_from_then(foreign: ForeignLoop) -> None:
    starts: list[int] = []

    async def block(number: int) -> int:
        starts.append(number)
        time.sleep(0.3)
        return number

    calls = [foreign.call_within("me", lambda _means, number=number: block(number), 0.1) for number in range(6)]
    assert await asyncio.gather(*calls) == list(range(6))
    assert sorted(starts) == list(range(6))


async def test_a_call_the_loop_never_gets_to_is_taken_back_before_it_starts() -> None:
    async def close(_means: str) -> None: ...

    foreign = ForeignLoop(str, close, logging.getLogger("engine"), longest_queue=0.2)
    foreign.start()
    release, started = threading.Event(), threading.Event()

    async def block() -> None:
        release.wait(10)

    async def start() -> None:
        started.set()

    blocking = asyncio.create_task(foreign.call_within("me", called(block), 5))
    await asyncio.sleep(0.05)
    with pytest.raises(NotStarted, match="was blocked for"):
        await foreign.call_within("me", called(start), 5)
    release.set()
    await blocking
    await asyncio.sleep(0.05)
    assert not started.is_set()
    await foreign.close(1)


@pytest.mark.parametrize("how", ["in the call", "in a task it left behind"])
async def test_a_plug_in_that_exits_takes_no_other_down(foreign: ForeignLoop, how: str) -> None:
    async def leave() -> None:
        sys.exit(3)

    async def leave_behind() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    async def answer() -> int:
        return 42

    if how == "in the call":
        with pytest.raises(PluginExit, match="the plug-in raised SystemExit: 3"):
            await foreign.call_within("me", called(leave), 5)
    else:
        await foreign.call_within("me", called(leave_behind), 5)
    assert await foreign.call_within("me", called(answer), 5) == 42


async def test_what_was_given_up_before_it_started_never_starts(foreign: ForeignLoop) -> None:
    release, ran = threading.Event(), []

    async def block() -> None:
        release.wait(10)

    async def run() -> None:
        ran.append(1)

    first = asyncio.create_task(foreign.call_within("me", called(block), 5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(foreign.call_within("me", called(run), 5))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert ran == []


async def test_a_loop_that_is_blocked_for_good_is_given_up_and_those_who_wait_go_on(
    foreign: ForeignLoop, caplog, monkeypatch
) -> None:
    monkeypatch.setattr("engine.worker.plugin_loop._PATIENCE", 0.3)
    release = threading.Event()

    async def block() -> None:
        release.wait(10)

    async def answer() -> int:
        return 42

    others = set(threading.enumerate())
    for _ in range(2):
        blocking = asyncio.create_task(foreign.call_within("blocker", called(block), 0.05))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(foreign.call_within("me", called(answer), 5)) for _ in range(40)]
        with pytest.raises(TimeoutError, match="blocks its loop"):
            await blocking
        assert await asyncio.gather(*waiting) == [42] * 40
    assert caplog.text.count("a plug-in blocks its thread for good") == 2
    assert "in block\n    release.wait(10)" in caplog.text
    with pytest.raises(PluginBlocks, match="until its file changes"):
        await foreign.call_within("blocker", called(answer), 5)
    assert await foreign.call_within("me", called(answer), 5) == 42
    release.set()
    for _ in range(200):  # what came free ends
        if (left := [thread.name for thread in set(threading.enumerate()) - others].count("plug-ins")) == 1:
            break
        await asyncio.sleep(0.05)
    assert left == 1
