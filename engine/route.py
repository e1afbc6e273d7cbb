"""Routes as they run: compiled from what the user wrote, with nothing in them that can still be invalid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from engine.filters import Filter
from engine.params import validate_rendered
from engine.registry import Registered
from engine.retry import RetryPolicy
from engine.templates import Template

Needs = frozenset[str]


@dataclass(frozen=True, slots=True)
class RoutedAction:
    """One action of a route, compiled: nothing in it can be invalid any more. ``timeout`` is in seconds."""

    name: str
    registered: Registered
    template: Template
    when: Filter | None
    needs: Needs
    retry: RetryPolicy
    timeout: float
    fixed: BaseModel | None = None

    def params(self, document: Mapping[str, Any]) -> BaseModel:
        """The parameters of one delivery, rendered and checked; ``fixed`` ones hold no template.

        Raises:
            TemplateError: a template failed, or came to something the action does not take.
            WantOfData: it reads data that is not at hand.
        """
        if self.fixed is not None:
            return self.fixed
        return validate_rendered(self.registered.params, self.template.render(document))


@dataclass(frozen=True, slots=True)
class Route:
    """One route, compiled. ``word`` is what templates see as ``route``."""

    id: str
    keys: tuple[str, ...]
    word: Mapping[str, str]
    per_run: bool
    filter: Filter
    actions: tuple[RoutedAction, ...]
    stop: bool = False
    sample: float | None = None

    @property
    def needs(self) -> Needs:
        """What deciding it can take: its filter's and its conditions' reads."""
        return self.filter.needs.union(*(action.when.needs for action in self.actions if action.when))
