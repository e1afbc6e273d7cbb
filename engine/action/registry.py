"""Name → action: built-in, from an installed package, or from a file in a ``plugins:`` folder, all verified."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, PydanticUndefinedAnnotation

from engine.action.contract import Action, Need
from engine.action.error_place import package_of, place_in
from engine.core.error_text import named_error
from engine.core.errors import Problem
from engine.core.log_context import log_like_engine
from engine.core.suggest import did_you_mean

ENTRY_POINT_GROUP = "langsmith_rules_engine.actions"
DISTRIBUTION = "langsmith-rules-engine"


@dataclass(frozen=True, slots=True)
class Registered:
    """One action under the name that YAML uses.

    ``origin`` tells people where it comes from, ``code`` one version of a plug-in's file from another. What is not
    ``builtin`` runs on a loop of its own.
    """

    name: str
    action: Action
    origin: str
    builtin: bool = False
    code: str = ""

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
        """Message and hint for a name that no action has. One that could not be loaded is in ``broken``."""
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


def register(name: str, candidate: Any, origin: str, *, builtin: bool = False) -> Registered | Problem:
    """Verify an action's class and make its one instance, or say what is wrong with it.

    ``origin`` is its file, or the package that offers it.
    """
    try:
        if fault := next(_faults(candidate), None):
            return _problem(origin, fault.message, fault.hint, fault.about, candidate)
    except BaseException as error:  # noqa: BLE001 - looking at a foreign class may run its code
        message = f"{name} cannot be looked at: {named_error(error)}"
        return _problem(origin, message, "it is no usual class of actions", candidate)
    try:
        return Registered(name, candidate(), origin, builtin)
    except BaseException as error:  # noqa: BLE001 - foreign constructor
        return _not_made(origin, candidate, error)


def _not_made(origin: str, candidate: type[Action], error: BaseException) -> Problem:
    """The constructor failed: where it did, if it is in the action's own file."""
    message = f"{candidate.__name__}() raised {named_error(error)}"
    problem = _problem(origin, message, "an action is made once, without arguments", candidate)
    file, line = place_in(error, package_of(candidate)) or ("", 0)
    return replace(problem, line=line) if file == origin else problem


class _Fault(NamedTuple):
    """What is wrong with a class, the way to fix it, and the part of it that this is about."""

    message: str
    hint: str
    about: Any


def _problem(origin: str, message: str, hint: str, *about: Any) -> Problem:
    """A problem where the first of some classes and functions is defined that is defined in this file."""
    line = next(filter(None, (line_of(one, origin) for one in about)), 0)
    return Problem(origin, line, 1 if line else 0, message, hint)


def line_of(about: Any, origin: str) -> int:
    """Where a class or function is defined in a plug-in's file; 0 where it is not, or is in no such file."""
    try:
        return inspect.getsourcelines(about)[1] if inspect.getsourcefile(about) == origin else 0
    except Exception:  # noqa: BLE001 - inspect reads and parses the file, which may have changed, and foreign objects
        return 0


def _faults(candidate: Any) -> Iterator[_Fault]:
    """What is wrong with a class that wants to be an action."""
    if not (inspect.isclass(candidate) and issubclass(candidate, Action)):
        yield _Fault(f"{candidate!r} is not an action", "write: class MyAction(engine.Action): …", candidate)
        return
    name, run = candidate.__name__, candidate.run
    if not inspect.iscoroutinefunction(run):
        yield _Fault(f"{name}.run is not async", f"{_RUN} (code that blocks: await asyncio.to_thread(…))", run)
    elif inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))
        yield _Fault(f"{name} does not define {missing}", _RUN, candidate)
    elif not _takes_two(run):
        written = f"def run{inspect.signature(run)}"
        yield _Fault(f"{name}.run takes other arguments than (self, params, context): {written}", _RUN, run)
    yield from _params_faults(candidate)
    if candidate.main and candidate.main not in getattr(candidate.Params, "model_fields", {candidate.main: None}):
        message = f"{name}.main is {candidate.main!r}, which Params does not have"
        yield _Fault(message, "let it name one of the parameters", candidate)
    if unknown := frozenset(candidate.needs) - frozenset(get_args(Need)):
        yield _Fault(f"{name}.needs names {sorted(unknown)}", f"known are: {', '.join(get_args(Need))}", candidate)


#: How the method is written.
_RUN = "write: async def run(self, params, context): …"


def _takes_two(run: Any) -> bool:
    """Whether it can be called as the engine calls it."""
    try:
        inspect.signature(run).bind("self", "params", "context")
    except TypeError:
        return False
    return True


def _params_faults(owner: type[Action]) -> Iterator[_Fault]:
    name, params = owner.__name__, owner.Params
    if not (inspect.isclass(params) and issubclass(params, BaseModel)):
        yield _Fault(f"{name}.Params is not a class of parameters", "write: class Params(engine.Params): …", owner)
        return
    if params.model_config.get("extra") != "forbid":
        yield _Fault(f"{name}.Params would ignore unknown parameters", "derive it from engine.Params", params)
    try:
        params.model_rebuild()  # resolves names of types that were not there when the class was made
    except PydanticUndefinedAnnotation as error:
        message = f"{name}.Params uses the type {error.name!r}, which is not defined"
        yield _Fault(message, "import or define it at the top of the file", params)


def clash(origin: str, name: str, other: str, *, line: int = 0) -> Problem:
    """Two actions claim one name; neither may win silently."""
    return Problem(origin, line, 1 if line else 0, f"the name {name!r} is taken by {other}", "rename the file")
