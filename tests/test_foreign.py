"""The loop for code that is not ours."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from engine.foreign import ForeignLoop


@pytest.fixture
async def foreign():
    loop = ForeignLoop()
    loop.start()
    closed: list[str] = []

    async def last() -> None:
        closed.append(threading.current_thread().name)

    yield loop
    await loop.close(last, 0.2)


async def test_what_is_called_runs_in_the_other_thread_and_its_answer_comes_back(foreign: ForeignLoop) -> None:
    async def who() -> str:
        return threading.current_thread().name

    assert await foreign.call(who) == "plug-ins"


async def test_what_it_raises_is_raised_here(foreign: ForeignLoop) -> None:
    async def fail() -> None:
        raise KeyError("there")

    with pytest.raises(KeyError, match="there"):
        await foreign.call(fail)


async def test_cancelling_the_wait_cancels_it_there(foreign: ForeignLoop) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(foreign.call(wait))
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
