"""The messages that say why a destination takes no deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, assert_never

from engine.core.units import format_duration
from engine.worker.destinations.circuit import Block
from engine.worker.destinations.table import NotAdmitted

#: How the reason of a delivery begins that waits for a blocked destination.
WAITS: Final = "waits for "
#: How much of a reason is compared, in characters: a destination keeps no more of one.
_MAX_REASON = 200


def waiting(denied: NotAdmitted) -> str:
    """Why a delivery waits."""
    if denied.block is None:
        return f"waits its turn for {denied.destination.name}"
    return f"{WAITS}{denied.destination.name}: {describe(denied.block)} (engine destinations shows it)"


def waiting_after(reason: str, denied: NotAdmitted) -> str:
    """Why a delivery waits after a failed attempt: the attempt's reason, and the block of its destination."""
    if denied.block is None:
        return reason
    why = waiting(denied)
    return why if " ".join(reason.split())[:_MAX_REASON] in why else f"{reason}; {why}"


def overdue(name: str, block: Block, within: float) -> str:
    """Why a delivery is dead that waited ``within`` seconds for a blocked destination."""
    return f"waited {format_duration(within)} for {name}: {describe(block)}"


def describe(block: Block) -> str:
    """What blocks a destination, and until when."""
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
    """What blocks a destination, and what to do about it."""
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
