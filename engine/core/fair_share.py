"""How destinations share the slots for attempts in flight."""

from __future__ import annotations

#: One destination has at most one part in so many of all slots. As many slots are reserved for first attempts.
_PARTS = 4


class FairShare:
    """Shares ``total`` slots by a dynamic threshold (Choudhury and Hahne, "Dynamic queue length thresholds").

    A destination may start another attempt only while it has fewer in flight than there are free slots. So destinations
    that use all they get leave as many slots free as each of them has, however many they are. The threshold alone does
    not hold against destinations that arrive one after another and never free a slot: each would halve what is free.
    So the last quarter of the slots (``reserve``) is for first attempts only. A destination with nothing in flight can
    always start one while fewer than ``reserve`` destinations have any in flight.
    """

    __slots__ = ("has_waiters", "max_each", "reserve", "taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        #: The most slots of one destination, whatever its limits are; and the slots for first attempts.
        self.max_each, self.reserve = max(total // _PARTS, 1), total // _PARTS
        self.taken = 0
        #: Whether an attempt that its own limits allowed found no slot, and must be tried when one becomes free.
        self.has_waiters = False

    @property
    def free(self) -> int:
        """How many slots are free in total."""
        return max(self.total - self.taken, 0)

    def available(self, in_flight: int) -> int:
        """How many more attempts a destination may start that has ``in_flight``."""
        # Each attempt adds one to what is in flight and takes one from what is free: they meet half way.
        fair = max((self.free - self.reserve - in_flight + 1) // 2, 0)
        return fair if in_flight else max(fair, min(self.free, 1))
