"""'Did you mean' suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

#: Words this short share half of their letters by chance, such as ``tags`` and ``status``.
_SHORT = 5


def nearest(word: str, known: Iterable[str], *, foreign: Mapping[str, str] | None = None) -> str:
    """The most similar known word, or empty. ``foreign`` maps words of other products to known ones."""
    translated = (foreign or {}).get(word) or (foreign or {}).get(word.lower())
    if translated:
        return translated
    folded = {name.lower(): name for name in sorted(set(known), reverse=True)}
    near = get_close_matches(word.lower(), sorted(folded), n=1, cutoff=0.6 if len(word) > _SHORT else 0.65)
    return folded[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str], *, foreign: Mapping[str, str] | None = None) -> str:
    """A hint with the most similar known word, else a list of all. ``foreign`` maps words of other products."""
    names = sorted(set(known))
    if near := nearest(word, names, foreign=foreign):
        return f"did you mean {near!r}?"
    return f"known are: {', '.join(names)}" if names else ""
