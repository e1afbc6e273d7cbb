"""Feedback rows as LangSmith answers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def feedback_error(row: Mapping[str, Any]) -> str | None:
    """Why a row is an error and judges nothing; None where it does judge.

    An evaluator that failed leaves such a row, and so does feedback that does not fit its key's configuration.
    LangSmith writes it as ``extra.error``, and wrote it as ``error`` before.
    """
    extra = row.get("extra")
    for found in (extra.get("error") if isinstance(extra, Mapping) else None, row.get("error")):
        if found:
            return _words(found) or _words(row.get("comment")) or "LangSmith does not say why"
    return None


def _words(error: object) -> str:
    if isinstance(error, Mapping):
        error = next((error[key] for key in ("message", "detail", "error") if error.get(key)), str(dict(error)))
    return " ".join(error.split()) if isinstance(error, str) else ""
