"""Validates an action's parameters against its model: literals at load, rendered templates at each delivery."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from engine.action.param_errors import Fault, in_words, near_name, never_text, only_text, unknown
from engine.core.errors import TemplateError

Path = tuple[str | int, ...]
#: A JSON number, of a length that Python parses quickly.
_NUMBER = re.compile(r"(?=.{1,400}$)-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


class Params(BaseModel):
    """Base of an action's parameters, a pydantic model: one field each, with a type and perhaps a default.

    Unknown parameters are errors, and values are not converted: ``"3"`` is not an ``int``. Wrong literal values are
    errors with a position when the configuration is loaded. A wrong value of a template makes that delivery dead.
    ``pydantic.Field(description=…, examples=[…])`` is shown by ``engine actions NAME``. A validator raises
    ``ValueError`` with a message for the author of the configuration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class EscapePayload:
    """Field marker: event data in this text is escaped for Slack.

    In text ``& < >`` are escaped. In the target of a link data is URL-encoded, and only http, https and mailto make a
    link. In a ``markdown`` block data is not interpreted as Markdown. Use it as
    ``text: Annotated[str, EscapePayload()]``. Text that the author of the configuration wrote, and ``vars``, are not
    escaped.
    """


@dataclass(frozen=True, slots=True)
class LiteralHost:
    """Field marker: an address, or a list of them, whose scheme and host must not come from event data.

    For actions that do not use ``context.http`` and so bypass the engine's address guard. Use it as
    ``urls: Annotated[list[str], LiteralHost()]``. After the host, event data is allowed if it goes through
    ``| urlencode``. ``vars`` are written by the author and are allowed everywhere.
    """


@dataclass(frozen=True, slots=True)
class Leaves:
    """The places of templates in a tree. ``mixed`` are those with text around them, which always give a text.

    At ``settled`` places, which are not in ``templated``, the tree already has the rendered values.
    """

    templated: frozenset[Path] = frozenset()
    mixed: frozenset[Path] = frozenset()
    settled: frozenset[Path] = frozenset()

    def holds(self, where: Path) -> bool:
        """Whether there is a template at a place. Indexes may differ: omitted items shift the following ones."""
        return any(_same(where, path) for path in self.templated)


_NO_LEAVES = Leaves()


def validate_rendered(model: type[BaseModel], tree: Any, leaves: Leaves = _NO_LEAVES) -> BaseModel:
    """Validate parameters whose templates are rendered. A number becomes a text where a text is required, as in JSON.

    A text that contains a number, ``true`` or ``false`` is converted where no text is valid: LangSmith's costs are
    texts. Only values of templates are converted, not literals. The tree may be changed.

    Raises:
        TemplateError: the parameters are not valid; names the first mistake.
    """
    try:
        return _validate(model, tree)
    except ValidationError as error:
        faulty = error
    if _convert(tree, faulty.errors(), leaves):
        try:
            return _validate(model, tree)
        except ValidationError as error:
            faulty = error
    fault = _grouped(model, tree, faulty.errors(), shown=False)[0]
    raise TemplateError(fault.message, where=fault.where, hint=fault.hint) from None


def literal_faults(model: type[BaseModel], tree: Any, leaves: Leaves = _NO_LEAVES) -> list[Fault]:
    """The mistakes that are certain at load. At settled places the tree may be changed.

    The value of a template is not known yet, so errors at or around templates are not reported. Exceptions: a template
    with text around it always gives a text, and a list or mapping remains one whatever it contains.
    """
    details = _errors(model, tree)
    if leaves.settled and _convert(tree, details, Leaves(leaves.settled)):
        details = _errors(model, tree)
    mixed = [(where, _value_at(tree, where), _at(tree, details, where)) for where in sorted(leaves.mixed, key=str)]
    early = [only_text(where, text, group) for where, text, group in mixed if never_text(group)]
    certain = [
        one
        for one in details
        if _is_certain(one, where := _real_prefix(tree, one["loc"]), leaves) or _is_of_wrong_kind(tree, where, details)
    ]
    return early + _grouped(model, tree, certain, shown=True)


def escaped_params(model: type[BaseModel]) -> frozenset[str]:
    """The parameters in which event data is escaped."""
    return _marked(model, EscapePayload)


def address_params(model: type[BaseModel]) -> frozenset[str]:
    """The parameters that are addresses whose hosts must not come from event data."""
    return _marked(model, LiteralHost)


def _marked(model: type[BaseModel], kind: type) -> frozenset[str]:
    fields = model.model_fields.items()
    return frozenset(name for name, field in fields if any(isinstance(mark, kind) for mark in field.metadata))


def _errors(model: type[BaseModel], tree: Any) -> list[ErrorDetails]:
    try:
        _validate(model, tree)
    except ValidationError as error:
        return error.errors()
    return []


def _validate(model: type[BaseModel], tree: Any) -> BaseModel:
    """Validate strictly, but accept texts for types that JSON does not have (enums, times, UUIDs)."""
    try:
        return model.model_validate(tree, strict=True)
    except ValidationError as error:
        try:
            text = orjson.dumps(tree)
        except TypeError:
            raise error from None
        return model.model_validate_json(text, strict=True)


# --- conversion between numbers and texts ---------------------------------------------------------------------------


