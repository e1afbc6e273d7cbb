"""Work aside from the event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from engine.aside import Aside, in_thread


async def longest_pause(during: asyncio.Future) -> float:
    """For how long this loop did not come round while something was awaited, in seconds."""
    longest, last = 0.0, time.perf_counter()
    while not during.done():
        await asyncio.sleep(0.002)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    return longest


async def test_quick_work_is_done_on_the_loop() -> None:
    here = threading.get_ident()
    assert [await Aside().do("kind", threading.get_ident) for _ in range(3)] == [here] * 3


async def test_what_took_long_once_is_done_aside_from_then_on() -> None:
    def slow() -> int:
        time.sleep(0.05)
        return threading.get_ident()

    aside, here = Aside(), threading.get_ident()
    assert await aside.do("slow", slow) == here
    assert await aside.do("slow", slow) != here
    assert await aside.do("quick", threading.get_ident) == here
    many = asyncio.gather(*(aside.do("slow", slow) for _ in range(10)))
    assert await longest_pause(many) < 0.04


async def test_large_work_goes_aside_without_a_try_and_two_at_a_time() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    aside = Aside()
    await asyncio.gather(*(aside.do(number, slow, large=True) for number in range(8)))
    assert most == 2


async def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(lambda: int("x"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2), StopIteration(1)])
async def test_what_would_end_the_program_or_never_arrive_is_an_error_like_others(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"it raised {type(error).__name__}"):
        await in_thread(fail)


async def test_nobody_needs_to_wait_for_it() -> None:
    release = threading.Event()
    task = asyncio.create_task(in_thread(release.wait))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
