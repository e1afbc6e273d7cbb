"""Text methods and formatting for templates: those that are harmless, with their results capped beforehand."""

# ruff: noqa: FBT001, FBT002 - these are called from templates, with the parameters that Jinja and Python gave them

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from engine.core.errors import TemplateError
from engine.rules.templates.budget import MAX_ITEMS, MAX_TEXT, Budget
from engine.rules.templates.slack_marks import mark, pieces, plain
from engine.rules.templates.values import demand, given_text, kind_of, sequence, to_text

_CONVERSION = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?(?P<kind>.?)", re.DOTALL
)
_WIDTH = re.compile(r"\d+")
_NUMERIC = "dioxXeEfFgG"
_SHOWN = 60

Method = Callable[..., Any]


def _untouched(name: str) -> Method:
    """A method whose result is no longer than the text, and that needs no look at special characters."""
    method = getattr(str, name)

    def call(_budget: Budget, text: str, *args: Any) -> Any:
        return method(text, *args)

    return call


def _looking(name: str) -> Method:
    """A method that looks for another text; marked and unmarked characters are equal to it."""
    method = getattr(str, name)

    def call(_budget: Budget, text: str, *args: Any) -> Any:
        return method(plain(text), *(_plain_argument(argument) for argument in args))

    return call


def _plain_argument(argument: Any) -> Any:
    if isinstance(argument, str):
        return plain(argument)
    if isinstance(argument, (list, tuple)):
        return tuple(plain(str(item)) for item in argument)
    return argument


def _padding(name: str) -> Method:
    method = getattr(str, name)

    def call(budget: Budget, text: str, width: Any, *args: Any) -> Any:
        return method(text, budget.width(width), *args)

    return call


def left_strip(_budget: Budget, text: str, chars: str | None = None) -> str:
    """``text.lstrip(chars)``."""
    bare = plain(text)
    return text[len(bare) - len(bare.lstrip(None if chars is None else plain(chars))) :]


def right_strip(_budget: Budget, text: str, chars: str | None = None) -> str:
    """``text.rstrip(chars)``."""
    return text[: len(plain(text).rstrip(None if chars is None else plain(chars)))]


def strip(budget: Budget, text: str, chars: str | None = None) -> str:
    """``text.strip(chars)``."""
    return left_strip(budget, right_strip(budget, text, chars), chars)


