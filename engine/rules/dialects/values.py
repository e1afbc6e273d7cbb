"""The values of a condition written as text: constants, fields, calls, lists, and what may follow them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Final

from engine.rules.dialects.calls import bare_word, call
from engine.rules.dialects.labels import label_value
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Among,
    Constant,
    Field,
    Keys,
    Node,
    Unclear,
    every,
    list_of,
    opposite,
    truth,
)
from engine.rules.dialects.tokens import CONSTANTS, Token, Tokens
from engine.rules.dialects.words import operator_of

#: How strongly operators bind, from the weakest.
SEQUENCE, PIPE, CHOICE, OR, AND, NOT, COMPARE, SUM, PRODUCT, VALUE = range(10)
#: Words at the beginning of a condition that add nothing to it.
_LEADING: Final = frozenset({"filter", "search", "return", "where", "if", "when", "new"})
#: Functions called without parentheses, as in Go's templates; those with their arguments in reverse order.
_GO: Final = frozenset({
    "typeof", "eq", "ne", "lt", "le", "gt", "ge", "lte", "gte", "neq", "and", "or", "not", "contains", "hasPrefix",
    "hasSuffix", "has", "len", "index", "exists", "isset", "empty", "in", "match", "regexMatch", "lower", "upper",
})  # fmt: skip
_REVERSED: Final = frozenset({"contains", "hasPrefix", "hasSuffix", "regexMatch", "has"})
#: Names of libraries before a function, and functions that return the whole document.
_LIBRARIES: Final = frozenset({"re", "strings", "_", "Array", "Math", "regex", "JSON", "pl", "F", "cel"})
_BODIES: Final = frozenset({"triggerbody", "triggeroutputs", "body", "input", "getitem"})
#: Functions that test the elements of a list, with our quantifier.
_QUANTIFIERS: Final = {
    "any": "any", "some": "any", "exists": "any", "exists_one": "any", "find": "any", "filter": "any", "all": "all",
    "every": "all",
}  # fmt: skip
#: Words after a bar that apply to a whole condition before it.
_AFTER_BAR: Final = ("q", "select", "not", "where", "search", "filter", "json", "logfmt")


@dataclass(frozen=True, slots=True)
class _Scope:
    """What depends on the surrounding brackets.

    ``context``: the field that a leading dot means. ``anchored``: patterns must match the whole text.
    ``labels``: a colon is followed by the value of a field.
    """

    context: Keys = ()
    anchored: bool = False
    labels: bool = True


class Values(Tokens):
    """Reads values. A subclass reads the operators between them (precedence climbing, as Pratt's parsers do)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._scope = _Scope()
        self._labelled = False  # whether a field with a colon was read, after which spaces mean "and"

    @abstractmethod
    def _infix(self, left: Node, power: int) -> Node | None:
        """Continue an expression with an operator that binds at least as ``power`` does; None if none follows."""

    def _expression(
        self, power: int = SEQUENCE, *, context: Keys | None = None, labels: bool | None = None, anchored: bool = False
    ) -> Node:
        """An expression whose operators bind at least as strongly as ``power``."""
        before = self._scope
        self._scope = _Scope(
            before.context if context is None else context,
            before.anchored or anchored,
            before.labels if labels is None else labels,
        )
        try:
            node = self._prefix()
            while (longer := self._suffix(node) or self._infix(node, power)) is not None:
                node = longer
        finally:
            self._scope = before
        return node

    def _list(self, closing: str, *read: Node, context: Keys | None = None) -> list[Node]:
        """Expressions up to a closing bracket, after those that were read already."""
        parts = list(read)
        while not self._take(closing):
            if parts and not self._take(",", ";"):
                raise Unclear("a list that does not end")
            if not self._is(closing):
                parts.append(self._expression(PIPE, context=context, labels=True, anchored=closing == "}"))
        return parts

    def _condition(self, power: int = PIPE) -> Node:
        return truth(self._expression(power))

    # --- what an expression begins with ---

    def _prefix(self) -> Node:
        token = self._next()
        text = token.text.lower()
        if token.kind in ("string", "number", "regex"):
            return Constant(token.value)
        if text == "=" or (text in _LEADING and not self._touches()) or (text == "+" and self._now.kind == "name"):
            return self._prefix()
        if text == "-" and self._now.kind == "number":
            return Constant(-self._next().value)
        if text in ("not", "!", "~") or (text == "-" and self._now.kind == "name"):
            return opposite(self._condition(NOT))
        if token.kind == "name":
            return self._name(token)
        if text in ("*", "#"):  # each element; Expr: the element
            return Field((None,) if text == "*" else (".",))
        return self._bracket(text)

    def _bracket(self, text: str) -> Node:
        match text:
            case "(" | "{":  # also Prometheus' {status="error", name=~"chat.*"} and Tempo's { .status = "error" && … }
                parts = self._list(")" if text == "(" else "}")
                alone = text == "(" and len(parts) == 1
                conditions = any(isinstance(part, BOOLEAN) for part in parts)
                return parts[0] if alone else every(*map(truth, parts)) if conditions else _items(parts)
            case "[":
                parts = self._list("]")
                return parts[0] if len(parts) == 1 and isinstance(parts[0], BOOLEAN) else _items(parts)
            case "." if self._now.kind == "name" and self._touches():  # jq and Go
                return Field((*self._scope.context, self._next().text))
            case ".":
                return Field(self._scope.context or (("$",) if self._is("[") else (".",)))
        raise Unclear(f"unexpected {text!r}")

    def _name(self, token: Token) -> Node:
        if token.text.lower() in CONSTANTS and not self._is("."):
            return Constant(CONSTANTS[token.text.lower()])
        if self._is("=>") or (self._is("->") and self._at(1).kind != "string"):
            raise Unclear("a function of its own")
        if self._take("("):
            return self._called(token.text)
        if token.text in _GO and self._begins_operand():
            return self._go(token.text, [])
        return Field((token.text,))

    def _begins_operand(self) -> bool:
        """Whether an argument of a function without parentheses begins here."""
        word = self._now.kind == "name" and self._now.text.lower() not in ("and", "or", "not", "in", "is")
        word = word and operator_of(self._now.text) is None
        begins = word or self._now.kind in ("string", "number", "regex") or self._is(".", "$", "(")
        return begins and not self._touches()

    def _go(self, name: str, args: list[Node]) -> Node:
        """Go's templates: ``eq .run.status "error"``."""
        while self._begins_operand():
            args.append(self._expression(VALUE))
        swap = name in _REVERSED and len(args) == 2 and isinstance(args[0], Constant)
        return call(name, args[::-1] if swap else args)

    def _called(self, name: str) -> Node:
        """A call, after its opening parenthesis."""
        quantifier = _QUANTIFIERS.get(name.lower())
        if name.lower() in _BODIES and self._take(")"):
            return Field(("body",))
        read = [] if quantifier is None or self._is(")") else [self._expression(PIPE, labels=True)]
        match read:
            case [Field() as source] if quantifier is not None and self._take(",", ";"):
                return self._among(quantifier, source)
        match self._list(")", *read):
            case [Among() as found] if quantifier is not None:
                return replace(found, quantifier=quantifier)
            case [Field(keys)] if name.lower() in ("any", "some"):  # SQL: 'prod' = ANY(tags)
                return Field((*keys, None))
            case [argument] if name in _GO and self._begins_operand():
                return self._go(name, [argument])
            case args:
                return call(name, [*args[:1], *map(bare_word, args[1:])])

    def _among(self, quantifier: str, source: Node) -> Node:
        """The test of a list's elements: ``t => …``, CEL's ``t, …``, ``this …``, jq's and Expr's ``.`` or ``#``."""
        name = self._now.text if self._is("this", "it") else "."
        if self._begins_lambda() and name == ".":
            name = self._next().text
            self._next()
        body = truth(self._expression(PIPE, context=(".",)))
        self._expect(")")
        return Among(quantifier, source, name, body)

    def _begins_lambda(self) -> bool:
        return self._is("this", "it") or (self._now.kind == "name" and self._is("=>", "->", ",", ahead=1))

    # --- what follows a value without a space ---

    def _suffix(self, node: Node) -> Node | None:
        touches = self._touches()
        match self._now.text, node:
            case ".", _ if touches:
                return self._attribute(node)
            case "->" | "->>", _ if self._at(1).kind in ("string", "number"):
                self._next()
                return _element(node, self._next().value)
            case "[", _ if touches:
                return self._index(node)
            case "[?", _:
                return self._index(node)
            case "|", _ if self._at(1).kind == "name" and not self._is(*_AFTER_BAR, ahead=1):
                return None if isinstance(node, BOOLEAN) else self._filter(node)
            case ":", Field() if self._scope.labels:
                return self._label(node)
        return None

    def _attribute(self, node: Node) -> Node:
        self._next()
        if self._is("["):
            return node
        token = self._next()
        if token.kind == "number" or token.text in ("*", "#", "$"):
            return _element(node, int(token.value) if token.kind == "number" else None)
        if token.kind != "name":
            raise Unclear(f"unexpected {token.text!r}")
        if self._touches() and self._take("("):
            return self._method(node, token.text)
        if isinstance(node, Field):
            return Field((*node.keys, token.text))
        return node if isinstance(node, BOOLEAN) else call(token.text, [node])

    def _method(self, node: Node, name: str) -> Node:
        """A call of a method, after its opening parenthesis."""
        quantifier = _QUANTIFIERS.get(name.lower())
        if quantifier is not None and self._begins_lambda():
            return self._among(quantifier, node)
        args = self._list(")")
        match node:
            case Field((str() as library,)) if library in _LIBRARIES:
                return call(f"re.{name}" if library == "re" else name, args)
            case Field((*keys, "str")) if keys:  # Pandas: df.name.str.contains("chat")
                node = Field(tuple(keys))
        return call(name, [node, *map(bare_word, args)])

    def _index(self, node: Node) -> Node:
        """An element, or the filter of JSONPath, JMESPath and JSONata, which means that any element matches."""
        filtered = self._next().text == "[?"
        parts = self._list("]", context=("@",))
        match node, parts:
            case _ if isinstance(node, BOOLEAN):
                return node
            case Field((*_, "runs" | "traces" | "spans")), [body] if filtered or isinstance(body, BOOLEAN):
                return truth(body)
            case _, [body] if filtered or isinstance(body, BOOLEAN):
                return Among("any", node, "@", truth(body))
            case _, [] | [Field((None | "_" | ".",))]:
                return _element(node, None)
            case Field(("tags",)), [Field((str() as key,))]:  # Sentry: tags[env], which are metadata here
                return Field(("metadata", key))
            case _, [Constant(str() | int() as key)]:
                return _element(node, key)
        raise Unclear("a key that is not constant")

    def _filter(self, node: Node) -> Node:
        """Jinja's and jq's functions after a bar."""
        self._next()
        name = self._next().text
        if name in ("any", "all") and self._take("("):
            return self._among(name, node)
        return call(name, [node, *(self._list(")") if self._take("(") else [])])

    def _label(self, node: Field) -> Node:
        """Lucene, Datadog, Sentry: ``status:error``."""
        made, end = label_value(node, self._text, self._next().end)
        self._labelled = True
        while self._now.kind != "end" and self._now.start < end:
            self._next()
        return made


def _items(parts: list[Node]) -> Node:
    return list_of([bare_word(part) for part in parts])


def _element(node: Node, key: str | int | None) -> Node:
    if not isinstance(node, Field):
        raise Unclear("an element of a computed value")
    return Field((*node.keys, key))
