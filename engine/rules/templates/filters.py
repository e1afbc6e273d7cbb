"""The filters of templates: Jinja's safe ones, with caps, and a few of our own.

Left out of Jinja's own, because they are for web pages (``striptags urlize xmlattr
forceescape``), show Python's insides (``pprint``), look past the data (``attr``) or make a
retry differ from the first attempt (``random``).
"""

# ruff: noqa: FBT001, FBT002 - these are called from templates, with the parameters that Jinja and Python gave them

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from jinja2 import filters as jinja
from jinja2.runtime import Undefined
from jinja2.utils import pass_context

from engine.core.errors import TemplateError, TooComplex
from engine.core.json_text import MAX_LEVELS, MAX_VALUES, is_deeper, parsed_size
from engine.core.units import format_duration
from engine.rules.templates.budget import COPIED_PER_UNIT, Budget, columns
from engine.rules.templates.slack_escape import escaped, like, own, plain, throughout
from engine.rules.templates.text_functions import TEXT_FILTERS, Method, apply, join
from engine.rules.templates.values import Absent, charge, dump, fetched, kind_of, need, sequence, text_of

Filter = Callable[..., Any]

_LAYOUT_WIDTH = re.compile(r"%[^a-zA-Z%]*?(\d+)")


#: Filters of other dialects, and their names here.
FOREIGN_FILTERS = {
    "json": "tojson",
    "to_json": "tojson",
    "from_json": "fromjson",
    "parse_json": "fromjson",
    "size": "length",
    "len": "length",
    "str": "string",
    "strip": "trim",
    "uppercase": "upper",
    "lowercase": "lower",
    "downcase": "lower",
    "upcase": "upper",
    "strftime": "datetime",
    "date": "datetime",
    "url_encode": "urlencode",
    "html": "escape",
    "html_escape": "escape",
    "forceescape": "escape",
    "pprint": "tojson(indent=2)",
    "regex": "regex_search",
    "where": "selectattr",
    "limit": "truncate",
    "head": "truncate",
    "shorten": "truncate",
    "coalesce": "default",
    "pluck": "map(attribute=…)",
    "project": "pick",
}


