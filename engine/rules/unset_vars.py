"""Which templates read what is not known yet: ``vars`` with a variable in them that is not set."""

from __future__ import annotations

from engine.config import Config
from engine.rules.templates import Templates, is_template


class UnsetVars:
    """Tells it for one configuration."""

    def __init__(self, config: Config, templates: Templates) -> None:
        self._templates = templates
        places = (place for one in config.unset for place in one.places)
        self._names = frozenset(place[1] for place in places if place[0] == "vars" and len(place) > 1)

    def read_by(self, text: str) -> bool:
        """Whether a template reads one of them, or may."""
        if not self._names or not is_template(text):
            return False
        looks = [steps for _, steps in self._templates.inspector.looks(text, bare=False) if steps[0] == "vars"]
        return any(len(steps) < 2 or steps[1] is None or steps[1] in self._names for steps in looks)
