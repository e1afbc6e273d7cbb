"""A value that LangSmith did not send along and that was not, or could not be, fetched."""

from __future__ import annotations

from typing import Any, NoReturn

from engine.core.errors import DataTooLarge, WantOfData


class Missing:
    """Stands in a document where data is wanting. Any look inside raises ``WantOfData``.

    Conditions that meet one are undecided *for want of data*, so that nothing matches or
    fails to match by accident; deliveries that meet one are retried. ``for_good``: the data is too
    large to be fetched, so a retry changes nothing, and ``DataTooLarge`` is raised.
    """

    __slots__ = ("for_good", "need", "reason")

    def __init__(self, need: str, reason: str, *, for_good: bool = False) -> None:
        self.need = need
        self.reason = reason
        self.for_good = for_good

    def _raise(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise (DataTooLarge if self.for_good else WantOfData)(f"{self.need}: {self.reason}")

    __getitem__ = __iter__ = __len__ = __contains__ = __str__ = __bool__ = __call__ = _raise
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __int__ = __float__ = _raise
    __hash__ = _raise

    def __eq__(self, other: object) -> bool:
        self._raise()

    def __repr__(self) -> str:
        return f"<{self.need} not at hand: {self.reason}>"
