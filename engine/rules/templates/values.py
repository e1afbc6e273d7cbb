"""Convert values in templates: to text, to JSON, to lists; absent values, null and ``omit``."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, Final, NoReturn, final

import orjson
from jinja2.runtime import Undefined

from engine.core.document import Missing
from engine.core.errors import TemplateError
from engine.core.json_text import MAX_LEVELS
from engine.core.offload import watched
from engine.rules.templates.budget import CHARS_PER_UNIT, COPIED_PER_UNIT, MAX_ITEMS, Budget
from engine.rules.templates.slack_escape import MARKS, authors, like, mark, throughout

_KINDS = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "str": "text",
    "Markup": "text",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "range": "a list",
    "Macro": "a macro",
    "LoopContext": "the loop",
    "Namespace": "a namespace",
    "Absent": "nothing",
    "Undefined": "nothing",
    "Omit": "omit",
    "builtin_function_or_method": "a method that is not called",
}


_BACKSLASH = MARKS["\\"]
_SCALARS = frozenset({type(None), bool, int, float, str})
#: How deep a value may be nested: a whole payload and a little around it. orjson writes 254 levels.
MOST_LEVELS: Final = MAX_LEVELS + 20
#: The beginning of the message if null without a name cannot be written.
NO_TEXT: Final = "a value is null"


def kind_of(value: object) -> str:
    """The type of a value, in a user's words: ``text``, ``a list``, ``null``."""
    name = type(value).__name__
    return _KINDS.get(name, name)


@final
class Omit:
    """The type of ``omit``. A parameter, key or item with this value is left out."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "omit"


OMIT: Final = Omit()


class AbsentError(Exception):
    """An absent value was used."""

    def __init__(self, absent: Absent) -> None:
        super().__init__("a value is missing")
        self.absent = absent


class Absent(Undefined):
    """An absent value: a lookup in it gives it again, any use but a test fails.

    It is false, equal to no value, and what ``default``, ``is defined`` and ``or`` are for.
    """

    __slots__ = ()

    @property
    def owner(self) -> Any:
        """The value in which it was looked up; ``jinja2.utils.missing`` for a top-level name."""
        return self._undefined_obj

    @property
    def key(self) -> Any:
        """The name, key or index."""
        return self._undefined_name

    @property
    def words(self) -> str | None:
        """The message, if it is known already."""
        return self._undefined_hint

    def fail(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Fail, because the value is needed.

        Raises:
            AbsentError: always.
        """
        raise AbsentError(self)

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, _key: Any) -> Any:
        return self

    _fail_with_undefined_error = fail
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = fail
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = fail
    __mod__ = __rmod__ = __pow__ = __rpow__ = __pos__ = __neg__ = fail
    __lt__ = __le__ = __gt__ = __ge__ = fail
    __int__ = __float__ = __complex__ = __call__ = fail
    __iter__ = __str__ = __len__ = __contains__ = fail

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not isinstance(other, Undefined)

    def __hash__(self) -> int:
        return hash(Absent)


def fetched(value: Any) -> Any:
    """The value, which must be fetched.

    Raises:
        DataMissing: it was not sent and not fetched.
    """
    if isinstance(value, Missing):
        bool(value)
    return value


def need(value: Any) -> Any:
    """The value, which must exist.

    Raises:
        AbsentError: it is absent.
        DataMissing: it was not sent along.
        TemplateError: it is what ``a if b`` comes to where b does not hold.
    """
    if isinstance(fetched(value), Undefined):
        if isinstance(value, Absent):
            value.fail()
        raise TemplateError("the condition does not hold and there is no `else`", hint="write `A if B else C`")
    return value


def sequence(value: Any, budget: Budget) -> list[Any] | tuple[Any, ...]:
    """The items of a list, keys of a mapping or characters of a text. They are charged.

    Raises:
        TemplateError: there is nothing to go through, or too much.
        AbsentError: the value is missing.
        DataMissing: the value was not sent along.
    """
    fetched(value)
    if isinstance(value, (list, tuple)):
        budget.spend(len(value))
        return value
    if isinstance(value, Undefined):
        return list(value)
    if not isinstance(value, (dict, str, range, KeysView, ValuesView, ItemsView)):
        hint = "where it may be null, write `| default([])`" if value is None else ""
        raise TemplateError(f"{kind_of(value)} has no items to go through", hint=hint)
    budget.spend(len(value))
    return [like(value, item) for item in value] if isinstance(value, str) else list(value)


def no_text(name: str = "") -> NoReturn:
    """Refuse to write null into a text: neither ``cost: null`` nor a gap is what the author means.

    Raises:
        TemplateError: always; ``name`` is how the author wrote what is null.
    """
    hint = f"write {name} | default(…)" if name else "write `| default(…)` where it may be null"
    raise TemplateError(f"{f'{name} is null' if name else NO_TEXT}, and a text cannot hold it", hint=hint)


def text_of(value: Any, budget: Budget) -> str:
    """Write a value as text: as JSON, but text without quotes.

    Raises:
        TemplateError: it has no text (null has none), or too much.
        AbsentError: it is missing, or something in it is.
        DataMissing: it was not sent along, or something in it was not.
    """
    kind = type(value)
    if isinstance(value, str):
        return value
    if kind is int or kind is float:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        no_text()
    if kind is Undefined:  # `a if b` with no else; Jinja makes it so, and people rely on it
        return ""
    if value is OMIT:
        raise TemplateError(
            "omit stands within a text", hint='omit can only be the whole of a value: "{{ x | default(omit) }}"'
        )
    return dump(value, budget)


