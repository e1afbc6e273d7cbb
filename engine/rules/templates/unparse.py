"""Write a syntax tree as an expression, for advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jinja2 import nodes

#: Precedence, lowest first.
_IF, _OR, _AND, _NOT, _COMPARE, _SUM, _CONCAT, _PRODUCT, _UNARY, _POWER, _TIGHT = range(11)
_BINARY: Mapping[type, tuple[str, int]] = MappingProxyType(
    {
        nodes.Or: ("or", _OR),
        nodes.And: ("and", _AND),
        nodes.Add: ("+", _SUM),
        nodes.Sub: ("-", _SUM),
        nodes.Mul: ("*", _PRODUCT),
        nodes.Div: ("/", _PRODUCT),
        nodes.FloorDiv: ("//", _PRODUCT),
        nodes.Mod: ("%", _PRODUCT),
        nodes.Pow: ("**", _POWER),
    }
)
_COMPARISONS: Mapping[str, str] = MappingProxyType(
    {"eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "in": "in", "notin": "not in"}
)


def unparse(node: nodes.Expr) -> str:
    """The text of an expression.

    Raises:
        KeyError: it has a part that expressions of conditions cannot have.
    """
    return _written(node, _IF)


def _written(node: nodes.Expr, around: int) -> str:
    """``around`` is the precedence of the surrounding operator; a lower one needs parentheses."""
    text, level = _text(node)
    return f"({text})" if level < around else text


def _text(node: nodes.Expr) -> tuple[str, int]:
    if type(node) in _BINARY:
        sign, level = _BINARY[type(node)]
        return f"{_written(node.left, level)} {sign} {_written(node.right, level + 1)}", level  # type: ignore[attr-defined]
    return _WRITERS[type(node)](node)


def _not(node: Any) -> tuple[str, int]:
    inner = node.node
    if isinstance(inner, nodes.Test):
        return _test(inner, "is not")
    return f"not {_written(inner, _NOT)}", _NOT


def _test(node: Any, word: str = "is") -> tuple[str, int]:
    arguments = f"({_arguments(node)})" if node.args or node.kwargs else ""
    return f"{_written(node.node, _UNARY)} {word} {node.name}{arguments}", _COMPARE


def _compare(node: Any) -> tuple[str, int]:
    parts = [_written(node.expr, _SUM)]
    parts += [f"{_COMPARISONS[operand.op]} {_written(operand.expr, _SUM)}" for operand in node.ops]
    return " ".join(parts), _COMPARE


def _choice(node: Any) -> tuple[str, int]:
    # Jinja takes the `if` of `x is defined if y` for an argument of the test.
    text = f"{_written(node.expr1, _SUM)} if {_written(node.test, _OR)}"
    return (text if node.expr2 is None else f"{text} else {_written(node.expr2, _IF)}"), _IF


def _filter(node: Any) -> tuple[str, int]:
    arguments = f"({_arguments(node)})" if node.args or node.kwargs else ""
    return f"{_written(node.node, _UNARY)} | {node.name}{arguments}", _UNARY


def _arguments(node: Any) -> str:
    parts = [_written(each, _IF) for each in node.args]
    parts += [f"{pair.key}={_written(pair.value, _IF)}" for pair in node.kwargs]
    return ", ".join(parts)


def _constant(node: Any) -> tuple[str, int]:
    value = node.value
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value], _TIGHT
    if isinstance(value, str) and not set(value) & {"'", "\\", "\n"}:
        return f"'{value}'", _TIGHT
    return json.dumps(value, ensure_ascii=False), _TIGHT


def _item(node: Any) -> tuple[str, int]:
    return f"{_written(node.node, _TIGHT)}[{_written(node.arg, _IF)}]", _TIGHT


def _slice(node: Any) -> tuple[str, int]:
    bounds = [node.start, node.stop] + ([node.step] if node.step else [])
    return ":".join("" if bound is None else _written(bound, _IF) for bound in bounds), _TIGHT


def _listed(items: list[nodes.Expr]) -> str:
    return ", ".join(_written(item, _IF) for item in items)


def _mapping(node: Any) -> tuple[str, int]:
    pairs = ", ".join(f"{_written(pair.key, _IF)}: {_written(pair.value, _IF)}" for pair in node.items)
    return f"{{{pairs}}}", _TIGHT


_WRITERS: Mapping[type, Callable[[Any], tuple[str, int]]] = MappingProxyType(
    {
        nodes.Name: lambda node: (node.name, _TIGHT),
        nodes.Const: _constant,
        nodes.Getattr: lambda node: (f"{_written(node.node, _TIGHT)}.{node.attr}", _TIGHT),
        nodes.Getitem: _item,
        nodes.Slice: _slice,
        nodes.List: lambda node: (f"[{_listed(node.items)}]", _TIGHT),
        nodes.Tuple: lambda node: (f"({_listed(node.items)}{',' if len(node.items) == 1 else ''})", _TIGHT),
        nodes.Dict: _mapping,
        nodes.Call: lambda node: (f"{_written(node.node, _TIGHT)}({_arguments(node)})", _TIGHT),
        nodes.Filter: _filter,
        nodes.Test: _test,
        nodes.Not: _not,
        nodes.Neg: lambda node: (f"-{_written(node.node, _UNARY)}", _UNARY),
        nodes.Pos: lambda node: (f"+{_written(node.node, _UNARY)}", _UNARY),
        nodes.Compare: _compare,
        nodes.Concat: lambda node: (" ~ ".join(_written(part, _PRODUCT) for part in node.nodes), _CONCAT),
        nodes.CondExpr: _choice,
    }
)
