"""The memory that fetched data may take: one budget, an account for each event."""

from __future__ import annotations

import asyncio

import pytest

from engine.core import memory_budget as module
from engine.core.errors import DataTooLarge, NotNow
from engine.core.memory_budget import Memory, size_of


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)


async def test_an_account_takes_and_gives_back() -> None:
    memory = Memory(100)
    account = memory.account(base=10)
    await account.grow(60)
    account.shrink(20)
    assert (account.size, memory.held, memory.fits(60), memory.fits(61)) == (40, 40, True, False)
    account.add(100)
    assert (account.size, memory.held) == (140, 140), "what is there already counts, whatever the limit says"
    del account
    assert memory.held == 0


async def test_what_can_never_fit_is_refused_at_once_and_uses_nothing() -> None:
    memory = Memory(2**20)
    account = memory.account(base=2**19)
    with pytest.raises(DataTooLarge, match=r"exceeds the memory limit \(--memory-limit is 1MiB\)"):
        await account.grow(2**19 + 1)
    await account.grow(2**19)
    with pytest.raises(DataTooLarge):
        account.check(1)
    assert memory.held == 2**19


async def test_what_others_take_counts(quick: None) -> None:
    others = 50
    memory = Memory(100, lambda: others)
    await memory.account().grow(50)
    account = memory.account()
    with pytest.raises(NotNow, match="other events use all of the memory"):
        await account.grow(51)
    await account.grow(50)
    assert memory.held == 50, "the first account is gone, and has given its bytes back"


async def test_the_first_account_waits_and_continues_when_there_is_memory(quick: None) -> None:
    memory = Memory(100)
    one, other = memory.account(), memory.account()
    await other.grow(60)
    waiting = asyncio.gather(one.grow(50), one.grow(50))
    await asyncio.sleep(0.1)
    assert (one.size, memory.held) == (0, 60)
    other.shrink(60)
    await waiting
    assert (one.size, memory.held) == (100, 100)


async def test_of_two_accounts_that_wait_for_each_other_the_later_gives_up(quick: None) -> None:
    memory = Memory(100)
    one, other = memory.account(), memory.account()
    await one.grow(50)
    await other.grow(50)
    later = asyncio.create_task(other.grow(10))
    await asyncio.sleep(0)
    first = asyncio.create_task(one.grow(10))
    with pytest.raises(NotNow):
        await later
    assert not first.done()
    other.shrink(50)
    await first
    assert (one.size, other.size) == (60, 0)


async def test_waiting_ends(quick: None) -> None:
    memory = Memory(100)
    one, other = memory.account(), memory.account()
    await other.grow(100)
    with pytest.raises(NotNow) as caught:
        await one.grow(1)
    assert (caught.value.until, caught.value.blocked, caught.value.due_at(10.0)) == (None, False, 15.0)
    assert (one.size, memory.held) == (0, 100)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("x" * 1000, 1000, 1100), ([[]] * 1000, 1000 * 72, 1000 * 90), ({"a": {"b": 1}}, 400, 800), (None, 1, 50)],
)
def test_the_size_of_a_value_is_what_python_says(value: object, least: int, most: int) -> None:
    assert least <= size_of(value) <= most


def test_when_to_try_again() -> None:
    assert NotNow("", until=100.0).due_at(50.0) == 100.0
    assert NotNow("", until=100.0).due_at(100.0) == 101.0
    assert NotNow("", blocked=True).due_at(0.0) == 300.0
