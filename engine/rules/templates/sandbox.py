"""The environment of templates: Jinja's immutable sandbox, with data only and a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import BuiltinMethodType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Cycler, Joiner, Namespace, missing, pass_context
from markupsafe import Markup

from engine.core.errors import TemplateError
from engine.core.vocabulary import PLACED
from engine.rules.templates.budget import CHARS_PER_UNIT, MAX_BITS, STEP, Budget
from engine.rules.templates.filters import FILTERS
from engine.rules.templates.slack_escape import mark, own, plain, throughout
from engine.rules.templates.text_functions import METHODS, apply, braces, join, percent
from engine.rules.templates.values import OMIT, Absent, Steps, charge, fetched, kind_of, no_text, span, text_of

#: What the engine puts at the top of every document.
ENGINE_NAMES = frozenset(
    {"payload", "run", "runs", "feedback", "feedbacks", "feedback_stats", "event", "route", "vars"}
)
#: The top-level keys that LangSmith's own webhooks have, by kind: rule, alert, prompt commit, issue and Context Hub.
# fmt: off
PAYLOAD_NAMES = frozenset({
    "rule_id", "start_time", "end_time", "threads",
    "project_name", "workspace_name", "alert_rule_id", "alert_rule_name", "alert_rule_description", "alert_rule_type",
    "alert_rule_attribute", "alert_rule_url", "runs_url", "triggered_metric_value", "triggered_threshold", "timestamp",
    "prompt_id", "prompt_name", "commit_hash", "created_at", "created_by", "manifest", "tag_name",
    "id", "type", "created", "request_id", "data",
})
# fmt: on
#: Every name that is looked up in the document. Other keys of a webhook's body are ``payload.NAME``.
DOCUMENT_NAMES = ENGINE_NAMES | PAYLOAD_NAMES | PLACED.keys() | {"commit"}
#: Those whose values come from the author or the engine; all others come from outside.
OWN_NAMES = frozenset({"vars", "route", "event", "throttle", "digest"})
#: Those whose values come out of the event (or, in ``delivery``, from a destination).
EVENT_NAMES = DOCUMENT_NAMES - OWN_NAMES

#: Names of the filters that the rewriter puts into a syntax tree. No author can write them.
LOOP, CONCAT, OUTPUT, OWN, WITHIN, SIDE = "__loop", "__concat", "__output", "__own", "__within", "__side"
WRITTEN = "__written"

_MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
_LIST_METHODS = frozenset({"index", "count"})
# fmt: off
_LOOP_NAMES = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last",
    "length", "depth", "depth0", "previtem", "nextitem", "cycle", "changed",
})
# fmt: on
_HELPER_NAMES = frozenset({"next", "reset", "current"})
#: All methods that templates may call.
METHOD_NAMES = METHODS.keys() | {"format"} | _MAPPING_METHODS | _LIST_METHODS | {"cycle", "changed", "next", "reset"}
_TESTS_LEFT_OUT = frozenset({"filter", "test", "callable", "escaped"})


class Rendering(Context):
    """Resolves the names of one text: its own variables, then functions, then the document."""

    def __init__(self, environment: Sandbox, document: Mapping[str, Any], budget: Budget, size: int) -> None:
        # Jinja's own would also make an EvalContext, for every text anew.
        self.environment, self.parent, self.eval_ctx = environment, document, environment.evaluation  # type: ignore[assignment]
        self.budget, self.size = budget, size
        self.vars: dict[str, Any] = {}
        self.exported_vars: set[str] = set()
        self.name, self.blocks = None, {}

    def resolve_or_missing(self, key: str) -> Any:
        """The value of a top-level name, or Jinja's ``missing``."""
        if key in self.vars:
            return self.vars[key]
        functions = self.environment.globals
        if key in functions:
            return functions[key]
        return self.parent.get(key, missing) if key in DOCUMENT_NAMES else missing


