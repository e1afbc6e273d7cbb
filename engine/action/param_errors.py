"""Pydantic's errors of parameters in terms of YAML, with a hint what to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import ErrorDetails

from engine.core.suggest import did_you_mean, nearest

Path = tuple[str | int, ...]

_KINDS: Final = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "null",
}
#: Pydantic's error types that mean that no text is valid.
_NEVER_TEXT: Final = frozenset(_KINDS) - {"string_type"}

#: Other products' names of parameters → ours, the most likely first. Only names that the action has are used.
_FOREIGN: Final = {
    "message": ("text", "body"),
    "msg": ("text", "message", "body"),
    "text": ("message", "body"),
    "content": ("text", "message", "body"),
    "markdown": ("text", "blocks"),
    "data": ("body", "fields"),
    "json": ("body",),
    "payload": ("body",),
    "subject": ("title",),
    "severity": ("level", "type"),
    "priority": ("level",),
    "extra": ("fields",),
    "to": ("urls", "channel", "url"),
    "recipients": ("urls",),
    "endpoint": ("url",),
    "address": ("url",),
    "room": ("channel",),
    "webhook": ("webhook_url", "url"),
    "verb": ("method",),
    "params": ("query",),
    "secret": ("sign_with",),
    "input": ("inputs",),
    "output": ("outputs",),
    "dataset_name": ("dataset",),
    "dataset_id": ("dataset",),
    "queue_name": ("queue",),
    "queue_id": ("queue",),
    "emoji": ("icon",),
    "icon_emoji": ("icon",),
    "thread": ("thread_by", "thread_ts"),
}
_BOOLS: Final = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
_ONE_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_MOST_SHOWN: Final = 40
#: Pydantic's error types for a value that is not one of a few words.
_CHOSEN: Final = frozenset({"literal_error", "enum"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in parameters: its place, the parameter, the message and a hint.

    ``subject`` is the parameter; empty if the message names it.
    """

    where: Path
    subject: str
    message: str
    hint: str = ""
    at_key: bool = False

    @property
    def is_of_name(self) -> bool:
        """Whether it is about an unknown or missing parameter, not about a value."""
        return self.at_key or self.message.endswith(" is missing")

    @property
    def sentence(self) -> str:
        """The message with its subject."""
        return f"{self.subject!r} {self.message}" if self.subject else self.message


def dotted(where: Path) -> str:
    """A place as text: ``blocks[0].text``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


def near_name(name: str, names: Sequence[str]) -> str:
    """The parameter that an unknown name probably means; empty if there is none."""
    return nearest(name, names, synonyms=_translation(name, names))


def unknown(where: Path, name: str, names: Sequence[str]) -> Fault:
    """The fault for an unknown parameter."""
    last = str(where[-1])
    hint = did_you_mean(last, names, synonyms=_translation(last, names))
    return Fault(where, "", f"unknown parameter {name!r}", hint, at_key=True)


def _translation(name: str, names: Sequence[str]) -> dict[str, str]:
    """Another product's name, and the first of its translations that is one of these parameters."""
    ours = [word for word in _FOREIGN.get(name.lower(), ()) if word in names]
    return {name: ours[0]} if ours else {}


def named_in(message: str, name: str) -> bool:
    """Whether a message already begins with a parameter's name."""
    return message.startswith((f"{name} ", f"{name}:"))


def never_text(group: Sequence[ErrorDetails]) -> bool:
    """Whether these errors of one value mean that no text is valid."""
    return bool(group) and all(one["type"] in _NEVER_TEXT for one in group)


def only_text(where: Path, text: str, group: Sequence[ErrorDetails]) -> Fault:
    """The fault for a template with text around it where no text is valid."""
    wanted = " or ".join(_expected(group))
    message = f"must be {wanted}, and a template with text around it always gives a text"
    return Fault(where, dotted(where), message, _alone(where, text))


def _alone(where: Path, text: str) -> str:
    """How to write a template so that its value keeps its type."""
    templates = _ONE_TEMPLATE.findall(text)
    key = next((step for step in reversed(where) if isinstance(step, str)), "")
    if len(templates) != 1 or '"' in templates[0]:
        return "a template keeps its type if there is no text around it"
    return f'write the template alone, so that it keeps its type: {key}: "{templates[0]}"'


def in_words(where: Path, value: Any, group: Sequence[ErrorDetails], *, shown: bool) -> Fault:
    """The fault for a value. ``shown`` quotes it, for values that the author wrote."""
    first = group[0]
    if first["type"] in ("value_error", "assertion_error"):
        return _own_words(where, first["msg"])
    kinds = _expected(group)
    if not kinds:
        return Fault(where, dotted(where), _pydantics(first["msg"]))
    given = _shown(value) if shown or first["type"] in _CHOSEN else _kind(value)
    wanted = " or ".join(kinds)
    return Fault(
        where,
        dotted(where),
        f"must be {wanted}, not {given}",
        _hint(where, value, kinds, group) if shown else _hint_at_run(where, kinds, given),
    )


