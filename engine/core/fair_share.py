"""What all lanes of a process share: places for attempts, and memory for deliveries that wait for one."""

from __future__ import annotations

#: One destination has this part of all places at most, and the last such part is for those that have none.
_PART = 4


class Memory:
    """Bytes for all deliveries that wait in memory. A lane leaves as many free as those have that wait for it."""

    __slots__ = ("taken", "total")

    def __init__(self, total: float) -> None:
        self.total, self.taken = total, 0

    @property
    def free(self) -> float:
        """How many are free."""
        return self.total - self.taken


class Places:
    """So many attempts at once, shared by a dynamic threshold (Choudhury and Hahne, "Dynamic queue length thresholds").

    A lane may begin another attempt only while it has fewer under way than there are places free: so lanes that keep
    all they get leave as many free as each of them has, however many they are. A threshold alone would give way to
    lanes that come one after another and give nothing back: each would halve what is free. So the last quarter of the
    places (``reserve``) is for first attempts only: a lane with nothing under way can always begin as long as fewer
    lanes than that have anything under way.
    """

    __slots__ = ("most", "reserve", "short", "taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        #: How many one lane may have, whatever its limits say; and how many are for first attempts only.
        self.most, self.reserve = max(total // _PART, 1), total // _PART
        self.taken = 0
        #: Whether somebody who could have begun otherwise found none, and is to be told when one is free.
        self.short = False

    @property
    def free(self) -> int:
        """How many are free in all."""
        return max(self.total - self.taken, 0)

    def more(self, under_way: int) -> int:
        """How many further attempts a lane may begin that has so many under way."""
        # With each that begins it has one more, and one place less is free: they meet half way.
        fair = max((self.free - self.reserve - under_way + 1) // 2, 0)
        return fair if under_way else max(fair, min(self.free, 1))
