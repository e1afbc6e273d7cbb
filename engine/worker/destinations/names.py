"""What lanes are called."""

from __future__ import annotations

import hashlib
import re

from engine.core.masking import Masker

#: The longest name of a lane, in characters.
_LONGEST_NAME = 200
#: Names that are remembered, before all of them are worked out anew.
_MOST_NAMES = 4096
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class Names:
    """What lanes are called: the destination without secrets, on one line, of bounded length."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._masker: Masker | None = None

    def of(self, destination: str, masker: Masker) -> str:
        """A destination's."""
        if masker is not self._masker or len(self._names) >= _MOST_NAMES:
            self._masker, self._names = masker, {}
        name = self._names.get(destination)
        if name is None:
            name = self._names[destination] = name_of(destination, masker)
        return name


def name_of(destination: str, masker: Masker) -> str:
    """Two destinations never share a name: where something had to be left out, a digest tells them apart."""
    shown = _CONTROLS.sub(" ", masker.text(destination)).strip()[:_LONGEST_NAME]
    if shown == destination and shown:
        return shown
    digest = hashlib.sha256(destination.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown} ({digest})".strip()
