"""What goes to a destination: how much at once, how often, and whether anything may at all. No I/O, a given clock."""

from engine.clients.limits import Limits, LimitTable
from engine.worker.destinations.circuit import Block, BlockKind
from engine.worker.destinations.destination import Lane
from engine.worker.destinations.table import Admitted, Ask, Lanes, Shut

__all__ = ["Admitted", "Ask", "Block", "BlockKind", "Lane", "Lanes", "LimitTable", "Limits", "Shut"]
