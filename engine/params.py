"""An action's parameters against its model: literals at load, what templates came to at each delivery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.action import EscapePayload
from engine.errors import TemplateError
from engine.suggest import did_you_mean

Path = tuple[str | int, ...]


def validate_rendered(model: type[BaseModel], tree: Any) -> BaseModel:
    """Parameters whose templates are all rendered.

    Raises:
        TemplateError: they are not what the action takes; names the first that is wrong.
    """
    try:
        return _validate(model, tree)
    except ValidationError as error:
        where, message, hint = _in_words(model, tree, error.errors()[0])
        raise TemplateError(message, where=where, hint=hint) from None


def literal_faults(
    model: type[BaseModel], tree: Any, templated: Iterable[Path]
) -> Iterator[tuple[Path, str, str, bool]]:
    """What is wrong already at load: place, message, hint, and whether it is about the key.

    What a template will produce is not known yet, so faults at or around ``templated`` leaves wait.
    """
    paths = tuple(templated)
    try:
        _validate(model, tree)
    except ValidationError as error:
        for details in error.errors():
            where = _real_prefix(tree, details["loc"])
            if not where or details["type"] == "extra_forbidden" or not any(_overlap(where, path) for path in paths):
                yield *_in_words(model, tree, details), details["type"] == "extra_forbidden"


def escaped_params(model: type[BaseModel]) -> frozenset[str]:
    """The parameters in which event data is escaped."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(isinstance(mark, EscapePayload) for mark in field.metadata)
    )


def _validate(model: type[BaseModel], tree: Any) -> BaseModel:
    """Strictly; but what only JSON can't say (enums, times, UUIDs) may be written as text, as in JSON."""
    try:
        return model.model_validate(tree, strict=True)
    except ValidationError as error:
        try:
            text = orjson.dumps(tree)
        except TypeError:
            raise error from None
        return model.model_validate_json(text, strict=True)


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


def _in_words(model: type[BaseModel], tree: Any, details: ErrorDetails) -> tuple[Path, str, str]:
    where = _real_prefix(tree, details["loc"])
    name = ".".join(str(step) for step in details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return (
                where,
                f"unknown parameter {name!r}",
                did_you_mean(str(details["loc"][-1]), _names_near(model, where)),
            )
        case "missing":
            return where, f"parameter {name!r} is missing", f"add {details['loc'][-1]}: …"
        case "value_error" | "assertion_error":
            return where, _plain(details["msg"]), ""
        case _:
            given = type(details["input"]).__name__
            return where, f"parameter {name!r}: {_plain(details['msg'])} (got {_YAML_NAMES.get(given, given)})", ""


def _names_near(model: type[BaseModel], where: Path) -> Iterable[str]:
    """The parameters known where an unknown one stands: of the model, or of one nested in it."""
    known: type[BaseModel] = model
    for step in where[:-1]:
        field = known.model_fields.get(str(step))
        nested = next(models_in(field.annotation), None) if field else None
        known = nested or known
    return [field.alias or name for name, field in known.model_fields.items()]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within a type: parameters that have parameters."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].lower() + text[1:] if text.startswith("Input ") else text


_YAML_NAMES = {
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