def _splitting(name: str) -> Method:
    method = getattr(str, name)

    def call(budget: Budget, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        most = maxsplit if 0 <= maxsplit <= MAX_ITEMS else MAX_ITEMS
        if sep is None:
            found: list[str] = method(text, None, most)
        else:
            found = pieces(text, method(plain(text), plain(sep), most), len(sep))
        budget.items(len(found))
        return found

    return call


def _partitioning(name: str) -> Method:
    method = getattr(str, name)

    def call(_budget: Budget, text: str, sep: str) -> list[str]:
        return pieces(text, method(plain(text), plain(sep)))

    return call


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    """``text`` with ``old`` replaced by ``new``, everywhere or ``count`` times.

    Raises:
        TemplateError: the result would be too long.
    """
    bare, sought = plain(text), plain(old)
    hits = bare.count(sought)
    grown = max(0, len(new) - len(old)) * (hits if count < 0 else min(hits, count))
    budget.text(len(text) + grown, given=len(text))
    if not old or (bare is text and sought is old):
        return text.replace(old, new, count)
    return new.join(pieces(text, bare.split(sought, count), len(old)))


def join(budget: Budget, separator: str, items: Any) -> str:
    """The items' texts with a separator between.

    Raises:
        TemplateError: there is nothing to join, or too much.
    """
    texts = [to_text(item, budget) for item in sequence(items, budget)]
    budget.text(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _remove_prefix(_budget: Budget, text: str, prefix: str) -> str:
    return text[len(prefix) :] if plain(text).startswith(plain(prefix)) else text


def _remove_suffix(_budget: Budget, text: str, suffix: str) -> str:
    return text[: -len(suffix)] if suffix and plain(text).endswith(plain(suffix)) else text


def _expand_tabs(budget: Budget, text: str, size: int = 8) -> str:
    budget.text(len(text) + text.count("\t") * max(0, budget.width(size)))
    return text.expandtabs(size)


def _split_lines(budget: Budget, text: str, keep: bool = False) -> list[str]:
    found = text.splitlines(keep)
    budget.items(len(found))
    return found


def percent(budget: Budget, text: str, values: Any) -> str:
    """``text % values``, printf-style, with widths capped and values written as templates write them.

    Raises:
        TemplateError: the format or a value does not fit, or the result is too long.
    """
    positional = list(values) if isinstance(values, tuple) else [values]
    out, at, taken = [], 0, 0
    for found in _CONVERSION.finditer(text):
        out.append(text[at : found.start()])
        at = found.end()
        if found["kind"] == "%":
            out.append("%")
            continue
        if found["key"] is not None:
            value = _keyed(values, found["key"])
        elif taken < len(positional):
            value, taken = positional[taken], taken + 1
        else:
            raise TemplateError(f"the format {text[:_SHOWN]!r} wants more values than it is given")
        out.append(_convert(budget, found, value))
    if taken < len(positional) and not isinstance(values, Mapping):
        raise TemplateError(f"the format {text[:_SHOWN]!r} takes {taken} values, not {len(positional)}")
    return "".join([*out, text[at:]])


def _keyed(values: Any, key: str) -> Any:
    if isinstance(values, Mapping):
        for name in (key, mark(key)):
            if name in values:
                return values[name]
    raise TemplateError(f"the format wants a value named {key!r}")


def _convert(budget: Budget, found: re.Match[str], value: Any) -> str:
    kind, whole = found["kind"], found[0]
    for size in (found["width"], found["precision"]):
        if size == "*":
            raise TemplateError(f"{whole!r} takes its width from a value; write the width out")
        budget.width(int(size) if size and len(size) < 10 else 10**9 if size else 0)
    budget.text(int(found["width"] or 0))
    layout = whole if found["key"] is None else whole.replace(f"({found['key']})", "", 1)
    if kind == "s":
        return layout % given_text(value, budget)
    if kind and kind in _NUMERIC:
        number = demand(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TemplateError(
                f"{whole!r} wants a number, not {kind_of(value)}", hint="turn it into one: `| float` or `| int`"
            )
        return layout % number
    raise TemplateError(f"{whole!r} is no format that templates know", hint="known are %s %d %f %e %g %x %o, and %%")


class _Format(Formatter):
    """``str.format`` without a way into objects, with widths capped."""

    def __init__(self, budget: Budget, look: Callable[[Any, Any], Any]) -> None:
        self._budget = budget
        self._look = look

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, int | str]:
        first, *rest = re.split(r"\.|\[|\]\.?", field_name.rstrip("]"))
        name = first if first in kwargs else mark(first)
        value = self.get_value(int(first) if first.isdigit() else name, args, kwargs)
        for part in filter(None, rest):
            value = self._look(value, int(part) if part.isdigit() else part)
        return value, first

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion in (None, "s"):
            return value if conversion is None else given_text(value, self._budget)
        raise TemplateError(f"the conversion !{conversion} is not available in templates")

    def format_field(self, value: Any, format_spec: str) -> str:
        for size in _WIDTH.findall(format_spec):
            self._budget.width(int(size) if len(size) < 10 else 10**9)
            self._budget.text(int(size))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            value = given_text(value, self._budget)
        elif format_spec.endswith("c"):
            raise TemplateError("the format c is not available in templates")
        return format(value, format_spec) if format_spec else to_text(value, self._budget)


def braces(budget: Budget, text: str, look: Callable[[Any, Any], Any], args: Any, kwargs: Mapping[str, Any]) -> str:
    """``text.format(…)``.

    Raises:
        TemplateError: the format or a value does not fit, or the result is too long.
    """
    if len(text) > MAX_TEXT // 8:
        raise TemplateError("the format is too long")
    try:
        return _Format(budget, look).vformat(text, args, kwargs)
    except (ValueError, LookupError) as error:
        raise TemplateError(f"the format {text[:_SHOWN]!r} does not fit its values: {error}") from error


def text_methods() -> dict[str, Method]:
    """The methods of text that templates may call, by name; each takes the budget and the text first."""
    untouched = (
        "capitalize casefold isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper "
        "lower swapcase title upper"
    )
    table: dict[str, Method] = {name: _untouched(name) for name in untouched.split()}
    table |= {name: _looking(name) for name in ("count", "endswith", "find", "index", "rfind", "rindex", "startswith")}
    table |= {name: _padding(name) for name in ("center", "ljust", "rjust", "zfill")}
    table |= {name: _splitting(name) for name in ("split", "rsplit")}
    table |= {name: _partitioning(name) for name in ("partition", "rpartition")}
    return table | {
        "expandtabs": _expand_tabs,
        "join": join,
        "lstrip": left_strip,
        "removeprefix": _remove_prefix,
        "removesuffix": _remove_suffix,
        "replace": replace,
        "rstrip": right_strip,
        "splitlines": _split_lines,
        "strip": strip,
    }
