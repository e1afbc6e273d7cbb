"""Name → action: built-in, from an installed package, or from a file in a ``plugins:`` folder, all verified."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from pydantic import BaseModel

from engine.action import Action, Need
from engine.error_text import named_error
from engine.errors import Problem
from engine.log_context import log_like_engine
from engine.suggest import did_you_mean

ENTRY_POINT_GROUP = "langsmith_rules_engine.actions"
DISTRIBUTION = "langsmith-rules-engine"


@dataclass(frozen=True, slots=True)
class Registered:
    """One action under the name that YAML uses.

    ``origin`` tells people where it comes from. What is not ``builtin`` runs on a loop of its own.
    """

    name: str
    action: Action
    origin: str
    builtin: bool = False

    @property
    def params(self) -> type[BaseModel]:
        """The model that its parameters are checked against."""
        return self.action.Params

    def parameters(self, written: Any) -> dict[str, Any] | None:
        """The parameters by name: a text or a list stands for the main one. None where that cannot be."""
        if isinstance(written, Mapping):
            return dict(written)
        main = self.action.main
        return {main: written} if main and isinstance(written, (str, list)) else None

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.action) or "").partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Registry:
    """Every action there is. ``broken`` tells, by name, why one that was found cannot be used."""

    actions: Mapping[str, Registered]
    broken: Mapping[str, Problem] = field(default_factory=dict)
    clashes: tuple[Problem, ...] = ()

    def get(self, name: str) -> Registered | None:
        """The action of that name."""
        return self.actions.get(name)

    def __iter__(self) -> Iterator[Registered]:
        return iter(sorted(self.actions.values(), key=lambda registered: registered.name))

    def explain_missing(self, name: str) -> tuple[str, str]:
        """Message and hint for a name that is not there: a typo, or a plug-in that failed to load."""
        if problem := self.broken.get(name):
            hint = f"{problem.hint}; " if problem.hint else ""
            return f"action {name!r} cannot be used: {problem.message}", f"{hint}mend {problem.place}"
        return f"unknown action {name!r}", did_you_mean(name, self.actions)


def load_installed(found: Iterable[EntryPoint] | None = None) -> Registry:
    """The actions that installed packages offer, ours among them, each verified. One that fails hurts no other."""
    actions: dict[str, Registered] = {}
    broken: dict[str, Problem] = {}
    clashes: list[Problem] = []
    for entry in entry_points(group=ENTRY_POINT_GROUP) if found is None else found:
        origin, builtin = _origin(entry)
        registered = _load_entry(entry, origin, builtin=builtin)
        if isinstance(registered, Problem):
            broken[entry.name] = registered
        elif (other := actions.get(entry.name)) is not None and _class_of(other) is not _class_of(registered):
            clashes.append(clash(origin, entry.name, other.origin))
        else:
            actions[entry.name] = registered
    return Registry(actions, broken, tuple(clashes))


def _class_of(registered: Registered) -> type[Action]:
    return type(registered.action)


def _origin(entry: EntryPoint) -> tuple[str, bool]:
    if entry.dist is None:
        return entry.value, False
    return f"{entry.dist.name} {entry.dist.version}", entry.dist.name == DISTRIBUTION


def _load_entry(entry: EntryPoint, origin: str, *, builtin: bool) -> Registered | Problem:
    try:
        loaded = entry.load()
    except BaseException as error:  # noqa: BLE001 - foreign code, imported: whatever it raises is reported
        return Problem(origin, 0, 0, f"{entry.value} cannot be imported: {named_error(error)}")
    if not builtin:
        log_like_engine(entry.module)
    return register(entry.name, loaded, origin, builtin=builtin)


def register(name: str, candidate: Any, origin: str, *, line: int = 0, builtin: bool = False) -> Registered | Problem:
    """Verify an action's class and make its one instance, or say what is wrong with it."""
    where = (origin, line, 1 if line else 0)
    try:
        if fault := next(_faults(candidate), None):
            return Problem(*where, *fault)
    except BaseException as error:  # noqa: BLE001 - looking at a foreign class may run its code
        return Problem(*where, f"{name} cannot be looked at: {named_error(error)}", "it is no usual class of actions")
    try:
        return Registered(name, candidate(), origin, builtin)
    except BaseException as error:  # noqa: BLE001 - foreign constructor
        message = f"{candidate.__name__}() raised {named_error(error)}"
        return Problem(*where, message, "an action is made once, without arguments")


def _faults(candidate: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with a class that wants to be an action, with the way to mend it."""
    if not (inspect.isclass(candidate) and issubclass(candidate, Action)):
        yield f"{candidate!r} is not an action", "write: class MyAction(engine.Action): …"
        return
    name = candidate.__name__
    if not inspect.iscoroutinefunction(candidate.run):
        yield f"{name}.run is not async", "write: async def run(self, params, context): …"
    elif inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))
        yield f"{name} does not define {missing}", "write: async def run(self, params, context): …"
    elif len(inspect.signature(candidate.run).parameters) != 3:
        yield f"{name}.run takes other arguments than (self, params, context)", "the engine calls run(params, context)"
    yield from _params_faults(name, candidate.Params)
    if candidate.main and candidate.main not in getattr(candidate.Params, "model_fields", {candidate.main: None}):
        yield f"{name}.main is {candidate.main!r}, which Params does not have", "let it name one of the parameters"
    if unknown := frozenset(candidate.needs) - frozenset(get_args(Need)):
        yield f"{name}.needs names {sorted(unknown)}", f"known are: {', '.join(get_args(Need))}"


def _params_faults(name: str, params: Any) -> Iterator[tuple[str, str]]:
    if not (inspect.isclass(params) and issubclass(params, BaseModel)):
        yield f"{name}.Params is not a class of parameters", "write: class Params(engine.Params): …"
    elif params.model_config.get("extra") != "forbid":
        yield f"{name}.Params would ignore unknown parameters", "derive it from engine.Params"


def clash(origin: str, name: str, other: str, *, line: int = 0) -> Problem:
    """Two actions claim one name; neither may win silently."""
    return Problem(origin, line, 1 if line else 0, f"the name {name!r} is taken by {other}", "rename the file")
