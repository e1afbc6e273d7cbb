"""Name → action: built-in, from an installed package, or from a ``plugins:`` folder. All are verified."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, PydanticUndefinedAnnotation

from engine.action.contract import Action, Need
from engine.action.error_place import Place, package_of, place_in
from engine.core.error_text import named_error
from engine.core.errors import Problem
from engine.core.log_context import log_like_engine
from engine.core.masking import shortened
from engine.core.suggest import did_you_mean

ENTRY_POINT_GROUP = "langsmith_rules_engine.actions"
DISTRIBUTION = "langsmith-rules-engine"
#: The hint for an action whose name is taken.
_RENAME = "rename the file"


@dataclass(frozen=True, slots=True)
class Registered:
    """One action under its name in YAML.

    ``origin`` says where it comes from. ``code`` is the digest of a plug-in's file. Actions that are not ``builtin``
    run on the plug-in loop.
    """

    name: str
    action: Action
    origin: str
    builtin: bool = False
    code: str = ""

    @property
    def params(self) -> type[BaseModel]:
        """The model of its parameters."""
        return self.action.Params

    def parameters(self, written: Any) -> dict[str, Any] | None:
        """The parameters by name; a text or a list is the value of ``main``. None if that is not possible."""
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
    """All actions. ``broken`` has, by name, why an action that was found cannot be used."""

    actions: Mapping[str, Registered]
    broken: Mapping[str, Problem] = field(default_factory=dict)
    clashes: tuple[Problem, ...] = ()

    def get(self, name: str) -> Registered | None:
        """The action of that name."""
        return self.actions.get(name)

    def __iter__(self) -> Iterator[Registered]:
        return iter(sorted(self.actions.values(), key=lambda registered: registered.name))

    def with_found(self, found: Iterable[tuple[str, Registered | Problem]]) -> Registry:
        """This registry with more actions. The first one keeps a name, unless another is of the same class."""
        actions, broken, clashes = dict(self.actions), dict(self.broken), list(self.clashes)
        for name, one in found:
            if isinstance(one, Problem):
                broken.setdefault(name, one)
            elif (other := actions.setdefault(name, one)) is one or type(other.action) is type(one.action):
                actions[name] = one
            else:
                at = 1 if one.code else 0  # a plug-in's file, or a package
                clashes.append(Problem(one.origin, at, at, f"the name {name!r} is taken by {other.origin}", _RENAME))
        return replace(self, actions=actions, broken=broken, clashes=tuple(clashes))

    def explain_missing(self, name: str) -> tuple[str, str]:
        """Message and hint for a name that no action has. One that could not be loaded is in ``broken``."""
        return f"unknown action {name!r}", did_you_mean(name, self.actions)


def load_installed(found: Iterable[EntryPoint] | None = None) -> Registry:
    """Load the actions of installed packages, including the built-in ones. One that fails does not affect others."""
    entries = entry_points(group=ENTRY_POINT_GROUP) if found is None else found
    return Registry({}).with_found((entry.name, _load_entry(entry)) for entry in entries)


def _load_entry(entry: EntryPoint) -> Registered | Problem:
    package = entry.dist
    origin = entry.value if package is None else f"{package.name} {package.version}"
    builtin = package is not None and package.name == DISTRIBUTION
    try:
        loaded = entry.load()
    except BaseException as error:  # noqa: BLE001 - the package may raise anything; it is reported
        return Problem(origin, 0, 0, f"{entry.value} cannot be imported: {named_error(error)}")
    if not builtin:
        log_like_engine(entry.module)
    return register(entry.name, loaded, origin, builtin=builtin)


def register(name: str, candidate: Any, origin: str, *, builtin: bool = False) -> Registered | Problem:
    """Verify an action's class and create its instance, or return what is wrong with it.

    ``origin`` is its file or its package.
    """
    place: Place | None = None
    try:
        fault = next(_faults(candidate), None)
    except BaseException as error:  # noqa: BLE001 - inspecting a class may run its code
        hint = "derive the class from engine.Action, without a metaclass or descriptors of its own"
        fault = _Fault(f"{name} cannot be inspected: {named_error(error)}", hint, candidate)
    try:
        if fault is None:
            return Registered(name, candidate(), origin, builtin)
    except BaseException as error:  # noqa: BLE001 - the constructor may raise anything
        hint = "the engine creates one instance, without arguments: def __init__(self): …"
        fault = _Fault(f"{candidate.__name__}() raised {named_error(error)}", hint, candidate)
        place = place_in(error, package_of(candidate))
    line = place[1] if place and place[0] == origin else line_of(fault.about, origin) or line_of(candidate, origin)
    return Problem(origin, line, 1 if line else 0, fault.message, fault.hint)


class _Fault(NamedTuple):
    """What is wrong with a class, how to fix it, and the part that is wrong."""

    message: str
    hint: str
    about: Any


def line_of(about: Any, origin: str) -> int:
    """The line of a class or function in a plug-in's file; 0 if it is not defined there."""
    try:
        return inspect.getsourcelines(about)[1] if inspect.getsourcefile(about) == origin else 0
    except Exception:  # noqa: BLE001 - inspect reads a file that may have changed, and objects of plug-ins
        return 0


