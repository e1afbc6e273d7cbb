"""The loop for code that is not ours."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time

import pytest

from engine.foreign import ForeignLoop, NotStarted


@pytest.fixture
async def foreign():
    loop = ForeignLoop(logging.getLogger("engine"))
    loop.start()
    closed: list[str] = []

    async def last() -> None:
        closed.append(threading.current_thread().name)

    yield loop
    await loop.close(last, 0.2)


async def test_what_is_called_runs_in_the_other_thread_and_its_answer_comes_back(foreign: ForeignLoop) -> None:
    async def who() -> str:
        return threading.current_thread().name

    assert await foreign.call_within(who, 5) == "plug-ins"


async def test_what_it_raises_is_raised_here(foreign: ForeignLoop) -> None:
    async def fail() -> None:
        raise KeyError("there")

    with pytest.raises(KeyError, match="there"):
        await foreign.call_within(fail, 5)


async def test_cancelling_the_wait_cancels_it_there(foreign: ForeignLoop) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(foreign.call_within(wait, 70))
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
        await foreign.call_within(block, 0.1)
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

    calls = [foreign.call_within(lambda number=number: block(number), 0.1) for number in range(6)]
    assert await asyncio.gather(*calls) == list(range(6))
    assert sorted(starts) == list(range(6))


async def test_a_call_the_loop_never_gets_to_is_taken_back_before_it_starts() -> None:
    foreign = ForeignLoop(logging.getLogger("engine"), longest_queue=0.2)
    foreign.start()
    release, started = threading.Event(), threading.Event()

    async def block() -> None:
        release.wait(10)

    async def start() -> None:
        started.set()

    blocking = asyncio.create_task(foreign.call_within(block, 5))
    await asyncio.sleep(0.05)
    with pytest.raises(NotStarted, match="was blocked for"):
        await foreign.call_within(start, 5)
    release.set()
    await blocking
    await asyncio.sleep(0.05)
    assert not started.is_set()

    async def last() -> None: ...

    await foreign.close(last, 1)


@pytest.mark.parametrize("how", ["in the call", "in a task it left behind"])
async def test_a_plug_in_that_exits_takes_no_other_down(foreign: ForeignLoop, how: str) -> None:
    async def leave() -> None:
        sys.exit(3)

    async def leave_behind() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    async def answer() -> int:
        return 42

    if how == "in the call":
        with pytest.raises(RuntimeError, match="the plug-in raised SystemExit: 3"):
            await foreign.call_within(leave, 5)
    else:
        await foreign.call_within(leave_behind, 5)
    assert await foreign.call_within(answer, 5) == 42
