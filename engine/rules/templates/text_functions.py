"""Methods and filters on text: Python's, Jinja's and RE2's. Their output is capped before it is made.

Each takes the budget and the text first. A text is data (``str``) or the author's (``Markup``); a mix of both is
``Markup`` in which data is marked.
"""

# ruff: noqa: FBT001, FBT002 - these are called from templates, with the parameters that Jinja and Python gave them

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from types import SimpleNamespace
from typing import Any, cast

import re2
from jinja2 import Environment
from jinja2 import filters as jinja
from markupsafe import Markup

from engine.core.errors import TemplateError
from engine.rules.templates.budget import COPIED_PER_UNIT, MAX_ITEMS, Budget, columns
from engine.rules.templates.slack_escape import alike, joined, like, mark, plain, throughout
from engine.rules.templates.values import charge, fetched, kind_of, sequence, text_of

_CONVERSION = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?(?P<kind>.?)", re.DOTALL
)
_WIDTH = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
_REFERENCE = re.compile(r"\\(?:(\d)|g<(\w+)>|(\\))")
_SHOWN = 60

Method = Callable[..., Any]


def apply(budget: Budget, method: Method, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Apply a method to a text, and charge for the result."""
    made = method(budget, text, *args, **kwargs)
    if isinstance(made, str):
        budget.made(len(made), given=len(text))
    return made


def _shaping(function: Method, cap: Method = lambda *_args, **_kwargs: None) -> Method:
    """A method that changes a text without searching it; ``cap`` checks the size of the result beforehand."""

    def call(budget: Budget, text: str, *args: Any, **kwargs: Any) -> Any:
        if not (args or kwargs):
            cap(budget, text)
            return like(text, function(str(text)))
        text, *given = alike([text, *args, *kwargs.values()])
        args, kwargs = tuple(given[: len(args)]), dict(zip(kwargs, given[len(args) :], strict=True))
        cap(budget, text, *args, **kwargs)
        return like(text, function(str(text), *args, **kwargs))

    return call


def _reading(function: Method) -> Method:
    """A method whose result is not text."""

    def call(budget: Budget, text: str, *args: Any) -> Any:
        budget.spend(len(text) // COPIED_PER_UNIT)
        charge(args, budget)
        return function(plain(text), *(tuple(arg) if isinstance(arg, list) else arg for arg in throughout(plain, args)))

    return call


def _cutting(name: str) -> Method:
    """A method that splits a text."""
    function, kept = getattr(str, name), name in ("partition", "rpartition")

    def call(budget: Budget, text: str, sep: str | None = None, maxsplit: int = -1) -> Any:
        budget.spend(len(text) // COPIED_PER_UNIT)
        most = () if kept else (maxsplit if 0 <= maxsplit <= MAX_ITEMS else MAX_ITEMS,)
        if sep is None:
            found = like(text, function(str(text), None, *most))
        else:
            found = _parts(text, function(plain(text), plain(sep), *most), 0 if kept else len(sep))
        budget.items(len(found))
        return found

    return call


def _parts(text: str, lengths: Sequence[str], gap: int) -> list[str]:
    """Split a text as its plain form was split; ``gap`` is the length of the separator."""
    found, at = [], 0
    for part in lengths:
        found.append(text[at : at + len(part)])
        at += len(part) + gap
    return found


def _stripping(name: str, *, left: bool) -> Method:
    """A method that removes something from the beginning or end of a text."""
    function = getattr(str, name)

    def call(_budget: Budget, text: str, chars: str | None = None) -> str:
        kept = len(function(plain(text), None if chars is None else plain(chars)))
        return text[len(text) - kept :] if left else text[:kept]

    return call


def _strip(budget: Budget, text: str, chars: str | None = None) -> str:
    return METHODS["lstrip"](budget, METHODS["rstrip"](budget, text, chars), chars)  # type: ignore[no-any-return]


def _replace(budget: Budget, text: str, old: Any, new: Any, count: int | None = None) -> str:
    old, new, count = plain(text_of(old, budget)), text_of(new, budget), -1 if count is None else count
    hits = plain(text).count(old)
    grown = max(0, len(new) - len(old)) * (hits if count < 0 else min(hits, count))
    budget.fits(len(text) + grown) if grown else None
    if not old or not any(isinstance(each, Markup) for each in alike([text, new])):
        text, new = alike([text, new])
        return like(text, str.replace(text, old, new, count))  # type: ignore[no-any-return]
    budget.spend(hits)
    return joined(_parts(text, plain(text).split(old, count), len(old)), new)


def join(budget: Budget, separator: str, items: Any) -> str:
    """Write the items as text, with a separator between them.

    Raises:
        TemplateError: there is nothing to join, or too much.
    """
    texts = [text_of(item, budget) for item in sequence(items, budget)]
    budget.made(sum(map(len, texts)) + len(separator) * len(texts))
    return joined(texts, separator)


# --- formats ---


def percent(budget: Budget, text: str, values: Any) -> str:
    """``text % values``, printf-style, with widths capped and values written as templates write them.

    Raises:
        TemplateError: the format or a value does not fit, or the result is too long.
    """
    positional = list(values) if isinstance(values, tuple) else [values]
    parts, at, taken, made = [], 0, 0, len(text)
    for found in _CONVERSION.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found["kind"] == "%":
            parts.append("%")
            continue
        if found["key"] is not None:
            value = _keyed(values, plain(found["key"]))
        elif taken < len(positional):
            value, taken = positional[taken], taken + 1
        else:
            raise TemplateError(f"the format {plain(text[:_SHOWN])!r} wants more values than it is given")
        parts.append(_converted(budget, found, value))
        budget.fits(made := made + len(parts[-1]))
    if taken < len(positional) and not isinstance(values, Mapping):
        raise TemplateError(f"the format {plain(text[:_SHOWN])!r} takes {taken} values, not {len(positional)}")
    return joined([*parts, text[at:]])


def _keyed(values: Any, key: str) -> Any:
    if isinstance(values, Mapping) and key in values:
        return values[key]
    raise TemplateError(f"the format wants a value named {key!r}")


def _converted(budget: Budget, found: re.Match[str], value: Any) -> str:
    kind, whole = found["kind"], found[0]
    if "*" in (found["width"], found["precision"]):
        raise TemplateError(f"{whole!r} takes its width from a value; write the width out")
    for size in _WIDTH.findall(f"{found['width']} {found['precision']}"):
        columns(int(size[:9]))
    layout = whole if found["key"] is None else whole.replace(f"({found['key']})", "", 1)
    if kind == "s":
        text = text_of(value, budget)
        return like(text, layout % str(text))  # type: ignore[no-any-return]
    if not kind or kind not in "dioxXeEfFgG":
        raise TemplateError(
            f"{whole!r} is no format that templates know", hint="known are %s %d %f %e %g %x %o, and %%"
        )
    number = fetched(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TemplateError(
            f"{whole!r} wants a number, not {kind_of(value)}", hint="turn it into one: `| float` or `| int`"
        )
    return layout % number


class _Format(Formatter):
    """``str.format`` without access to attributes, and with capped widths."""

    def __init__(self, budget: Budget, own: bool, look: Callable[[Any, Any], Any]) -> None:
        self._budget, self._own, self._look, self._made = budget, own, look, 0

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, int | str]:
        first, *rest = re.split(r"\.|\[|\]\.?", field_name.rstrip("]"))
        value = self.get_value(int(first) if first.isdigit() else plain(first), args, kwargs)
        for part in filter(None, rest):
            value = self._look(value, int(part) if part.isdigit() else part)
        return value, first

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion in (None, "s"):
            return value if conversion is None else text_of(value, self._budget)
        raise TemplateError(f"the conversion !{conversion} is not available in templates")

    def format_field(self, value: Any, format_spec: str) -> str:
        for size in _WIDTH.findall(format_spec):
            columns(int(size[:9]))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            text = text_of(value, self._budget)
            value = str(mark(text)) if self._own else plain(text)
        elif format_spec.endswith("c"):
            raise TemplateError("the format c is not available in templates")
        made = format(value, format_spec)
        self._made += len(made)
        self._budget.fits(self._made)
        return made


def braces(budget: Budget, text: str, look: Callable[[Any, Any], Any], args: Any, kwargs: Mapping[str, Any]) -> str:
    """``text.format(…)``.

    Raises:
        TemplateError: the format or a value does not fit, or the result is too long.
    """
    budget.fits(len(text) * 8)
    try:
        made = _Format(budget, isinstance(text, Markup), look).vformat(str(text), args, kwargs)
    except (ValueError, LookupError) as error:
        raise TemplateError(f"the format {plain(text[:_SHOWN])!r} does not fit its values: {error}") from error
    return like(text, made)  # type: ignore[no-any-return]


# --- filters ---


def _truncate(
    _budget: Budget, text: str, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5
) -> str:
    if len(text) <= length + leeway:
        return text
    cut = text[: max(0, length - len(end))]
    return joined([cut if killwords else cut.rsplit(" ", 1)[0], end])


def _wordwrap(text: str, *args: Any, **kwargs: Any) -> str:
    return jinja.do_wordwrap(cast("Environment", SimpleNamespace(newline_sequence="\n")), text, *args, **kwargs)


def _wordcount(budget: Budget, text: str) -> int:
    budget.spend(len(text) // 16)
    return sum(1 for _ in _WORD.finditer(plain(text)))


def _pattern(pattern: Any, ignorecase: object) -> Any:
    pattern = plain(pattern) if isinstance(pattern, str) else str(pattern)
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignorecase
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        words = error.args[0] if error.args else error
        text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise TemplateError(f"{pattern!r} is no regular expression: {text}", hint="the syntax is RE2's") from error


def _regex_search(
    budget: Budget, text: str, pattern: str, group: int | str = 0, ignorecase: bool = False
) -> str | None:
    """The first match of the pattern, or of one of its groups; null without a match."""
    budget.spend(len(text) // COPIED_PER_UNIT)
    found = _pattern(pattern, ignorecase).search(plain(text))
    start, end = (-1, -1) if found is None else _span(found, group)
    return None if start < 0 else text[start:end]


def _span(found: Any, group: int | str) -> tuple[int, int]:
    try:
        start, end = found.span(found.re.groupindex[group] if isinstance(group, str) else group)
    except (LookupError, TypeError) as error:
        raise TemplateError(f"the pattern has no group {group!r}") from error
    return start, end


def _regex_replace(
    budget: Budget, text: str, pattern: str, new: Any = "", count: int = 0, ignorecase: bool = False
) -> str:
    r"""The text with the pattern's matches replaced; ``\1`` and ``\g<name>`` in the new text are groups."""
    budget.spend(len(text) // COPIED_PER_UNIT)
    new, parts, at, made = text_of(new, budget), [], 0, 0
    for number, found in enumerate(_pattern(pattern, ignorecase).finditer(plain(text))):
        if count and number >= count:
            break
        budget.spend(1)
        added = [text[at : found.start()], *_expand(found, text, new)]
        at, made = found.end(), made + sum(map(len, added))
        budget.fits(made if made > len(text) else 0)
        parts += added
    return joined([*parts, text[at:]])


def _expand(found: Any, text: str, new: str) -> list[str]:
    parts, at = [], 0
    for reference in _REFERENCE.finditer(new):
        parts.append(new[at : reference.start()])
        at = reference.end()
        if reference[3]:
            parts.append("\\")
            continue
        name = reference[1] or reference[2]
        start, end = _span(found, int(name) if name.isdigit() else name)
        parts.append(text[start:end] if start >= 0 else "")
    return [*parts, new[at:]]


# --- caps ---


def _cap_width(_budget: Budget, _text: str, width: Any = 80, *_fill: Any) -> None:
    columns(width)


def _cap_tabs(budget: Budget, text: str, tabsize: Any = 8) -> None:
    budget.fits(len(text) + text.count("\t") * max(0, columns(tabsize)))


def _cap_lines(budget: Budget, text: str, *_keep: Any) -> None:
    budget.items(text.count("\n"))


def _cap_indent(budget: Budget, text: str, width: Any = 4, *_rest: Any, **_named: Any) -> None:
    budget.fits(len(text) + (len(width) if isinstance(width, str) else columns(width)) * (text.count("\n") + 1))


def _cap_wrap(budget: Budget, text: str, width: Any = 79, _long: Any = True, wrapstring: str = "\n", **_: Any) -> None:
    if not isinstance(width, int) or width < 1:
        raise TemplateError("wordwrap wants a width of at least 1")
    budget.spend(len(text) // 2)
    budget.fits(len(text) * (1 + len(wrapstring) // width))


#: The methods of text that templates may call.
METHODS: Mapping[str, Method] = {
    **{
        name: _shaping(getattr(str, name)) for name in ("capitalize", "casefold", "lower", "swapcase", "title", "upper")
    },
    **{name: _shaping(getattr(str, name), _cap_width) for name in ("center", "ljust", "rjust", "zfill")},
    **{
        name: _reading(getattr(str, name))
        for name in (
            *("count", "endswith", "find", "index", "rfind", "rindex", "startswith"),
            *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric"),
            *("isspace", "istitle", "isupper"),
        )
    },
    **{name: _cutting(name) for name in ("split", "rsplit", "partition", "rpartition")},
    **{name: _stripping(name, left=True) for name in ("lstrip", "removeprefix")},
    **{name: _stripping(name, left=False) for name in ("rstrip", "removesuffix")},
    "expandtabs": _shaping(str.expandtabs, _cap_tabs),
    "splitlines": _shaping(str.splitlines, _cap_lines),
    "join": join,
    "replace": _replace,
    "strip": _strip,
}
#: The filters on text.
TEXT_FILTERS: Mapping[str, Method] = {
    **{name: METHODS[name] for name in ("capitalize", "lower", "upper", "replace")},
    "center": _shaping(jinja.do_center, _cap_width),
    "format": lambda budget, text, *args, **kwargs: percent(budget, text, kwargs or args),
    "indent": _shaping(jinja.do_indent, _cap_indent),
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "string": lambda _budget, text: text,
    "title": _shaping(jinja.do_title),
    "trim": _strip,
    "truncate": _truncate,
    "wordcount": _wordcount,
    "wordwrap": _shaping(_wordwrap, _cap_wrap),
}
