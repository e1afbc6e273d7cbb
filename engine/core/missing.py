"""A value that is not in the webhook and was not, or could not be, fetched."""

from __future__ import annotations

from typing import Any, NoReturn

from engine.core.errors import DataMissing, DataTooLarge


class Missing:
    """Placeholder for missing data in a document. Any access raises ``DataMissing``.

    A condition that reads it is undecided, so that a route neither matches nor fails to match by accident. A delivery
    that reads it is retried. ``too_large``: the data is too large to be fetched, so a retry cannot help; the access
    raises ``DataTooLarge``.
    """

    __slots__ = ("need", "reason", "too_large")

    def __init__(self, need: str, reason: str, *, too_large: bool = False) -> None:
        self.need = need
        self.reason = reason
        self.too_large = too_large

    def _raise(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise (DataTooLarge if self.too_large else DataMissing)(f"{self.need}: {self.reason}")

    __getitem__ = __iter__ = __len__ = __contains__ = __str__ = __bool__ = __call__ = _raise
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __int__ = __float__ = _raise
    __hash__ = _raise

    def __eq__(self, other: object) -> bool:
        self._raise()

    def __repr__(self) -> str:
        return f"<{self.need} not available: {self.reason}>"
