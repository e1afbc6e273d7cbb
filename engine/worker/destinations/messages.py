"""The messages that say why a destination takes no deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from engine.core.units import format_duration
from engine.worker.destinations.circuit import Block, BlockKind
from engine.worker.destinations.destination import MAX_REASON, NotAdmitted

#: How the reason of a delivery begins that waits for a blocked destination.
WAITS: Final = "waits for "
#: What blocks a destination, and what to do about it.
_CAUSES: Final[Mapping[BlockKind, str]] = {
    "paused": "it said {}",
    "failing": "it keeps failing ({})",
    "refused": "it refuses the key ({}): fix it in the configuration",
    "gone": "it is gone ({})",
}
#: The same, and until when.
_DESCRIPTIONS: Final[Mapping[BlockKind, str]] = {
    "paused": "paused until {until} because {cause}",
    "failing": "{cause}; next probe at {until}",
    "refused": "{cause}; next probe at {until}",
    "gone": "{cause}; stopped until the configuration changes",
}


def waiting_message(denied: NotAdmitted) -> str:
    """Why a delivery waits."""
    if denied.block is None:
        return f"waits its turn for {denied.destination.name}"
    return f"{WAITS}{denied.destination.name}: {describe(denied.block)} (engine destinations shows it)"


def retry_message(reason: str, denied: NotAdmitted) -> str:
    """Why a delivery waits after a failed attempt: the attempt's reason, and the block of its destination."""
    if denied.block is None:
        return reason
    why = waiting_message(denied)
    return why if " ".join(reason.split())[:MAX_REASON] in why else f"{reason}; {why}"


def overdue_message(name: str, block: Block, within: float) -> str:
    """Why a delivery is dead that waited ``within`` seconds for a blocked destination."""
    return f"waited {format_duration(within)} for {name}: {describe(block)}"


def describe(block: Block) -> str:
    """What blocks a destination, and until when."""
    until = "?" if block.until is None else f"{datetime.fromtimestamp(block.until, UTC):%H:%M:%S} UTC"
    return _DESCRIPTIONS[block.kind].format(cause=cause(block), until=until)


def cause(block: Block) -> str:
    """What blocks a destination, and what to do about it."""
    return _CAUSES[block.kind].format(block.reason)
