"""The names under which destinations are shown and stored."""

from __future__ import annotations

import hashlib
import re

from engine.core.masking import Masker

#: The longest name, in characters.
_MAX_NAME = 200
#: The most names in the cache; when it is full, it is cleared.
_MAX_CACHED = 4096
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class Names:
    """A cache of ``name_of`` for one masker."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._masker: Masker | None = None

    def of(self, raw_name: str, masker: Masker) -> str:
        """The name of a destination."""
        if masker is not self._masker or len(self._names) >= _MAX_CACHED:
            self._masker, self._names = masker, {}
        name = self._names.get(raw_name)
        if name is None:
            name = self._names[raw_name] = name_of(raw_name, masker)
        return name


def name_of(raw_name: str, masker: Masker) -> str:
    """A destination's name without secrets, on one line, of bounded length.

    Two destinations never share a name: where something is masked or cut, a digest distinguishes them.
    """
    shown = _CONTROLS.sub(" ", masker.text(raw_name)).strip()[:_MAX_NAME]
    if shown == raw_name and shown:
        return shown
    digest = hashlib.sha256(raw_name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown} ({digest})".strip()