def _faults(candidate: Any) -> Iterator[_Fault]:
    """What is wrong with an action's class."""
    if not (inspect.isclass(candidate) and issubclass(candidate, Action)):
        yield _Fault(f"{candidate!r} is not an action", "write: class MyAction(engine.Action): …", candidate)
        return
    yield from _method_faults(candidate)
    yield from _params_faults(candidate)
    yield from _attribute_faults(candidate)


def _method_faults(kind: type[Action]) -> Iterator[_Fault]:
    for name, expected in inspect.getmembers(Action, inspect.isfunction):
        method, arguments = getattr(kind, name), list(inspect.signature(expected).parameters)
        is_async = inspect.iscoroutinefunction(expected)
        hint = f"write: {'async ' if is_async else ''}def {name}({', '.join(arguments)}): …"
        if not callable(method):
            yield _Fault(f"{kind.__name__}.{name} is not a method", hint, kind)
        elif getattr(method, "__isabstractmethod__", False):
            yield _Fault(f"{kind.__name__} does not define {name}", hint, kind)
        elif inspect.iscoroutinefunction(method) != is_async:
            blocking = " (code that blocks: await asyncio.to_thread(…))" if is_async else ""
            yield _Fault(f"{kind.__name__}.{name} is {'not ' if is_async else ''}async", hint + blocking, method)
        elif not _accepts(kind, name, arguments):
            written = f"def {name}{inspect.signature(method)}"
            message = f"{kind.__name__}.{name} takes other arguments than ({', '.join(arguments)}): {written}"
            yield _Fault(message, hint, method)


def _accepts(kind: type[Action], name: str, arguments: Sequence[str]) -> bool:
    """Whether a method can be called with these arguments, of which the first is ``self``."""
    has_self = inspect.isfunction(inspect.getattr_static(kind, name))
    try:
        inspect.signature(getattr(kind, name)).bind(*arguments[0 if has_self else 1 :])
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
        params.model_rebuild()  # resolves forward references
    except PydanticUndefinedAnnotation as error:
        message = f"{name}.Params uses the type {error.name!r}, which is not defined"
        yield _Fault(message, "import or define it at the top of the file", params)
    except Exception as error:  # noqa: BLE001 - pydantic inspects types of plug-ins
        hint = "change the types of its fields to types that pydantic knows, such as str"
        yield _Fault(f"{name}.Params cannot be used: {named_error(error)}", hint, params)


#: The class attributes: their types, a description, and an example.
_ATTRIBUTES: Mapping[str, tuple[tuple[type, ...], str, str]] = {
    "main": ((str,), "the name of a parameter", 'main = "PARAMETER"'),
    "needs": ((frozenset, set), "a set of texts", 'needs = frozenset({"inputs"})'),
    "libraries": ((tuple, list), "a tuple of texts", 'libraries = ("json",)'),
    "keeps_progress": ((bool,), "True or False", "keeps_progress = True"),
}


def _attribute_faults(kind: type[Action]) -> Iterator[_Fault]:
    own, first = kind.__name__, next(iter(kind.Params.model_fields), "")
    for name, (types, wanted, example) in _ATTRIBUTES.items():
        value, hint = getattr(kind, name), f"write: {example.replace('PARAMETER', first)}"
        items = () if isinstance(value, bool) else value
        if not isinstance(value, types) or not all(isinstance(one, str) for one in items):
            yield _Fault(f"{own}.{name} is {shortened(repr(value), 100)}, not {wanted}", hint, kind)
        elif name == "main" and value and value not in kind.Params.model_fields:
            yield _Fault(f"{own}.main is {value!r}, which Params does not have", hint, kind)
    if unknown := frozenset(kind.needs) - frozenset(get_args(Need)):
        yield _Fault(f"{own}.needs names {sorted(unknown)}", f"known are: {', '.join(get_args(Need))}", kind)