def _own_words(where: Path, message: str) -> Fault:
    """The message of an action's own validator. It may begin with the parameter's name."""
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    name = dotted(where)
    return (
        Fault(where, name, text.removeprefix(f"{name} ")) if where and named_in(text, name) else Fault(where, "", text)
    )


def _expected(group: Sequence[ErrorDetails]) -> list[str]:
    """The valid kinds of values, without duplicates; empty if only pydantic's message describes them."""
    kinds: dict[str, None] = {}
    for one in group:
        if one["type"] in _CHOSEN:
            kinds[_either(_choices(one))] = None
        elif one["type"] in _KINDS:
            kinds[_KINDS[one["type"]]] = None
    if "a number" in kinds:
        kinds.pop("a whole number", None)
    return list(kinds) if all(one["type"] in _KINDS or one["type"] in _CHOSEN for one in group) else []


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _choices(details: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", str(details.get("ctx", {}).get("expected", "")))


def _pydantics(message: str) -> str:
    """Pydantic's message as a predicate: ``Input should be greater than 0`` → ``must be greater than 0``."""
    found = re.match(r"(?:Input|Value|String|List|Dictionary|Data)\b.*? should (.*)", message, re.DOTALL)
    text = f"must {found[1]}" if found else message[:1].lower() + message[1:]
    return "is empty" if text.startswith("must have at least 1 ") else text


def _hint_at_run(where: Path, kinds: list[str], given: str) -> str:
    """As ``_hint``, for the value of a template: event data is not quoted."""
    if kinds == ["a mapping"] and given != "null":
        return f"give it a name: {where[-1] if where else ''}: {{NAME: …}}"
    return "if it may be null, write `| default(…)`, or `| default(omit)` to leave it out" if given == "null" else ""


def _is_short(value: Any) -> bool:
    return isinstance(value, (bool, int, float, list)) or (isinstance(value, str) and len(value) <= _MOST_SHOWN)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) is not None


#: How to write a value: the kinds that are required, the values that this is about, and the hint, in which KEY is the
#: parameter's name and VALUE the value as in JSON.
_HINTS: Final[tuple[tuple[set[str], Callable[[Any], bool], str], ...]] = (
    ({"true or false"}, lambda value: str(value).lower() in _BOOLS, "write KEYBOOL"),
    ({"a number", "a whole number"}, _is_number, "write it without quotes: KEYTEXT"),
    ({"a text"}, lambda value: isinstance(value, (int, float)), 'write KEY"VALUE"'),
    ({"a mapping"}, lambda value: isinstance(value, str) and _is_short(value), "a mapping has names: KEY{NAME: VALUE}"),
    ({"a list"}, lambda value: isinstance(value, dict), "begin each item of a list with '- '"),
    ({"a list"}, _is_short, "a list is written KEY[VALUE]"),
)


def _hint(where: Path, value: Any, kinds: list[str], group: Sequence[ErrorDetails]) -> str:
    """How to write the value, if that is clear."""
    choices = [choice for one in group for choice in _choices(one)]
    if choices and isinstance(value, str):
        near = did_you_mean(value, choices)
        return near if near.startswith("did you mean") else ""
    hint = next((hint for wanted, applies, hint in _HINTS if wanted & set(kinds) and applies(value)), "")
    parts = {
        "KEY": f"{where[-1]}: " if where and isinstance(where[-1], str) else "",
        "BOOL": _BOOLS.get(str(value).lower(), ""),
        "TEXT": str(value),
        "VALUE": json.dumps(value, ensure_ascii=False, default=str),
    }
    return re.sub("|".join(parts), lambda part: parts[part[0]], hint)


#: The types of values, in words.
_WORDS: Final = (((type(None),), "null"), ((int, float), "a number"), ((str,), "a text"), ((list, tuple), "a list"))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return next((word for types, word in _WORDS if isinstance(value, types)), "a mapping")


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) <= _MOST_SHOWN:
        return repr(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {str(value)[:_MOST_SHOWN]}"
    return _kind(value)


def no_parameters(action: str, name: str) -> tuple[str, str]:
    """Message and hint if an action without parameters is given some; ``name`` is the plug-in's class."""
    return (
        f"{action} takes no parameters: {name} declares none",
        f"remove them, or add to {name}: class Params(engine.Params): with one line for each, such as title: str",
    )
