"""Feedback rows from LangSmith's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def feedback_error(row: Mapping[str, Any]) -> str | None:
    """The error in a feedback row; None if the row is a score.

    LangSmith writes such rows when an evaluator fails or feedback does not match its key's configuration, as
    ``extra.error``, formerly as ``error``.
    """
    extra = row.get("extra")
    for found in (extra.get("error") if isinstance(extra, Mapping) else None, row.get("error")):
        if found:
            return _message(found) or _message(row.get("comment")) or "LangSmith does not say why"
    return None


def _message(error: object) -> str:
    if isinstance(error, Mapping):
        error = next((error[key] for key in ("message", "detail", "error") if error.get(key)), str(dict(error)))
    return " ".join(error.split()) if isinstance(error, str) else ""