class _Generator(CodeGenerator):
    def _output_child_pre(self, _node: Any, _frame: Any, finalize: Any) -> None:
        self.write(f"({finalize.src}")  # what ``_output`` gives is text, and escaped


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment for plain texts, or (``escaping``) for texts in which event data is escaped."""

    code_generator_class: type[CodeGenerator] = _Generator
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, *, escaping: bool = False) -> None:
        super().__init__(
            undefined=Absent,
            finalize=_output,
            autoescape=escaping,
            optimized=False,
            keep_trailing_newline=True,
            cache_size=0,
            extensions=["jinja2.ext.loopcontrols"],
        )
        self.escaping = escaping
        self.evaluation = nodes.EvalContext(self)
        self.globals = {
            "range": span,
            "dict": dict,
            "namespace": Namespace,
            "cycler": Cycler,
            "joiner": Joiner,
            "omit": OMIT,
        }
        self.filters = {
            **FILTERS,
            LOOP: _loop,
            CONCAT: _concat,
            OUTPUT: _output,
            OWN: _own,
            WITHIN: _within,
            SIDE: _side,
            WRITTEN: _written,
        }
        tests: Mapping[str, Any] = TESTS
        self.tests = {name: _test(test) for name, test in tests.items() if name not in _TESTS_LEFT_OUT}

    def public_filters(self) -> list[str]:
        """The filters an author may write."""
        return [name for name in self.filters if not name.startswith("__")]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``: a mapping's key first, then the safe methods."""
        if type(obj) is dict:
            found = _key(obj, attribute)
            if found is not missing:
                return found
            return getattr(obj, attribute) if attribute in _MAPPING_METHODS else Absent(obj=obj, name=attribute)
        return self._attribute(obj, attribute)

    def _attribute(self, obj: Any, name: str) -> Any:
        if isinstance(fetched(obj), Undefined):
            return obj if isinstance(obj, Absent) else Absent(obj=None, name=name)
        nothing = Absent(obj=obj, name=name)
        if type(obj) is Namespace:
            return nothing if name.startswith("_") else getattr(obj, name, nothing)
        allowed = (
            (isinstance(obj, str) and (name in METHODS or name == "format"))
            or (isinstance(obj, (list, tuple)) and (name in _LIST_METHODS or name in getattr(obj, "_fields", ())))
            or (isinstance(obj, LoopContext) and name in _LOOP_NAMES)
            or (isinstance(obj, Cycler) and name in _HELPER_NAMES)
        )
        if not allowed:
            return nothing
        return getattr(str, name).__get__(obj) if isinstance(obj, Markup) else getattr(obj, name)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """``obj[argument]``: a key or an index, never an attribute."""
        if isinstance(argument, Absent):
            argument.fail()
        if type(obj) is dict:
            found = _key(obj, argument)
            return Absent(obj=obj, name=argument) if found is missing else found
        if isinstance(argument, int) and isinstance(obj, (list, tuple, str, range)):
            return obj[argument] if -len(obj) <= argument < len(obj) else Absent(obj=obj, name=argument)  # type: ignore[arg-type]
        if isinstance(argument, str) or isinstance(fetched(obj), Undefined):
            return self._attribute(obj, argument)
        return Absent(obj=obj, name=argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja does
        """Call a function, a macro, a loop or a safe method. Each call costs a step."""
        budget: Budget = __context.budget  # type: ignore[attr-defined]
        budget.spend(STEP)
        if isinstance(__obj, Macro):
            budget.spend(__context.size // CHARS_PER_UNIT)  # type: ignore[attr-defined]
            return __context.call(__obj, *args, **kwargs)
        if isinstance(kwargs.get("caller"), Macro):
            raise TemplateError("{% call %} is for macros only")
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        if isinstance(__obj, BuiltinMethodType):
            return __self._method(budget, __obj, args, kwargs)
        if isinstance(__obj, LoopContext):
            return __obj(*(Steps(item, budget, STEP) for item in args))
        if isinstance(fetched(__obj), Absent):
            __obj.fail()
        if __obj in (span, dict, Namespace, Cycler, Joiner) or isinstance(__obj, Joiner) or __self._bound(__obj):
            return __obj(*args, **kwargs)
        raise TemplateError(f"{kind_of(__obj)} cannot be called")

    @staticmethod
    def _bound(obj: Any) -> bool:
        return isinstance(getattr(obj, "__self__", None), (LoopContext, Cycler))

    def _method(self, budget: Budget, method: BuiltinMethodType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        owner: Any = method.__self__
        name = method.__name__
        if isinstance(owner, str):
            return self._text_method(budget, owner, name, args, kwargs)
        if isinstance(owner, dict) and name == "get":
            return self._get(owner, *args)
        if isinstance(owner, dict):
            budget.spend(len(owner))
            return method()
        owner, args = self.bare((owner, args), budget)
        return getattr(owner, name)(*args)

    def bare(self, value: Any, budget: Budget) -> Any:
        """A value to compare: charged in full, and without marks."""
        charge(value, budget)
        return throughout(plain, value) if self.escaping else value

    def _text_method(self, budget: Budget, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "format":
            made = braces(budget, text, self.getitem, args, kwargs)
            budget.made(len(made))
            return made
        values = [fetched(argument) for argument in args]
        try:
            return apply(budget, METHODS[name], text, values, kwargs)
        except (TypeError, AttributeError) as error:
            kinds = ", ".join(map(kind_of, values))
            raise TemplateError(f"text.{name}() does not take ({kinds})") from error

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Apply a filter by name, as ``map`` does; the rewriter's filters are not available."""
        if name.startswith("__"):
            raise TemplateError(f"there is no filter {str(name)!r}")
        return super().call_filter(name, *args, **kwargs)

    @staticmethod
    def _get(owner: dict[Any, Any], key: Any, default: Any = None) -> Any:
        found = _key(owner, key)
        return default if found is missing else found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator; its result is capped before it is made."""
        budget: Budget = context.budget  # type: ignore[attr-defined]
        if operator == "%" and isinstance(left, str):
            made = percent(budget, left, right)
            budget.made(len(made))
            return made
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return join(budget, "", (left, right))
        _check(budget, operator, fetched(left), fetched(right))
        try:
            return self.binop_table[operator](left, right)
        except TypeError as error:
            hint = "join texts with ~" if operator == "+" and (isinstance(left, str) or isinstance(right, str)) else ""
            raise TemplateError(f"{kind_of(left)} {operator} {kind_of(right)} has no meaning", hint=hint) from error


def _key(obj: dict[Any, Any], key: Any) -> Any:
    """A mapping's value; marks in the key are ignored."""
    try:
        found = obj.get(key, missing)
    except TypeError as error:
        raise TemplateError(f"{kind_of(key)} is no key that a mapping can have") from error
    return obj.get(plain(key), missing) if found is missing and isinstance(key, Markup) else found


def _check(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Refuse what would be too large, before it is made."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if operator == "**":
            bits = left.bit_length() * max(0, right) if abs(left) > 1 else 1
        if operator in ("*", "**") and bits > MAX_BITS:
            raise TemplateError(f"{operator} makes a number of more than {MAX_BITS * 3 // 10:,} digits")
    elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        whole, times = (left, right) if isinstance(right, int) else (right, left)
        if isinstance(whole, (str, list, tuple)):
            (budget.made if isinstance(whole, str) else budget.items)(len(whole) * max(0, times))
    elif operator == "+" and isinstance(left, (list, tuple)) and type(left) is type(right):
        budget.items(len(left) + len(right))


def _test(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that raises for data that was not fetched, and ignores marks."""

    @pass_context
    def call(context: Any, *args: Any, **kwargs: Any) -> Any:
        return test(*(_side(context, argument) for argument in args), **kwargs)

    return call


@pass_context
def _output(context: Any, value: Any) -> str:
    """Write a value into the output. In an escaping environment data is marked."""
    text = text_of(value, context.budget)
    if len(text) >= CHARS_PER_UNIT:
        context.budget.made(len(text))
    return mark(text) if context.eval_ctx.autoescape else text


def _written(value: Any, name: str) -> Any:
    """Refuse to output null; ``name`` is the lookup as the author wrote it, or empty."""
    if value is None:
        no_text(name)
    return value


@pass_context
def _concat(context: Any, values: list[Any]) -> str:
    """Join values, written as templates write them."""
    return join(context.budget, "", values)


def _own(value: Any) -> Any:
    """A value of the author or the engine, as the author's texts."""
    return throughout(own, value)


@pass_context
def _loop(context: Any, value: Any, literal: int) -> Steps:
    """The items of a ``for``; every step is charged, with the literal text of its body."""
    return Steps(value, context.budget, STEP + literal // CHARS_PER_UNIT)


@pass_context
def _side(context: Any, value: Any) -> Any:
    """A side of a comparison."""
    return context.environment.bare(value, context.budget)


@pass_context
def _within(context: Any, value: Any) -> Any:
    """The right side of ``in``: searching it is charged."""
    if isinstance(fetched(value), (str, list, tuple)):
        context.budget.spend(len(value) // 128)
    return value
