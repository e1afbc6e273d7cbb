"""Filters on text: Jinja's harmless ones, capped before they make anything, and RE2's."""

# ruff: noqa: FBT001, FBT002 - these are called from templates, with the parameters that Jinja and Python gave them

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import re2
from jinja2 import filters as jinja
from jinja2.runtime import Context
from jinja2.utils import pass_context

from engine.core.errors import TemplateError
from engine.rules.templates.budget import MAX_TEXT, SEARCHED_PER_UNIT, Budget, budget_of
from engine.rules.templates.slack_marks import pieces, plain
from engine.rules.templates.text_methods import percent, replace, strip
from engine.rules.templates.values import given_text, to_text

_WORDS = re.compile(r"([-\s({\[<]+)")
_WORD = re.compile(r"\w+")
_REFERENCE = re.compile(r"\\(?:(\d)|g<(\w+)>|(\\))")


def _on_text(function: Callable[..., Any], *, whole: bool = True) -> Callable[..., Any]:
    """A filter on a text, which gets the budget first. A value that is no text is turned into it.

    Unless ``whole``, it looks at a part of the text only, and how long that is costs nothing.
    """

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = budget_of(context)
        text = value if type(value) is str and not whole else given_text(value, budget)
        result = function(budget, text, *args, **kwargs)
        if isinstance(result, str):
            budget.text(len(result), given=len(text))
        return result

    return call


def _simple(name: str) -> Callable[..., Any]:
    method = getattr(str, name)
    return _on_text(lambda _budget, text: method(text))


def _title(_budget: Budget, text: str) -> str:
    words = pieces(text, _WORDS.split(plain(text)))
    return "".join(word[:1].upper() + word[1:].lower() for word in words)


def _trim(budget: Budget, text: str, chars: str | None = None) -> str:
    return strip(budget, text, chars)


def _truncate(
    _budget: Budget,
    text: str,
    length: int = 255,
    killwords: bool = False,
    end: str = "...",
    leeway: int = 5,
) -> str:
    if len(text) <= length + leeway:
        return text
    cut = text[: max(0, length - len(end))]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


def _center(budget: Budget, text: str, width: int = 80) -> str:
    return text.center(budget.width(width))


def _indent(budget: Budget, text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    columns = len(width) if isinstance(width, str) else budget.width(width)
    budget.text(len(text) + columns * (text.count("\n") + 1))
    return jinja.do_indent(text, width, first, blank)


def _wordwrap(
    budget: Budget,
    text: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str = "\n",
    break_on_hyphens: bool = True,
) -> str:
    import textwrap

    if not isinstance(width, int) or width < 1:
        raise TemplateError("wordwrap wants a width of at least 1")
    budget.spend(len(text) // 2)
    budget.text(len(text) * (1 + len(wrapstring) // width))
    lines = (
        textwrap.wrap(
            line,
            width=width,
            expand_tabs=False,
            replace_whitespace=False,
            break_long_words=break_long_words,
            break_on_hyphens=break_on_hyphens,
        )
        for line in text.splitlines()
    )
    return wrapstring.join(wrapstring.join(parts) for parts in lines)


def _wordcount(budget: Budget, text: str) -> int:
    budget.spend(len(text) // 16)
    return sum(1 for _ in _WORD.finditer(plain(text)))


def _format(budget: Budget, text: str, *args: Any, **kwargs: Any) -> str:
    return percent(budget, text, kwargs or args)


def _replace(budget: Budget, text: str, old: Any, new: Any, count: int = -1) -> str:
    return replace(budget, text, to_text(old, budget), to_text(new, budget), -1 if count is None else count)


def _string(_budget: Budget, text: str) -> str:
    return text


def _pattern(pattern: Any, ignorecase: object) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignorecase
    try:
        return re2.compile(plain(str(pattern)), options)
    except (re2.error, UnicodeEncodeError) as error:
        words = error.args[0] if error.args else error
        text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise TemplateError(f"{pattern!r} is no regular expression: {text}", hint="the syntax is RE2's") from error


def _regex_search(
    budget: Budget, text: str, pattern: str, group: int | str = 0, ignorecase: bool = False
) -> str | None:
    """What the pattern, or one of its groups, matched first; null when it is not there."""
    budget.spend(len(text) // SEARCHED_PER_UNIT)
    found = _pattern(pattern, ignorecase).search(plain(text))
    if found is None:
        return None
    start, end = _span(found, group)
    return None if start < 0 else text[start:end]


def _span(found: Any, group: int | str) -> tuple[int, int]:
    try:
        start, end = found.span(found.re.groupindex[group] if isinstance(group, str) else group)
    except (LookupError, TypeError) as error:
        raise TemplateError(f"the pattern has no group {group!r}") from error
    return start, end


def _regex_replace(
    budget: Budget,
    text: str,
    pattern: str,
    new: str = "",
    count: int = 0,
    ignorecase: bool = False,
) -> str:
    r"""The text with the pattern's matches replaced; ``\1`` and ``\g<name>`` in the new text are groups."""
    bare = plain(text)
    budget.spend(len(text) // SEARCHED_PER_UNIT)
    out, at, made = [], 0, 0
    for number, found in enumerate(_pattern(pattern, ignorecase).finditer(bare)):
        if count and number >= count:
            break
        part = _expand(found, text, to_text(new, budget))
        made += found.start() - at + len(part)
        if made > MAX_TEXT:
            budget.text(made, given=len(text))
        budget.spend(1)
        out += [text[at : found.start()], part]
        at = found.end()
    return "".join([*out, text[at:]])


def _expand(found: Any, text: str, new: str) -> str:
    if "\\" not in new:
        return new
    out, at = [], 0
    for reference in _REFERENCE.finditer(new):
        out.append(new[at : reference.start()])
        at = reference.end()
        if reference.group(3):
            out.append("\\")
            continue
        name = reference.group(1) or reference.group(2)
        start, end = _span(found, int(name) if name.isdigit() else name)
        out.append(text[start:end] if start >= 0 else "")
    return "".join([*out, new[at:]])


def text_filters() -> dict[str, Callable[..., Any]]:
    """Every filter on text, by name."""
    return {
        "capitalize": _simple("capitalize"),
        "center": _on_text(_center),
        "format": _on_text(_format),
        "indent": _on_text(_indent),
        "lower": _simple("lower"),
        "regex_replace": _on_text(_regex_replace),
        "regex_search": _on_text(_regex_search),
        "replace": _on_text(_replace),
        "string": _on_text(_string),
        "title": _on_text(_title),
        "trim": _on_text(_trim),
        "truncate": _on_text(_truncate, whole=False),
        "upper": _simple("upper"),
        "wordcount": _on_text(_wordcount),
        "wordwrap": _on_text(_wordwrap),
    }
