"""Explain to the author of a template why a rendering failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from jinja2.utils import missing

from engine.core.document import Missing
from engine.core.errors import AbsentValue, TemplateError
from engine.core.suggest import did_you_mean
from engine.rules.templates.needs import DYNAMIC, Chain
from engine.rules.templates.sandbox import DOCUMENT_NAMES
from engine.rules.templates.slack_escape import plain
from engine.rules.templates.values import NO_TEXT, Absent, AbsentError, kind_of

_SHOWN = 8
_PYTHON_KINDS = {
    "NoneType": "null",
    "dict": "a mapping",
    "list": "a list",
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
}
_NOT_COMPARED = re.compile(r"'(\S+)' not supported between instances of '(\w+)' and '(\w+)'")
_WRONG_CALL = re.compile(r"(?:\w+\.)*(?:_|do_|sync_do_)?(\w+?)\(\) (?:missing|takes|got)")
#: The message blames null, but does not name what is null.
_NULL = re.compile(r"(?<! is )\bnull\b")
#: What to do about a value that is absent.
DEFAULT = "where it may be absent, write `| default(…)`, or `| default(omit)` to leave the parameter out"


@dataclass(frozen=True, slots=True)
class Looks:
    """A text's lookups in the document: all, and those that are compared, calculated with or filtered."""

    chains: tuple[Chain, ...]
    operands: tuple[Chain, ...]


def translate(error: Exception, looks: Looks, document: Mapping[str, Any]) -> TemplateError:
    """Turn any exception of a rendering into a TemplateError."""
    fault = _translated(error, looks.chains, document)
    names = _nulls(looks.operands, document) if "null" in str(fault) else []
    if not names:
        return fault
    named = _named(fault, names)
    return AbsentValue(str(named), fault.part, hint=named.hint) if isinstance(fault, AbsentValue) else named


def _named(fault: TemplateError, names: list[str]) -> TemplateError:
    """An error that null caused, with the name of the value that is null, or all names if there are several."""
    message, who = str(fault), " or ".join(names)
    if message.startswith(NO_TEXT):
        return TemplateError(message.replace(NO_TEXT, f"{who} is null", 1), hint=f"write {names[0]} | default(…)")
    if not _NULL.search(message):
        return fault
    hint = f"write {names[0] if len(names) == 1 else '…'} | {_stand_in(message)}"
    return TemplateError(f"{who} is null: {message}", hint=hint)


def _nulls(operands: Sequence[Chain], document: Mapping[str, Any]) -> list[str]:
    """The lookups that find null, as the author wrote them."""
    return [str(chain) for chain in operands if DYNAMIC not in chain.keys and _end_of(chain, document) is None]


def _end_of(chain: Chain, document: Mapping[str, Any]) -> Any:
    place, value = _walk(chain, document)
    return value if place == len(chain.keys) else _NOWHERE


def _walk(chain: Chain, document: Mapping[str, Any]) -> tuple[int, Any]:
    """The number of keys that exist along a lookup, and the value of the last."""
    value: Any = document.get(chain.root, _NOWHERE)
    for place, key in enumerate(chain.keys):
        inside = _inside(value, key)
        if inside is _NOWHERE:
            return place, value
        value = inside
    return len(chain.keys), value


def _stand_in(message: str) -> str:
    """The filter that replaces null, with a default of the type that is expected."""
    if "number" in message:
        return "default(0)"
    return "default([])" if re.search("no items|no length|looks through", message) else "default(…)"


def _translated(error: Exception, chains: Sequence[Chain], document: Mapping[str, Any]) -> TemplateError:
    if isinstance(error, TemplateError):
        return error
    if isinstance(error, AbsentError):
        return describe(error.absent, chains, document)
    if isinstance(error, RecursionError):
        return TemplateError("a macro calls itself without end, or the data is nested too deeply")
    if isinstance(error, MemoryError):
        return TemplateError("needs more memory than there is")
    if isinstance(error, ZeroDivisionError):
        return TemplateError("divides by zero", hint="check the divisor first: `A / B if B else 0`")
    message = str(error) or type(error).__name__
    if isinstance(error, TypeError) and (call := _WRONG_CALL.match(message)):
        return TemplateError(f"{call[1]} is called with the wrong arguments")
    if found := _NOT_COMPARED.search(message):
        left, right = (_PYTHON_KINDS.get(kind, kind) for kind in found.group(2, 3))
        return TemplateError(f"{found[1]} cannot compare {left} with {right}")
    if "'NoneType' is not iterable" in message or "'NoneType' is not a container" in message:
        return TemplateError("`in` looks through a list, a mapping or a text, not through null")
    for python, ours in _PYTHON_KINDS.items():
        message = re.sub(rf"'{python}'", ours, message)
    return TemplateError(f"cannot be rendered: {message}")


