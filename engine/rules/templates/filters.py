"""The filters that templates have: Jinja's harmless ones, capped, and a few of our own.

Left out of Jinja's own, because they are for web pages (``striptags urlize xmlattr
forceescape``), show Python's insides (``pprint``), look past the data (``attr``) or make a
retry differ from the first attempt (``random``).
"""

# ruff: noqa: FBT001, FBT002 - these are called from templates, with the parameters that Jinja and Python gave them

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from jinja2 import filters as jinja
from jinja2.runtime import Context, Undefined
from jinja2.utils import pass_context

from engine.core.errors import TemplateError, TooComplex
from engine.core.json_scan import MAX_LEVELS, MAX_VALUES, is_deeper, parsed_size
from engine.core.units import format_duration
from engine.rules.templates.budget import SEARCHED_PER_UNIT, TOUCH, Budget, budget_of
from engine.rules.templates.filters_text import text_filters
from engine.rules.templates.slack_escape import escaped
from engine.rules.templates.slack_marks import mark, plain, throughout
from engine.rules.templates.text_methods import join
from engine.rules.templates.values import demand, dump, given_text, kind_of, sequence, to_text

Filter = Callable[..., Any]

_LAYOUT_WIDTH = re.compile(r"%[^a-zA-Z%]*?(\d+)")


#: Names that other dialects have, and what they are called here.
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


def _escaping(context: Context) -> bool:
    return bool(context.environment.escaping)  # type: ignore[attr-defined]


def _on_items(function: Filter) -> Filter:
    """One of Jinja's filters on a sequence: paid for, and with its whole result at once."""
    passed = str(getattr(getattr(function, "jinja_pass_arg", None), "name", ""))

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        items = sequence(value, budget_of(context))
        budget_of(context).spend(len(items) * TOUCH)
        first = {"context": context, "environment": context.environment, "eval_context": context.eval_ctx}.get(passed)
        result = function(*([] if first is None else [first]), items, *args, **kwargs)
        return list(result) if isinstance(result, Iterator) else result

    return call


def _on_number(function: Filter) -> Filter:
    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(demand(value), Undefined):
            to_text(value, budget_of(context))
        return function(value, *args, **kwargs)

    return call


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    if demand(value) is None or isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def _length(value: Any) -> int:
    if isinstance(demand(value), (str, list, tuple, dict, range)) or hasattr(type(value), "__len__"):
        return len(value)
    raise TemplateError(f"{kind_of(value)} has no length")


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: Any = None) -> str:
    budget = budget_of(context)
    items = sequence(value, budget)
    if attribute is not None:
        items = [jinja.make_attrgetter(context.environment, attribute)(item) for item in items]
    return join(budget, to_text(d, budget), items)


@pass_context
def _tojson(context: Context, value: Any, indent: Any = None) -> str:
    return dump(value, budget_of(context), indent=bool(indent))


