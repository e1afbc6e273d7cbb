"""'Did you mean' for every name a person can get wrong."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str], *, foreign: dict[str, str] | None = None) -> str:
    """A hint that names the nearest known word, else lists all; ``foreign`` maps other dialects' words."""
    names = sorted(set(known))
    translated = (foreign or {}).get(word) or (foreign or {}).get(word.lower())
    if translated:
        return f"did you mean {translated!r}?"
    folded = {name.lower(): name for name in reversed(names)}
    near = get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"known are: {', '.join(names)}" if names else ""
