"""Computations that may take long, off the event loop."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from engine.core import offload
from engine.core.errors import TookTooLong
from engine.core.offload import Deadline, Deferred, Offload, Overdue, check, in_thread, watched, within


async def longest_pause(during: asyncio.Future) -> float:
    """For how long this loop did not come round while something was awaited, in seconds."""
    longest, last = 0.0, time.perf_counter()
    while not during.done():
        await asyncio.sleep(0.002)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    return longest


def burn(seconds: float) -> int:
    """Use CPU time, checking the deadline on the way; the thread it ended in."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        check()
    return threading.get_ident()


# --- where it runs ---


async def test_short_work_is_done_on_the_loop() -> None:
    here, off = threading.get_ident(), Offload()
    assert [await off.run("kind", threading.get_ident) for _ in range(3)] == [here] * 3
    assert off.offloaded == 0


async def test_the_first_long_computation_is_off_the_loop_already() -> None:
    off, here = Offload(), threading.get_ident()
    first = asyncio.ensure_future(off.run("slow", lambda: burn(1)))
    assert await longest_pause(first) < 0.5
    assert first.result() != here
    assert off.offloaded == 1


async def test_what_took_long_starts_in_a_thread_the_next_time() -> None:
    off, here, seen = Offload(), threading.get_ident(), []

    def work() -> None:
        seen.append(threading.get_ident())
        burn(0.05)

    await off.run("slow", work)
    await off.run("slow", work)
    assert [one == here for one in seen] == [True, False, False]
    assert await off.run("quick", threading.get_ident) == here
    assert await off.run("slow", threading.get_ident, size=1000) == here  # of another size nothing is known


async def test_after_eight_short_ones_in_a_row_it_starts_on_the_loop_again() -> None:
    off, here = Offload(), threading.get_ident()
    await off.run("kind", lambda: burn(0.03))
    for _ in range(7):
        assert await off.run("kind", threading.get_ident) != here
    await off.run("kind", lambda: burn(0.03))
    for _ in range(8):
        assert await off.run("kind", threading.get_ident) != here
    assert await off.run("kind", threading.get_ident) == here


async def test_large_work_starts_in_a_thread_two_at_a_time() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    off = Offload()
    await asyncio.gather(*(off.run(number, slow, large=True) for number in range(8)))
    assert most == 2
    assert off.offloaded == 8


