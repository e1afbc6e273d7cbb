"""What goes on beside the listeners while the engine runs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from engine.app import _in_background


async def test_a_background_task_that_ends_by_a_fault_is_reported_and_one_that_is_stopped_is_not(caplog):
    async def fail() -> None:
        raise LookupError("nobody foresaw this")

    async def go_on() -> None:
        await asyncio.sleep(60)

    async with AsyncExitStack() as stack:
        _in_background(stack, fail())
        _in_background(stack, go_on())
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    (record,) = caplog.records
    assert "fail ended because of a bug" in record.message
    assert record.exc_info[0] is LookupError