def _on_text(method: Method) -> Filter:
    """A filter on text. Other values are written as text first."""

    @pass_context
    def call(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return apply(context.budget, method, text_of(value, context.budget), args, kwargs)

    return call


def _on_items(function: Filter) -> Filter:
    """A filter on a sequence. It charges for the items, and returns a list instead of an iterator."""
    passed = str(getattr(getattr(function, "jinja_pass_arg", None), "name", ""))

    @pass_context
    def call(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        items = sequence(value, context.budget)
        if function in _COMPARING:
            charge(items, context.budget)
        first = {"context": context, "environment": context.environment}.get(passed)
        result = function(*([] if first is None else [first]), items, *args, **kwargs)
        return list(result) if isinstance(result, Iterator) else result

    return call


def _on_number(name: str, function: Filter) -> Filter:
    def call(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(need(value), bool) or not isinstance(value, (int, float)):
            raise TemplateError(f"{name} wants a number, not {kind_of(value)}")
        return function(value, *args, **kwargs)

    return call


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    if fetched(value) is None or isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def _length(value: Any) -> int:
    if isinstance(fetched(value), (str, list, tuple, dict, range)) or hasattr(type(value), "__len__"):
        return len(value)
    raise TemplateError(f"{kind_of(value)} has no length")


# --- text and JSON ---


@pass_context
def _tojson(context: Any, value: Any, indent: Any = None) -> str:
    return dump(value, context.budget, indent=bool(indent))


@pass_context
def _fromjson(context: Any, value: Any) -> Any:
    text = plain(text_of(value, context.budget))
    context.budget.spend(len(text) // COPIED_PER_UNIT)
    body = text.encode("utf-8", "surrogatepass")
    try:
        parsed_size(body)
        return orjson.loads(body)
    except TooComplex:
        deep = is_deeper(body, MAX_LEVELS)
        what = f"is nested deeper than {MAX_LEVELS} levels" if deep else f"has more than {MAX_VALUES:,} values"
        raise TemplateError(f"fromjson: the text {what}") from None
    except ValueError as error:
        raise TemplateError(f"fromjson: the text is not JSON: {error}") from error


@pass_context
def _escape(context: Any, value: Any) -> str:
    """Treat the text as data. In a template that does not escape data, escape it now."""
    text = text_of(value, context.budget)
    context.budget.made(len(text))
    return plain(text) if context.eval_ctx.autoescape else escaped(text)


@pass_context
def _safe(context: Any, value: Any) -> Any:
    charge(value, context.budget)
    return throughout(own, value) if context.eval_ctx.autoescape else value


@pass_context
def _urlencode(context: Any, value: Any) -> str:
    if isinstance(fetched(value), Mapping):
        pairs = [f"{_quoted(key, context.budget)}={_quoted(item, context.budget)}" for key, item in value.items()]
        return "&".join(pairs).replace("%20", "+")
    return _quoted(value, context.budget)


def _quoted(value: Any, budget: Budget) -> str:
    """One piece of an address: unlike in Jinja a slash is encoded, too, so that a value stays one piece."""
    text = plain(text_of(value, budget))
    budget.fits(len(text))
    made = quote(text, safe="")
    budget.made(len(made))
    return made


@pass_context
def _datetime(context: Any, value: Any, layout: Any = "%Y-%m-%d %H:%M:%S") -> str:
    """An ISO time, or seconds since 1970, in another layout (``strftime``'s), in UTC."""
    layout = text_of(layout, context.budget)
    for size in _LAYOUT_WIDTH.findall(layout):
        columns(int(size[:9]))
    try:
        if isinstance(fetched(value), (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            moment = datetime.fromisoformat(plain(text_of(value, context.budget)))
    except (ValueError, OverflowError, OSError) as error:
        text = plain(text_of(value, context.budget))
        raise TemplateError(f"datetime wants an ISO time, not {text[:60]!r}") from error
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return like(layout, zoned.strftime(layout))  # type: ignore[no-any-return]


# --- numbers ---


def _int(value: Any, default: Any = 0, base: int = 10) -> Any:
    if isinstance(fetched(value), str) and len(value) > 4000:
        return default
    return jinja.do_int(plain(value) if isinstance(value, str) else value, default, base)


def _float(value: Any, default: Any = 0.0) -> Any:
    return jinja.do_float(plain(value) if isinstance(fetched(value), str) else value, default)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    if not isinstance(precision, int) or abs(precision) > 300:
        raise TemplateError(f"round wants a precision from -300 to 300, not {precision!r}")
    return jinja.do_round(value, precision, method)


def _duration(value: Any) -> str:
    """Format seconds: ``2.5s``, ``1h30m``."""
    if not 0 <= value < 1e12:
        raise TemplateError(f"duration wants a number of seconds, not {kind_of(value)}")
    return format_duration(value)


# --- lists and mappings ---


@pass_context
def _join(context: Any, items: Sequence[Any], d: Any = "", attribute: Any = None) -> str:
    return join(context.budget, text_of(d, context.budget), _attributes(context, items, attribute))


@pass_context
def _sum(context: Any, items: Sequence[Any], attribute: Any = None, start: Any = 0) -> Any:
    items = _attributes(context, items, attribute)
    for item in [*items, start]:
        if isinstance(need(item), bool) or not isinstance(item, (int, float)):
            raise TemplateError(f"sum wants numbers, not {kind_of(item)}")
    return sum(items, start)


def _attributes(context: Any, items: Sequence[Any], attribute: Any) -> Sequence[Any]:
    if attribute is None:
        return items
    return list(map(jinja.make_attrgetter(context.environment, attribute), items))


@pass_context
def _batch(context: Any, items: Sequence[Any], linecount: int, fill_with: Any = None) -> Any:
    if not isinstance(linecount, int) or linecount < 1:
        raise TemplateError(f"batch wants a whole number from 1, not {linecount!r}")
    context.budget.items(0 if fill_with is None else linecount)
    return jinja.do_batch(items, linecount, fill_with)


@pass_context
def _slice(context: Any, items: Sequence[Any], slices: int, fill_with: Any = None) -> Any:
    if not isinstance(slices, int) or slices < 1:
        raise TemplateError(f"slice wants a whole number from 1, not {slices!r}")
    context.budget.items(slices)
    return jinja.sync_do_slice(items, slices, fill_with)


@pass_context
def _items(context: Any, value: Any) -> list[Any]:
    if not isinstance(need(value), Mapping):
        raise TemplateError(f"items wants a mapping, not {kind_of(value)}")
    context.budget.spend(len(value))
    return list(value.items())


@pass_context
def _dictsort(context: Any, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
    return jinja.do_dictsort(dict(_items(context, value)), *args, **kwargs)


@pass_context
def _pick(context: Any, value: Any, *names: str, **renamed: str) -> Any:
    """Some fields of a mapping, or of every mapping in a list, as mappings of their own.

    ``pick("id", title="run.name")``; a path that ends in ``?`` comes to null where the mapping has no such field.
    """
    pairs = [(str(name).removesuffix("?").rpartition(".")[2], name) for name in names] + list(renamed.items())
    fields = dict(pairs)
    if not fields or len(fields) != len(pairs) or not all(isinstance(path, str) for path in fields.values()):
        raise TemplateError(
            "pick wants names of fields, each once", hint="write pick('id', title='run.name', user='run.user.name')"
        )
    if isinstance(fetched(value), dict):
        return _picked(context, value, fields)
    items = sequence(value, context.budget)
    context.budget.spend(len(items) * len(fields))
    return [_picked(context, item, fields) for item in items]


def _picked(context: Any, item: Any, fields: Mapping[str, str]) -> dict[str, Any]:
    made = {}
    for name, path in fields.items():
        look = jinja.make_attrgetter(context.environment, path.removesuffix("?"))
        found = fetched(look(fetched(item)))
        if isinstance(found, Undefined) and not path.endswith("?"):
            raise TemplateError(
                f"pick: an item has no {plain(path)!r}",
                hint=f"where it may be absent, write {plain(path) + '?'!r}, which gives null",
            )
        made[name] = None if isinstance(found, Undefined) else found
    return made


def _end(word: str, index: int) -> Filter:
    """The first or last item of a list or text of any length."""

    @pass_context
    def call(context: Any, value: Any) -> Any:
        given = isinstance(fetched(value), (str, list, tuple, range))
        items = value if given else sequence(value, context.budget)
        return items[index] if items else Absent(f"No {word} item, sequence was empty.")

    return call


@pass_context
def _reverse(context: Any, value: Any) -> Any:
    items = sequence(value, context.budget)
    return value[::-1] if isinstance(value, str) else items[::-1]


_ON_ITEMS: Mapping[str, Filter] = {
    "batch": _batch,
    "groupby": jinja.sync_do_groupby,
    "join": _join,
    "list": jinja.sync_do_list,
    "map": jinja.sync_do_map,
    "max": jinja.do_max,
    "min": jinja.do_min,
    "reject": jinja.sync_do_reject,
    "rejectattr": jinja.sync_do_rejectattr,
    "select": jinja.sync_do_select,
    "selectattr": jinja.sync_do_selectattr,
    "slice": _slice,
    "sort": jinja.do_sort,
    "sum": _sum,
    "unique": jinja.sync_do_unique,
}
#: These compare items. Lists that contain each other many times would take forever, so they are charged in full.
_COMPARING = (jinja.sync_do_groupby, jinja.do_max, jinja.do_min, jinja.do_sort, jinja.sync_do_unique)
_ON_NUMBERS: Mapping[str, Filter] = {"abs": abs, "duration": _duration, "round": _round}
#: Every filter a template may use, by name.
FILTERS: Mapping[str, Filter] = {
    **{name: _on_text(method) for name, method in TEXT_FILTERS.items()},
    **{name: _on_items(function) for name, function in _ON_ITEMS.items()},
    **{name: _on_number(name, function) for name, function in _ON_NUMBERS.items()},
    "count": _length,
    "d": _default,
    "datetime": _datetime,
    "default": _default,
    "dictsort": _dictsort,
    "e": _escape,
    "escape": _escape,
    "filesizeformat": jinja.do_filesizeformat,
    "first": _end("first", 0),
    "float": _float,
    "fromjson": _fromjson,
    "int": _int,
    "items": _items,
    "last": _end("last", -1),
    "length": _length,
    "pick": _pick,
    "reverse": _reverse,
    "safe": _safe,
    "tojson": _tojson,
    "urlencode": _urlencode,
}