@pass_context
def _fromjson(context: Context, value: Any) -> Any:
    text = plain(given_text(value, budget_of(context)))
    budget_of(context).spend(len(text) // SEARCHED_PER_UNIT)
    body = text.encode("utf-8", "surrogatepass")
    try:
        parsed_size(body)
        parsed = orjson.loads(body)
    except TooComplex:
        deep = is_deeper(body, MAX_LEVELS)
        what = f"is nested deeper than {MAX_LEVELS} levels" if deep else f"has more than {MAX_VALUES:,} values"
        raise TemplateError(f"fromjson: the text {what}") from None
    except ValueError as error:
        raise TemplateError(f"fromjson: the text is not JSON: {error}") from error
    return throughout(mark, parsed) if _escaping(context) else parsed  # an escape such as \u003c is data, too


@pass_context
def _escape(context: Context, value: Any) -> str:
    text = given_text(value, budget_of(context))
    return mark(text) if _escaping(context) else escaped(text)


@pass_context
def _safe(context: Context, value: Any) -> Any:
    return throughout(plain, demand(value)) if _escaping(context) else value


@pass_context
def _urlencode(context: Context, value: Any) -> str:
    budget = budget_of(context)
    if isinstance(demand(value), Mapping):
        pairs = [f"{_quoted(key, budget)}={_quoted(item, budget)}" for key, item in value.items()]
        text = "&".join(pairs).replace("%20", "+")
    else:
        text = _quoted(value, budget)
    budget.text(len(text))
    return mark(text) if _escaping(context) else text


def _quoted(value: Any, budget: Budget) -> str:
    """One piece of an address: unlike in Jinja a slash is encoded, too, so that a value stays one piece."""
    return quote(plain(to_text(value, budget)), safe="")


def _int(value: Any, default: Any = 0, base: int = 10) -> Any:
    if isinstance(demand(value), str) and len(value) > 4000:
        return default
    return jinja.do_int(plain(value) if isinstance(value, str) else value, default, base)


def _float(value: Any, default: Any = 0.0) -> Any:
    return jinja.do_float(plain(value) if isinstance(demand(value), str) else value, default)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    if not isinstance(precision, int) or abs(precision) > 300:
        raise TemplateError(f"round wants a precision from -300 to 300, not {precision!r}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TemplateError(f"round wants a number, not {kind_of(value)}")
    return jinja.do_round(value, precision, method)


def _abs(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TemplateError(f"abs wants a number, not {kind_of(value)}")
    return abs(value)


@pass_context
def _sum(context: Context, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = sequence(value, budget_of(context))
    if attribute is not None:
        items = [jinja.make_attrgetter(context.environment, attribute)(item) for item in items]
    for item in [*items, start]:
        if isinstance(item, Undefined):
            to_text(item, budget_of(context))
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            raise TemplateError(f"sum wants numbers, not {kind_of(item)}")
    return sum(items, start)


def _filesize(value: Any, binary: bool = False) -> str:
    return jinja.do_filesizeformat(value, binary)


@pass_context
def _batch(context: Context, value: Any, linecount: int, fill_with: Any = None) -> list[Any]:
    budget = budget_of(context)
    items = sequence(value, budget)
    if not isinstance(linecount, int) or linecount < 1:
        raise TemplateError(f"batch wants a whole number from 1, not {linecount!r}")
    if fill_with is not None:
        budget.items(linecount)
    return list(jinja.do_batch(items, linecount, fill_with))


@pass_context
def _slice(context: Context, value: Any, slices: int, fill_with: Any = None) -> list[Any]:
    budget = budget_of(context)
    items = sequence(value, budget)
    if not isinstance(slices, int) or slices < 1:
        raise TemplateError(f"slice wants a whole number from 1, not {slices!r}")
    budget.items(slices)
    return list(jinja.sync_do_slice(items, slices, fill_with))


@pass_context
def _items(context: Context, value: Any) -> list[Any]:
    if isinstance(demand(value), Mapping):
        budget_of(context).spend(len(value))
        return list(value.items())
    if isinstance(value, Undefined):
        to_text(value, budget_of(context))
    raise TemplateError(f"items wants a mapping, not {kind_of(value)}")


@pass_context
def _dictsort(context: Context, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
    return jinja.do_dictsort(dict(_items(context, value)), *args, **kwargs)


@pass_context
def _pick(context: Context, value: Any, *names: str, **renamed: str) -> Any:
    """Some fields of a mapping, or of every mapping in a list, as mappings of their own.

    ``pick("id", title="run.name")``; a path that ends in ``?`` comes to null where the mapping has no such field.
    """
    pairs = [(str(name).removesuffix("?").rpartition(".")[2], name) for name in names] + list(renamed.items())
    fields = dict(pairs)
    if not fields or len(fields) != len(pairs) or not all(isinstance(path, str) for path in fields.values()):
        raise TemplateError(
            "pick wants names of fields, each once", hint="write pick('id', title='run.name', user='run.user.name')"
        )
    if isinstance(demand(value), dict):
        return _picked(context, value, fields)
    budget = budget_of(context)
    items = sequence(value, budget)
    budget.spend(len(items) * len(fields) * TOUCH)
    return [_picked(context, item, fields) for item in items]


def _picked(context: Context, item: Any, fields: Mapping[str, str]) -> dict[str, Any]:
    made = {}
    for name, path in fields.items():
        look = jinja.make_attrgetter(context.environment, path.removesuffix("?"))
        found = demand(look(demand(item)))
        if isinstance(found, Undefined) and not path.endswith("?"):
            raise TemplateError(
                f"pick: an item has no {path!r}", hint=f"where it may be absent, write {path + '?'!r}, which gives null"
            )
        made[name] = None if isinstance(found, Undefined) else found
    return made


@pass_context
def _first(context: Context, value: Any) -> Any:
    return jinja.sync_do_first(context.environment, _end(context, value, slice(1)))


@pass_context
def _last(context: Context, value: Any) -> Any:
    return jinja.do_last(context.environment, _end(context, value, slice(-1, None)))


def _end(context: Context, value: Any, part: slice) -> Any:
    """An end of a list or text, however long that is."""
    if isinstance(demand(value), (str, list, tuple, range)):
        return value[part]
    return sequence(value, budget_of(context))


@pass_context
def _sort(
    context: Context, value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    """As Jinja's, by what texts mean: marks come behind all letters."""

    def order(key: Any) -> Any:
        if not isinstance(key, str):
            return key
        return plain(key) if case_sensitive else plain(key).lower()

    items = sequence(value, budget_of(context))
    budget_of(context).spend(len(items) * TOUCH)
    key = jinja.make_multi_attrgetter(context.environment, attribute, postprocess=order)
    return sorted(items, key=key, reverse=reverse)


@pass_context
def _reverse(context: Context, value: Any) -> Any:
    items = sequence(value, budget_of(context))
    return value[::-1] if isinstance(value, str) else list(reversed(items))


def _duration(value: Any) -> str:
    """Seconds as people write them: ``2.5s``, ``1h30m``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise TemplateError(f"duration wants a number of seconds, not {kind_of(value)}")
    return format_duration(value)


@pass_context
def _datetime(context: Context, value: Any, layout: str = "%Y-%m-%d %H:%M:%S") -> str:
    """An ISO time, or seconds since 1970, in another layout (``strftime``'s), in UTC."""
    budget = budget_of(context)
    for size in _LAYOUT_WIDTH.findall(to_text(layout, budget)):
        budget.width(int(size[:9]))
    try:
        if isinstance(demand(value), (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            moment = datetime.fromisoformat(plain(to_text(value, budget)))
    except (ValueError, OverflowError, OSError) as error:
        raise TemplateError(f"datetime wants an ISO time, not {plain(to_text(value, budget)[:60])!r}") from error
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return zoned.strftime(layout)


def _of_items() -> dict[str, Filter]:
    table: dict[str, Any] = {
        "groupby": jinja.sync_do_groupby,
        "list": jinja.sync_do_list,
        "map": jinja.sync_do_map,
        "max": jinja.do_max,
        "min": jinja.do_min,
        "reject": jinja.sync_do_reject,
        "rejectattr": jinja.sync_do_rejectattr,
        "select": jinja.sync_do_select,
        "selectattr": jinja.sync_do_selectattr,
        "unique": jinja.sync_do_unique,
    }
    own: dict[str, Any] = {
        "first": _first,
        "last": _last,
        "pick": _pick,
        "batch": _batch,
        "dictsort": _dictsort,
        "items": _items,
        "join": _join,
        "reverse": _reverse,
        "sort": _sort,
    }
    return {name: _on_items(function) for name, function in table.items()} | own | {"slice": _slice, "sum": _sum}


def filters() -> dict[str, Filter]:
    """Every filter a template may use, by name."""
    rest: dict[str, Any] = {
        "abs": _on_number(_abs),
        "count": _length,
        "d": _default,
        "datetime": _datetime,
        "default": _default,
        "duration": _on_number(_duration),
        "e": _escape,
        "escape": _escape,
        "filesizeformat": _on_number(_filesize),
        "float": _float,
        "fromjson": _fromjson,
        "int": _int,
        "length": _length,
        "round": _on_number(_round),
        "safe": _safe,
        "tojson": _tojson,
        "urlencode": _urlencode,
    }
    return text_filters() | _of_items() | rest
