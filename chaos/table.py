"""The table that ``make chaos`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A row. ``good`` is None if nothing is promised; ``must`` is the promise."""

    name: str
    value: str
    must: str = ""
    good: bool | None = None

    @property
    def text(self) -> str:
        """For the table."""
        verdict = "" if self.good is None else ("ok" if self.good else "BROKEN")
        must = f"({self.must})" if self.must else ""
        return f"{self.name:<52} {self.value:>22}  {verdict} {must}".rstrip()


def counted(title: str, counts: Sequence[tuple[str, int]], *, total: int | None = None) -> list[Row]:
    """A sum and its parts."""
    whole = sum(count for _, count in counts) if total is None else total
    return [Row(title, f"{whole:,}"), *(Row(f"  {name:.60}", f"{count:,}") for name, count in counts if count)]
