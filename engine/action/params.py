"""Validates an action's parameters against its model: literals at load, rendered templates at each delivery."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from engine.action.param_errors import Fault, in_words, near_name, never_text, only_text, unknown
from engine.core.errors import TemplateError

Path = tuple[str | int, ...]
#: One of pydantic's errors, and the place in the tree that it is about.
Error = tuple[Path, ErrorDetails]
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
    made, errors = _checked(model, tree)
    if errors and _convert(tree, errors, leaves):
        made, errors = _checked(model, tree)
    if made is not None:
        return made
    fault = _grouped(model, tree, errors, shown=False)[0]
    raise TemplateError(fault.message, where=fault.where, hint=fault.hint)


def literal_faults(model: type[BaseModel], tree: Any, leaves: Leaves = _NO_LEAVES) -> list[Fault]:
    """The mistakes that are certain at load. At settled places the tree may be changed.

    The value of a template is not known yet, so errors at or around templates are not reported. Exceptions: a template
    with text around it always gives a text, and a list or mapping remains one whatever it contains.
    """
    _, errors = _checked(model, tree)
    if leaves.settled and _convert(tree, errors, Leaves(leaves.settled)):
        _, errors = _checked(model, tree)
    early = []
    for where in sorted(leaves.mixed, key=str):
        group = [one for place, one in errors if place == where]
        if never_text(group):
            early.append(only_text(where, _value_at(tree, where), group))
    certain = [
        (where, one)
        for where, one in errors
        if _is_certain(where, one["type"], leaves) or _is_of_wrong_kind(tree, where, errors)
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


def _checked(model: type[BaseModel], tree: Any) -> tuple[BaseModel | None, list[Error]]:
    """The validated parameters, or what is wrong with them."""
    try:
        return _validate(model, tree), []
    except ValidationError as error:
        return None, [(_real_prefix(tree, one["loc"]), one) for one in error.errors()]


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


def _convert(tree: Any, errors: Sequence[Error], leaves: Leaves) -> bool:
    """Convert scalar values of templates to the required types. Return whether any was converted."""
    changed = False
    for where in dict.fromkeys(where for where, _ in errors if where and leaves.holds(where)):
        value, kinds = _value_at(tree, where), {one["type"] for place, one in errors if place == where}
        if (made := _converted(value, kinds)) is not value:
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


def _is_certain(where: Path, kind: str, leaves: Leaves) -> bool:
    return not where or kind == "extra_forbidden" or not any(_overlap(where, path) for path in leaves.templated)


def _is_of_wrong_kind(tree: Any, where: Path, errors: Sequence[Error]) -> bool:
    """Whether there is a list or mapping where another type is required. No template in it can change that."""
    if not isinstance(_value_at(tree, where), (list, Mapping)):
        return False
    return all(
        place == where and one["type"].endswith("_type") for place, one in errors if place[: len(where)] == where
    )


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


def _grouped(model: type[BaseModel], tree: Any, errors: Sequence[Error], *, shown: bool) -> list[Fault]:
    """Pydantic's errors as faults. The errors of all branches of a union are one fault, and so is a misspelt name."""
    groups: dict[Path, list[ErrorDetails]] = {}
    for where, one in errors:
        if one["type"] not in ("extra_forbidden", "missing"):
            groups.setdefault(where, []).append(one)
    inner = {other[:length] for other in groups for length in range(1, len(other))}
    found = [fault for where, one in errors if (fault := _of_names(model, where, one, errors)) is not None]
    return found + [
        in_words(where, _value_at(tree, where), group, shown=shown)
        for where, group in groups.items()
        if where not in inner
    ]


def _of_names(model: type[BaseModel], where: Path, one: ErrorDetails, errors: Sequence[Error]) -> Fault | None:
    """The fault for an unknown or missing parameter. A missing one that was misspelt is not reported."""
    name = ".".join(map(str, one["loc"]))
    if one["type"] == "extra_forbidden":
        fault = unknown(where, name, _names_near(model, where))
        owner = _owner(model, name) if len(where) == 1 else ""
        return replace(fault, hint=f"it belongs under {owner}: {owner}: {{{name}: …}}") if owner else fault
    misspelt = (place for place, other in errors if other["type"] == "extra_forbidden" and place[:-1] == where)
    meant = {near_name(str(place[-1]), _names_near(model, place)) for place in misspelt}
    if one["type"] != "missing" or one["loc"][-1] in meant:
        return None
    return Fault(where, "", f"parameter {name!r} is missing", f"add {one['loc'][-1]}: …")


def _owner(model: type[BaseModel], name: str) -> str:
    """The parameter that has a nested parameter of this name; empty if there is none."""
    fields = model.model_fields.items()
    found = (own for own, field in fields for nested in models_in(field.annotation) if name in nested.model_fields)
    return next(found, "")


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
