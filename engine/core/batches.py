"""Sequences in groups of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in groups of at most ``size``, in their order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