def dump(value: Any, budget: Budget, *, indent: bool = False) -> str:
    """Write a value as JSON. No character is escaped for HTML.

    The result is data if all texts in the value are. Otherwise JSON's punctuation is the author's, and data is marked.

    Raises:
        TemplateError: it is not JSON, or too much of it.
        AbsentError: it is missing, or something in it is.
        DataMissing: it was not sent along, or something in it was not.
    """
    own: list[str] = []
    clean = to_json(value, budget, COPIED_PER_UNIT, own)
    if own:
        clean = throughout(lambda text: str(mark(text)), clean)
    try:
        text = orjson.dumps(clean, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except TypeError:  # whole numbers beyond 64 bits, lone surrogates
        text = json.dumps(
            clean, ensure_ascii=False, indent=2 if indent else None, separators=None if indent else (",", ":")
        )
    budget.spend(len(text) // COPIED_PER_UNIT)
    if not own:
        return text
    return authors(text.replace(_BACKSLASH, _BACKSLASH * 2))  # a marked one is data, which JSON escapes


def to_json(
    value: Any,
    budget: Budget,
    per_unit: int = CHARS_PER_UNIT,
    own: list[str] | None = None,
    levels: int = MOST_LEVELS,
) -> Any:
    """Copy a value that must be JSON; the author's texts in it are added to ``own``.

    ``per_unit`` is how many characters of text cost a unit of work, ``levels`` how deep it may be nested. Items and
    keys whose value is ``omit`` are left out; ``omit`` itself is returned as it is.

    Raises:
        TemplateError: it cannot be JSON, there is too much of it, or it is nested too deep.
        AbsentError: it is missing, or something in it is.
        DataMissing: it was not sent along, or something in it was not.
    """
    kind = type(value)
    if isinstance(value, str):
        budget.spend(len(value) // per_unit)
        if kind is not str and own is not None:
            own.append(value)
        return value
    if value is None or kind is bool or kind is int or value is OMIT:
        return value
    if kind is float:
        if value - value != 0:
            raise TemplateError("the number is infinite, which JSON cannot write")
        return value
    if not levels:
        raise TemplateError(f"the value is nested deeper than {MOST_LEVELS} levels")
    if kind is dict:
        budget.spend(1 + len(value))
        pairs = ((key, to_json(part, budget, per_unit, own, levels - 1)) for key, part in value.items())
        return {to_json(text_of(key, budget), budget, per_unit, own): item for key, item in pairs if item is not OMIT}
    if isinstance(value, (list, tuple, range, KeysView, ValuesView, ItemsView)):
        budget.spend(1 + len(value))
        return [item for part in value if (item := to_json(part, budget, per_unit, own, levels - 1)) is not OMIT]
    return _refuse(value)


def _refuse(value: Any) -> NoReturn:
    fetched(value)
    if isinstance(value, Absent):
        value.fail()
    if isinstance(value, Undefined):
        raise TemplateError(
            "the condition does not hold and there is no `else`", hint="write `A if B else none`, or `else omit`"
        )
    raise TemplateError(f"{kind_of(value)} is not a value that can be sent")


def charge(value: Any, budget: Budget) -> None:
    """Charge for reading a whole value, as a comparison does.

    Comparing lists that contain each other many times would take forever.

    Raises:
        TemplateError: there is too much of it.
        DataMissing: it was not sent along.
    """
    if isinstance(fetched(value), dict):
        budget.spend(1 + len(value))
        for item in value.values():
            charge(item, budget)
    elif isinstance(value, (list, tuple)):
        budget.spend(1 + len(value) // 8)
        for item in value:
            if isinstance(item, (dict, list, tuple)):
                charge(item, budget)


def copy_json(value: Any, budget: Budget) -> Any:
    """Copy event data of any size: the document is shared and must not change.

    Raises:
        AbsentError: it is missing.
        DataMissing: it was not sent along, or something in it was not.
    """
    if not isinstance(value, (dict, list)):
        return to_json(value, budget)
    try:
        return _copy(value)
    except ValueError:  # something in it is no JSON, most likely a Missing
        return to_json(value, budget)


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key: _copy(item) for key, item in watched(value.items())}
    if kind is list:
        return [_copy(item) for item in watched(value)]
    raise ValueError(f"a {kind.__name__} is no JSON")


class Steps:
    """The items of a loop; each step is charged."""

    __slots__ = ("_budget", "_cost", "_items")

    def __init__(self, value: Any, budget: Budget, cost: int) -> None:
        self._items = sequence(value, budget)
        self._budget = budget
        self._cost = cost

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._budget.spend(self._cost)
            yield item


def span(*bounds: Any) -> range:
    """``range`` for templates.

    Raises:
        TemplateError: it is longer than a list may be, or its bounds are no whole numbers.
    """
    try:
        made = range(*bounds)
        count = len(made)
    except (TypeError, ValueError, OverflowError) as error:
        raise TemplateError(f"range(…) does not work: {error}") from error
    if count > MAX_ITEMS:
        raise TemplateError(f"a range of {count:,} is too long; {MAX_ITEMS:,} is the most")
    return made
