"""What goes to a destination: how much at once, how often, and whether anything may at all. No I/O, a given clock."""

from engine.traffic.lane import Lane
from engine.traffic.lanes import Admitted, Ask, Lanes, Shut
from engine.traffic.limits import Limits, LimitTable
from engine.traffic.shutter import Block, BlockKind

__all__ = ["Admitted", "Ask", "Block", "BlockKind", "Lane", "Lanes", "LimitTable", "Limits", "Shut"]