async def test_a_machine_that_stands_still_sends_nothing_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps by seconds in the middle of evaluations; the CPU time of this thread does not."""
    jumps = itertools.count()
    monkeypatch.setattr(offload.time, "monotonic", lambda: 10.0 * next(jumps))

    def work() -> None:
        for _ in range(3):
            check()

    off = Offload()
    for _ in range(5000):
        await off.run("kind", work)
    assert off.offloaded == 0


async def test_now_and_then_a_long_one_does_not_send_the_rest_off_the_loop_for_ever() -> None:
    off = Offload()
    for number in range(5000):
        await off.run("kind", lambda number=number: burn(0.03) if number % 1000 == 500 else None)
    assert off.offloaded == 5 * 9  # each time the long one, and the eight after it


async def test_of_the_kinds_that_took_long_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "_MOST_REMEMBERED", 2)
    off, here = Offload(), threading.get_ident()
    for kind in "abc":
        await off.run(kind, lambda: burn(0.03))
    assert [await off.run(kind, threading.get_ident) == here for kind in "abc"] == [True, False, False]


# --- limits ---


async def test_past_its_limit_a_computation_ends_in_its_thread() -> None:
    off = Offload(limit=0.05)
    with pytest.raises(TookTooLong, match=r"took longer than 0\.05 s of CPU time") as caught:
        await off.run("slow", lambda: burn(5))
    assert not caught.value.running
    assert await off.run("other", threading.get_ident, large=True) != threading.get_ident()


def deaf(release: threading.Event) -> None:
    """Use CPU time without checking any deadline."""
    while not release.is_set():
        pass


async def test_a_thread_that_does_not_end_is_not_waited_for_and_keeps_its_slot() -> None:
    release, off = threading.Event(), Offload(most=1, limit=0.05, margin=0.05)
    try:
        with pytest.raises(TookTooLong) as caught:
            await off.run("deaf", lambda: deaf(release), large=True)
        assert caught.value.running
        next_one = asyncio.ensure_future(off.run("other", threading.get_ident, large=True))
        await asyncio.sleep(0.05)
        assert not next_one.done()
        assert off.waiting == 1
        assert await off.run("small", lambda: "on the loop") == "on the loop"
    finally:
        release.set()
    assert await asyncio.wait_for(next_one, 5) != threading.get_ident()
    assert off.waiting == 0


async def test_a_thread_that_waits_for_the_machine_is_waited_for() -> None:
    off = Offload(limit=0.05, margin=0.05)
    assert await off.run("slow", lambda: time.sleep(0.3) or "done", large=True) == "done"


async def test_a_system_that_gives_no_thread_takes_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    off = Offload(most=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await off.run("kind", lambda: "value", large=True)
    assert await asyncio.wait_for(off.run("kind", lambda: "value", large=True), 5) == "value"
    assert off.offloaded == 1


async def test_without_cpu_times_of_threads_wall_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    release, off = threading.Event(), Offload(limit=0.05, margin=0.05)
    with pytest.raises(TookTooLong):
        await off.run("waits", release.wait, large=True)
    release.set()


async def test_kinds_take_turns_however_many_wait_of_one() -> None:
    off, order = Offload(most=1), []
    tasks = [off.run("many", lambda: time.sleep(0.005) or order.append("many"), large=True) for _ in range(20)]
    tasks += [off.run("few", lambda: order.append("few"), large=True) for _ in range(2)]
    await asyncio.gather(*tasks)
    assert order[:6] == ["many", "many", "few", "many", "few", "many"]


async def test_a_cancelled_wait_uses_no_slot() -> None:
    release, off = threading.Event(), Offload(most=1)
    first = asyncio.ensure_future(off.run("first", release.wait, large=True))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(off.run("second", lambda: "second", large=True))
    third = asyncio.ensure_future(off.run("third", lambda: "third", large=True))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.wait_for(third, 5) == "third"
    assert await first
    assert await off.run("fourth", lambda: "fourth", large=True) == "fourth"


async def test_a_turn_that_comes_in_the_moment_of_a_cancellation_is_passed_on() -> None:
    off = Offload(most=1)
    await off._slots.acquire("a")
    waits = asyncio.ensure_future(off._slots.acquire("b"))
    await asyncio.sleep(0)
    off._slots.release()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await off.run("c", lambda: "c", large=True) == "c"


def test_a_template_on_the_loop_is_stopped_before_a_large_step() -> None:
    limit = Deadline(60, Deferred, work=20_000)
    limit.check(20_000)
    with pytest.raises(Deferred):
        limit.check(20_001)
    Deadline(60).check(10**9)


def test_a_deadline_holds_within_its_block_only() -> None:
    with pytest.raises(Overdue, match="took longer than 0 s of CPU time"), within(Deadline(0)):
        check()
    check()


def test_many_values_are_watched_few_are_not() -> None:
    with within(Deadline(0)):
        assert list(watched([1] * offload.STRIDE)) == [1] * offload.STRIDE
        with pytest.raises(Overdue):
            list(watched(dict.fromkeys(range(offload.STRIDE + 1)).values()))
    assert list(watched(range(2500))) == list(range(2500))


# --- threads ---


async def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(lambda: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        await Offload().run("kind", lambda: int("x"), large=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2), StopIteration(1)])
async def test_what_would_end_the_program_or_never_arrive_is_an_error_like_others(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"it raised {type(error).__name__}"):
        await in_thread(fail)


async def test_it_makes_no_one_wait() -> None:
    release = threading.Event()
    task = asyncio.create_task(in_thread(release.wait))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
