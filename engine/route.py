"""Routes as they run: compiled from what the user wrote, with nothing in them that can still be invalid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from engine.errors import ParamsError, TemplateError
from engine.filters import Filter
from engine.params import Leaves, Path, validate_rendered
from engine.params_words import dotted
from engine.registry import Registered
from engine.retry import RetryPolicy
from engine.templates import Template

Needs = frozenset[str]


@dataclass(frozen=True, slots=True)
class RoutedAction:
    """One action of a route, compiled: nothing in it can be invalid any more. ``timeout`` is in seconds.

    ``hosts`` are the author's own, which it may reach wherever they are.
    ``place`` tells where in the file a parameter stands, as ``config.yaml:14``: from its place among the
    parameters, and the line within it.
    """

    name: str
    registered: Registered
    template: Template
    when: Filter | None
    needs: Needs
    retry: RetryPolicy
    timeout: float
    fixed: BaseModel | None = None
    hosts: frozenset[str] = frozenset()
    place: Callable[[Path, int], str] = field(default=lambda _where, _line: "", repr=False, compare=False)

    def params(self, document: Mapping[str, Any]) -> BaseModel:
        """The parameters of one delivery, rendered and checked; ``fixed`` ones hold no template.

        Raises:
            ParamsError: a template failed, or came to something the action does not take; says where it stands.
            WantOfData: it reads data that is not at hand.
        """
        if self.fixed is not None:
            return self.fixed
        try:
            rendered = self.template.render(document)
            return validate_rendered(
                self.registered.params, rendered, Leaves(self.template.templated, self.template.mixed)
            )
        except TemplateError as error:
            raise self._located(error) from error

    def _located(self, error: TemplateError) -> ParamsError:
        """The error with the parameter it is about, and the line to look at."""
        name = dotted(error.where) or self.name
        place = self.place(error.where, error.line)
        subject = f"{name} ({place})" if place else name
        words = str(error).removeprefix(f"{self.registered.name} ")
        return ParamsError(f"{subject}: {words}", where=error.where, line=error.line, hint=error.hint)


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