def describe(absent: Absent, chains: Sequence[Chain], document: Mapping[str, Any]) -> AbsentValue:
    """Say which part of a lookup is missing, and what exists there."""
    if absent.words:
        return AbsentValue(absent.words, "an item", hint=DEFAULT)
    if absent.owner is missing:
        message, hint = _no_name(str(absent.key))
        return AbsentValue(message, str(absent.key), hint=hint)
    path = next((found for chain in chains if (found := _path(chain, absent, document))), "")
    key = _unmarked(absent.key)
    message, hint = _no_key(path, absent.owner, key)
    return AbsentValue(message, str(Chain(path, (key,))) if path else str(key), hint=hint)


def of_condition(fault: TemplateError) -> TemplateError:
    """An error with advice for the author of a condition: a condition has no parameter to leave out."""
    if fault.hint == DEFAULT:
        fault.hint = "where it may be absent, write `| default(…)`, or ask `is defined`"
    return fault


def _no_name(name: str) -> tuple[str, str]:
    if name in DOCUMENT_NAMES:
        return f"there is no {name!r} in this event", DEFAULT
    return f"there is no {name!r} here", "a name set within a loop or an `if` is not seen outside: use a namespace"


def _path(chain: Chain, absent: Absent, document: Mapping[str, Any]) -> str:
    """The value without the key, as the author wrote it; empty if another lookup failed."""
    place, value = _walk(chain, document)
    if place == len(chain.keys) or chain.keys[place] != absent.key or type(value) is not type(absent.owner):
        return ""
    return str(Chain(chain.root, chain.keys[:place]))


def reads(looks: Looks, document: Mapping[str, Any]) -> dict[str, Any]:
    """The values that lookups find, by how they are written. Absent values, and those not sent, are left out.

    For a method it is the value that the method is called on.
    """
    found = {}
    for chain in looks.chains:
        place, value = _walk(chain, document)
        whole = place == len(chain.keys)
        if place and not isinstance(value, Missing) and (whole or isinstance(value, str)):
            found[str(Chain(chain.root, chain.keys[:place]))] = value
    return found


_NOWHERE = object()


def _inside(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return value.get(key, _NOWHERE)
    if isinstance(value, list) and isinstance(key, int):
        return value[key] if -len(value) <= key < len(value) else _NOWHERE
    return _NOWHERE


def _no_key(path: str, owner: Any, key: Any) -> tuple[str, str]:
    subject = path or kind_of(owner)
    if isinstance(owner, dict):
        return f"{subject} has no {key!r} ({_keys(owner)})", _near(key, owner) or DEFAULT
    if owner is None:
        return f"{path} is null, so it has no {key!r}" if path else f"null has no {key!r}", DEFAULT
    if isinstance(owner, (list, tuple)):
        if isinstance(key, int):
            return f"{subject} has no item {key} (it has {len(owner)})", DEFAULT
        hint = f"say which item: {path or '…'}[0].{key}, or `| map(attribute={key!r})` for all"
        return f"{path or 'this'} is a list of {len(owner)}, which has no {key!r}", hint
    kind = kind_of(owner)
    return f"{path} is {kind}, which has no {key!r}" if path else f"{kind} has no {key!r}", DEFAULT


def _unmarked(key: Any) -> Any:
    return plain(key) if isinstance(key, str) else key


def _keys(owner: dict[Any, Any]) -> str:
    names = [repr(_unmarked(name)) for name in list(owner)[:_SHOWN]]
    more = f" and {len(owner) - _SHOWN} more" if len(owner) > _SHOWN else ""
    return f"it has {', '.join(names)}{more}" if names else "it is empty"


def _near(key: Any, owner: dict[Any, Any]) -> str:
    names = [plain(name) for name in owner if isinstance(name, str)]
    hint = did_you_mean(key, names) if isinstance(key, str) else ""
    return hint if hint.startswith("did you mean") else ""


def line_of(trace: TracebackType | None, line: Any) -> int:
    """The template's line where a traceback ends; ``line`` maps a line of the compiled code to it."""
    found = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            found = line(trace.tb_lineno)
        trace = trace.tb_next
    return found
