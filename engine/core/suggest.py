"""'Did you mean' suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

#: Words this short share half of their letters by chance, such as ``tags`` and ``status``.
_SHORT = 5
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def nearest(word: str, known: Iterable[str], *, synonyms: Mapping[str, str] = _NONE) -> str:
    """The most similar known word, or empty. ``synonyms`` maps other words, such as other products', to known ones."""
    if synonym := synonyms.get(word) or synonyms.get(word.lower()):
        return synonym
    folded = {name.lower(): name for name in sorted(set(known), reverse=True)}
    near = get_close_matches(word.lower(), sorted(folded), n=1, cutoff=0.6 if len(word) > _SHORT else 0.65)
    return folded[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str], *, synonyms: Mapping[str, str] = _NONE) -> str:
    """A hint with the most similar known word, else a list of all."""
    names = sorted(set(known))
    if near := nearest(word, names, synonyms=synonyms):
        return f"did you mean {near!r}?"
    return f"known are: {', '.join(names)}" if names else ""
