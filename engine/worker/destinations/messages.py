"""What is said to people of a lane that takes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, assert_never

from engine.core.units import format_duration
from engine.worker.destinations.circuit import Block
from engine.worker.destinations.table import Shut

#: How a reason says that a destination takes nothing for now.
WAITS: Final = "waits for "
#: So much of a reason, in characters, tells it from others: a lane keeps no more of one than it shows.
_TOLD = 200


def waiting(shut: Shut) -> str:
    """Why a delivery waits."""
    if shut.block is None:
        return f"waits its turn for {shut.lane.name}"
    return f"{WAITS}{shut.lane.name}: {describe(shut.block)} (engine destinations shows it)"


def waiting_after(reason: str, shut: Shut) -> str:
    """Why a delivery waits that was attempted in vain: for what that came to, and for a destination that is shut."""
    if shut.block is None:
        return reason
    why = waiting(shut)
    return why if " ".join(reason.split())[:_TOLD] in why else f"{reason}; {why}"


def overdue(shut: Shut, within: float) -> str:
    """Why a delivery is dead that has waited too long."""
    why = f": {describe(shut.block)}" if shut.block is not None else ", whose turn did not come"
    return f"waited {format_duration(within)} for {shut.lane.name}{why}"


def describe(block: Block) -> str:
    """What keeps deliveries away, and until when."""
    match block.kind:
        case "paused":
            return f"paused until {_time(block.until)} because {cause(block)}"
        case "failing" | "refused":
            return f"{cause(block)}; next probe at {_time(block.until)}"
        case "gone":
            return f"{cause(block)}; stopped until the configuration changes"
        case _:
            assert_never(block.kind)


def cause(block: Block) -> str:
    """What keeps deliveries away, and what to do about it."""
    match block.kind:
        case "paused":
            return f"it said {block.reason}"
        case "failing":
            return f"it keeps failing ({block.reason})"
        case "refused":
            return f"it refuses the key ({block.reason}): fix it in the configuration"
        case "gone":
            return f"it is gone ({block.reason})"
        case _:
            assert_never(block.kind)


def _time(at: float | None) -> str:
    return "?" if at is None else f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"