def _convert(tree: Any, details: Sequence[ErrorDetails], leaves: Leaves) -> bool:
    """Convert scalar values of templates to the required types. Return whether any was converted."""
    wanted: dict[Path, set[str]] = {}
    for one in details:
        wanted.setdefault(_real_prefix(tree, one["loc"]), set()).add(one["type"])
    changed = False
    for where, kinds in wanted.items():
        value = _value_at(tree, where)
        if where and leaves.holds(where) and (made := _converted(value, kinds)) is not value:
            _value_at(tree, where[:-1])[where[-1]] = made
            changed = True
    return changed


def _converted(value: Any, kinds: Set[str]) -> Any:
    """A scalar converted to one of the required types, given as pydantic's error types; else itself."""
    if isinstance(value, (int, float)) and "string_type" in kinds:
        return str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str):
        return value
    if "bool_type" in kinds and value in ("true", "false"):
        return value == "true"
    if kinds & {"int_type", "float_type"} and _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


def _same(one: Path, other: Path) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a == b or (isinstance(a, int) and isinstance(b, int)) for a, b in pairs)


# --- what is certain at load ----------------------------------------------------------------------------------------


def _is_certain(details: ErrorDetails, where: Path, leaves: Leaves) -> bool:
    if not where or details["type"] == "extra_forbidden":
        return True
    return not any(_overlap(where, path) for path in leaves.templated)


def _is_of_wrong_kind(tree: Any, where: Path, details: Iterable[ErrorDetails]) -> bool:
    """Whether there is a list or mapping where another type is required. No template in it can change that."""
    if not isinstance(_value_at(tree, where), (list, Mapping)):
        return False
    places = ((_real_prefix(tree, one["loc"]), one["type"]) for one in details)
    return all(place == where and kind.endswith("_type") for place, kind in places if place[: len(where)] == where)


def _at(tree: Any, details: Iterable[ErrorDetails], where: Path) -> list[ErrorDetails]:
    return [one for one in details if _real_prefix(tree, one["loc"]) == where]


def _value_at(tree: Any, where: Path) -> Any:
    for step in where:
        tree = tree[step]
    return tree


def _real_prefix(tree: Any, loc: Path) -> Path:
    """The part of an error's location that exists in the tree: pydantic adds the names of a union's branches."""
    where: list[str | int] = []
    for step in loc:
        in_list = isinstance(tree, list) and isinstance(step, int) and step < len(tree)
        if in_list or (isinstance(tree, Mapping) and step in tree):
            tree = tree[step]
            where.append(step)
    return tuple(where)


def _overlap(one: Path, other: Path) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


# --- one fault for each mistake -------------------------------------------------------------------------------------


def _grouped(model: type[BaseModel], tree: Any, details: Sequence[ErrorDetails], *, shown: bool) -> list[Fault]:
    """Pydantic's errors as faults. The errors of all branches of a union are one fault, and so is a misspelt name."""
    groups: dict[Path, list[ErrorDetails]] = {}
    for one in details:
        if one["type"] not in ("extra_forbidden", "missing"):
            groups.setdefault(_real_prefix(tree, one["loc"]), []).append(one)
    deepest = {
        where for where in groups if not any(where == other[: len(where)] and where != other for other in groups)
    }
    found = [fault for one in details if (fault := _of_names(model, tree, one, details)) is not None]
    found += [
        in_words(where, _value_at(tree, where), group, shown=shown)
        for where, group in groups.items()
        if where in deepest or not where
    ]
    return found


def _of_names(model: type[BaseModel], tree: Any, one: ErrorDetails, details: Sequence[ErrorDetails]) -> Fault | None:
    """The fault for an unknown or missing parameter. A missing one that was misspelt is not reported."""
    where, name = _real_prefix(tree, one["loc"]), ".".join(str(step) for step in one["loc"])
    if one["type"] == "extra_forbidden":
        fault = unknown(where, name, _names_near(model, where))
        owner = _owner(model, name) if len(where) == 1 else ""
        return replace(fault, hint=f"it belongs under {owner}: {owner}: {{{name}: …}}") if owner else fault
    if one["type"] != "missing" or one["loc"][-1] in set(_meant(model, tree, where, details)):
        return None
    return Fault(where, "", f"parameter {name!r} is missing", f"add {one['loc'][-1]}: …")


def _owner(model: type[BaseModel], name: str) -> str:
    """The parameter that has a nested parameter of this name; empty if there is none."""
    fields = model.model_fields.items()
    found = (own for own, field in fields for nested in models_in(field.annotation) if name in nested.model_fields)
    return next(found, "")


def _meant(model: type[BaseModel], tree: Any, parent: Path, details: Sequence[ErrorDetails]) -> Iterator[str]:
    """The parameters that the unknown ones of the same block probably mean."""
    for one in details:
        where = _real_prefix(tree, one["loc"])
        if one["type"] == "extra_forbidden" and where[:-1] == parent:
            yield near_name(str(where[-1]), _names_near(model, where))


def _names_near(model: type[BaseModel], where: Path) -> list[str]:
    """The parameters of the model at a place: of the model itself, or of one nested in it."""
    known: type[BaseModel] = model
    for step in where[:-1]:
        field = known.model_fields.get(str(step))
        nested = next(models_in(field.annotation), None) if field else None
        known = nested or known
    return [field.alias or name for name, field in known.model_fields.items()]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within a type, for nested parameters."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


__all__ = [
    "Fault",
    "Leaves",
    "Path",
    "address_params",
    "escaped_params",
    "literal_faults",
    "models_in",
    "validate_rendered",
]
