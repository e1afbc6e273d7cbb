"""When a delivery may go to a destination: concurrency, rate, fair share, memory and blocks. No I/O, a given clock."""

from engine.clients.limits import Limits, LimitTable
from engine.worker.destinations.circuit import Block, BlockKind
from engine.worker.destinations.destination import Destination
from engine.worker.destinations.table import Admitted, ClaimRequest, DestinationTable, NotAdmitted

__all__ = [
    "Admitted",
    "Block",
    "BlockKind",
    "ClaimRequest",
    "Destination",
    "DestinationTable",
    "LimitTable",
    "Limits",
    "NotAdmitted",
]
