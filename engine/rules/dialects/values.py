"""The values of a condition: constants, fields, functions, lists, and what may follow them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.build import call, method
from engine.rules.dialects.labels import label_value
from engine.rules.dialects.meaning import BOOLEAN, Among, Constant, Field, Node, Unclear, every
from engine.rules.dialects.pieces import as_list, constant_name, deeper, truth
from engine.rules.dialects.stream import Stream
from engine.rules.dialects.tokens import Token
from engine.rules.dialects.words import operator_of

_CONSTANTS: Final[dict[str, Any]] = {
    "true": True, "false": False, "null": None, "none": None, "nil": None, "undefined": None,
}  # fmt: skip
#: Functions called without parentheses, as in Go's templates.
_PREFIX: Final = frozenset({
    "typeof",
    "eq", "ne", "lt", "le", "gt", "ge", "lte", "gte", "neq", "and", "or", "not", "contains", "hasPrefix", "hasSuffix",
    "has", "len", "index", "exists", "isset", "empty", "in", "match", "regexMatch", "lower", "upper",
})  # fmt: skip
#: Those whose arguments are in reverse order in Go's libraries.
_REVERSED: Final = frozenset({"contains", "hasPrefix", "hasSuffix", "regexMatch", "has"})


_NOW: Final = frozenset({"now", "current_timestamp", "sysdate", "getdate", "utcnow", "localtimestamp"})
#: Names of libraries before a function.
_LIBRARIES: Final = frozenset({"re", "strings", "_", "Array", "Math", "regex", "JSON", "pl", "F", "cel"})
#: Functions that take comparisons as keywords, and functions that return the whole document.
_KEYWORDS: Final = frozenset({"q", "filter", "filter_by", "get", "where"})
_BODIES: Final = frozenset({"triggerbody", "triggeroutputs", "body", "input", "getitem"})
#: Words after a bar that apply to the whole value before it.
_OF_PIPES: Final = ("q", "select", "not", "where", "search", "filter", "json", "logfmt")


class Values(Stream):
    """Reads values. A subclass reads the operators between them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._beside: list[Node] = []  # labels of a metric whose value is compared
        self._anchored = False
        self._context: tuple[str | int | None, ...] | None = None
        self._no_colon = 0
        self._labelled = False

    @abstractmethod
    def _condition(self) -> Node: ...

    @abstractmethod
    def _either(self) -> Node: ...

    @abstractmethod
    def _sum(self) -> Node: ...

    @abstractmethod
    def _unary(self) -> Node: ...

    @abstractmethod
    def _skip_rest(self) -> None: ...

    @abstractmethod
    def _case(self) -> Node: ...

    @abstractmethod
    def _ago(self) -> Node: ...

    @abstractmethod
    def _keywords(self) -> Node: ...

    def _primary(self) -> Node:
        token = self._next()
        if token.kind in ("string", "number"):
            return Constant(token.value)
        if token.kind == "regex":
            return Constant(token.value)
        if token.kind == "name":
            return self._name(token)
        if token.text == "@" and self._now.kind == "name":
            return self._name(self._next())
        opened: dict[str, Callable[[], Node]] = {
            "(": self._parenthesis,
            "[": self._list,
            "{": self._set,
            ".": self._dotted,
            "$": lambda: Field(("$",)),
            "@": lambda: Field(("@",)),
            "*": lambda: Field((None,)),
            "#": lambda: Field((".",)),  # Expr: the element
        }
        if token.text in opened:
            return opened[token.text]()
        raise Unclear(f"unexpected {token.text!r}")

    def _parenthesis(self) -> Node:
        self._no_colon, before = 0, self._no_colon
        parts = [self._condition()]
        while self._take(","):
            if not self._is(")"):
                parts.append(self._condition())
        self._expect(")")
        self._no_colon = before
        return parts[0] if len(parts) == 1 else as_list(parts)

    def _list(self) -> Node:
        parts: list[Node] = []
        while not self._take("]"):
            parts.append(self._condition())
            if self._is("for"):
                return self._comprehension(parts[0], "any", "]")
            if not self._take(",") and not self._is("]"):
                raise Unclear("a list that does not end")
        return parts[0] if len(parts) == 1 and isinstance(parts[0], BOOLEAN) else as_list(parts)

    def _set(self) -> Node:
        """``{status="error", name=~"chat.*"}`` of Prometheus, ``{ .status = "error" && … }`` of Tempo, or a set."""
        parts: list[Node] = []
        before, self._anchored = self._anchored, True
        while not self._take("}"):
            parts.append(self._condition())
            if not self._take(",") and not self._is("}"):
                raise Unclear("a set that does not end")
        self._anchored = before
        if not parts:
            raise Unclear("an empty set")
        return every(*parts) if any(isinstance(part, BOOLEAN) for part in parts) else as_list(parts)

    def _dotted(self) -> Node:
        """jq and Go: a field that begins with a dot."""
        base = self._context or ()
        if self._now.kind == "name" and self._tokens[self._place - 1].end == self._now.start:
            return Field((*base, self._next().text))
        if self._is("["):
            return Field(base or ("$",))
        return Field(base or (".",))

    def _name(self, token: Token) -> Node:
        lower = token.text.lower()
        if lower == "new" and self._now.kind == "name":
            return self._name(self._next())
        if lower == "void" and self._now.kind == "number":
            self._next()
            return Constant(None)
        if lower == "case" and self._take("when"):
            return self._case()
        if lower in _NOW and (self._is("(", "-") or self._now.kind == "end"):
            return self._ago()
        if lower in _CONSTANTS and not self._is("."):
            return Constant(_CONSTANTS[lower])
        if self._is("=>") or (self._is("->") and self._at(1).kind != "string"):
            raise Unclear("a function of its own")
        if self._is("("):
            self._next()
            return self._called(token.text)
        if token.text in _PREFIX and self._begins_operand():
            return self._prefixed(token.text, [])
        return Field((token.text,))

    def _begins_operand(self) -> bool:
        spaced = self._tokens[self._place - 1].end < self._now.start
        return spaced and (self._now.kind in ("string", "number", "regex") or self._is(".", "$", "(")
                           or (self._now.kind == "name" and operator_of(self._now.text) is None
                               and self._now.text.lower() not in ("and", "or", "not", "in", "is")))  # fmt: skip

    def _prefixed(self, name: str, args: list[Node]) -> Node:
        """Go's templates: ``eq .run.status "error"``."""
        while self._now.kind not in ("end",) and self._begins_operand():
            args.append(self._unary())
        swap = name in _REVERSED and len(args) == 2 and isinstance(args[0], Constant)
        return call(name, args[::-1] if swap else args)

    def _called(self, name: str) -> Node:
        if name.lower() in _KEYWORDS and self._now.kind == "name" and self._is("=", ahead=1):
            return self._keywords()
        if name.lower() in ("cast", "try_cast", "safe_cast"):
            value = self._sum()
            self._skip_rest()
            self._expect(")")
            return value
        if not self._is(")") or name.lower() not in _BODIES:
            return self._function(name)
        self._next()
        return Field(("body",))

    def _function(self, name: str) -> Node:
        args = self._arguments(name)
        if name in _PREFIX and len(args) == 1 and self._begins_operand():
            return self._prefixed(name, args)
        if name.lower() in ("any", "all", "some", "every") and len(args) == 1 and isinstance(args[0], Among):
            found = args[0]
            return Among("all" if name.lower() in ("all", "every") else "any", found.source, found.name, found.body)
        if name.lower() in ("any", "some") and len(args) == 1 and isinstance(args[0], Field):  # SQL: 'a' = ANY(tags)
            return Field((*args[0].keys, None))
        if name.lower() in ("any", "all") and len(args) == 2 and isinstance(args[0], Field):
            return Among("any" if name.lower() == "any" else "all", args[0], ".", args[1])
        return call(name, args)

    def _arguments(self, name: str) -> list[Node]:
        self._no_colon, before = 0, self._no_colon
        args: list[Node] = []
        while not self._take(")"):
            args.append(self._argument(name, args))
            if self._is("for"):
                args[-1] = self._comprehension(args[-1], "any", ")")
                break
            if not self._take(",", ";") and not self._is(")"):
                raise Unclear("a call that does not end")
        self._no_colon = before
        return args

    def _argument(self, name: str, before: list[Node]) -> Node:
        if name.lower() in ("any", "all") and before:  # jq: any(.tags[]; . == "a")
            context, self._context = self._context, (".",)
            node = self._condition()
            self._context = context
            return node
        return constant_name(self._condition()) if before else self._condition()

    def _comprehension(self, body: Node, quantifier: str, closing: str) -> Node:
        self._expect("for")
        name = self._next().text
        self._expect("in")
        source = self._sum()
        if self._take("if"):
            body = truth(self._either())
        self._expect(closing)
        return Among("all" if quantifier == "all" else "any", source, name, truth(body))

    # --- what follows a value ---

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._is(".", "?.") and self._touches():
                self._next()
                node = self._attribute(node)
            elif self._is("?") and self._is("[", ahead=1) and self._touches():
                self._next()  # Logic Apps: ?['status']
            elif self._is("->", "->>") and self._at(1).kind in ("string", "number"):
                self._next()
                node = deeper(node, self._next().value)
            elif self._is("[?"):
                self._next()
                node = self._filtered(node)
            elif self._is("{") and self._touches() and isinstance(node, Field) and len(node.keys) == 1:
                self._next()
                node = self._metric(node)
            elif self._is("[") and self._touches():
                self._next()
                node = self._index(node)
            elif self._is_filter(node):
                self._next()
                node = self._filter(node)
            elif self._is(":") and not self._no_colon and isinstance(node, Field):
                node = self._label(node)
            else:
                return node

    def _is_filter(self, node: Node) -> bool:
        """Whether Jinja's or jq's function of a value follows a bar; after a condition it is not one."""
        named = self._is("|") and self._at(1).kind == "name" and not self._is(*_OF_PIPES, ahead=1)
        return named and not isinstance(node, BOOLEAN)

    def _metric(self, node: Field) -> Node:
        """A metric with labels: its value if it is a field of a run; else the labels are meant."""
        labels = self._set()
        if run_field(str(node.keys[0])) is None:
            return labels
        self._beside.append(labels)
        return node

    def _touches(self) -> bool:
        return self._tokens[self._place - 1].end == self._now.start

    def _attribute(self, node: Node) -> Node:
        self._take("?")  # CEL: run.?error
        if self._is("["):
            return node
        token = self._next()
        if token.kind == "number" and isinstance(node, Field):
            return Field((*node.keys, *map(int, token.text.split("."))))
        if token.text in ("*", "#", "$") and isinstance(node, Field):
            return Field((*node.keys, None))
        if token.kind != "name":
            raise Unclear(f"unexpected {token.text!r}")
        if self._is("?") and self._touches() and self._in_ruby(token.text):
            return self._predicate(node, token.text)
        if self._is("(") and self._touches():
            self._next()
            return self._method(node, token.text)
        if isinstance(node, Field):
            return Field((*node.keys, token.text))
        if isinstance(node, BOOLEAN):
            return node
        return call(token.text, [node])

    def _in_ruby(self, name: str) -> bool:
        """Whether the question mark here is part of a method's name: ``nil?``, ``include?("a")``."""
        known = operator_of(name) is not None or name in ("any", "all", "none")
        return known and (self._at(1).kind in ("sign", "end") or self._is("and", "or", ahead=1))

    def _predicate(self, node: Node, name: str) -> Node:
        self._next()
        if self._take("("):
            return method(node, name, self._arguments(name))
        if not self._take("{"):
            return call(name, [node])
        self._expect("|")
        element = self._next().text
        self._expect("|")
        body = truth(self._condition())
        self._expect("}")
        return Among("all" if name == "all" else "any", node, element, body)

    def _method(self, node: Node, name: str) -> Node:
        if isinstance(node, Field) and node.keys[-1:] == ("str",) and len(node.keys) > 1:
            node = Field(node.keys[:-1])  # Pandas: df.name.str.contains("chat")
        if name.lower() in ("some", "any", "every", "all", "exists", "exists_one", "find", "filter") and self._lambda():
            return self._among(node, "all" if name.lower() in ("every", "all") else "any")
        if isinstance(node, Field) and len(node.keys) == 1 and node.keys[0] in _LIBRARIES:
            return call(f"re.{name}" if node.keys[0] == "re" else name, self._arguments(name))
        return method(node, name, self._arguments(name))

    def _lambda(self) -> bool:
        """Whether a function of an element begins here: ``t => …``, ``(t) => …``, CEL's ``t, …``, ``this …``."""
        if self._is("(") and self._at(1).kind == "name" and self._is(")", ahead=2):
            return True
        return (self._now.kind == "name" and self._is("=>", "->", ",", ahead=1)) or self._is("this", "it")

    def _among(self, node: Node, quantifier: str) -> Node:
        opened = self._take("(")
        name = self._now.text
        if not self._is("this", "it"):
            self._next()
        self._expect(")") if opened else None
        self._take("=>", ",", "->")
        body = truth(self._condition())
        self._expect(")")
        return Among("all" if quantifier == "all" else "any", node, name, body)

    def _filtered(self, node: Node) -> Node:
        """JMESPath and JSONPath: a filter of elements. The meaning is whether any element matches."""
        before, self._context = self._context, ("@",)
        body = truth(self._condition())
        self._context = before
        self._expect("]")
        if isinstance(node, Field) and node.keys[-1] in ("runs", "traces", "spans"):
            return body
        return Among("any", node, "@", body)

    def _index(self, node: Node) -> Node:
        if isinstance(node, BOOLEAN):
            self._skip_rest()
            self._take("]")
            return node
        if self._take("]"):
            return deeper(node, None)
        if self._now.kind == "name" and not self._is("]", ahead=1):
            return self._filtered(node)  # JSONata: runs[status = "error"]
        token = self._next()
        if token.kind == "name" and token.text != "_" and isinstance(node, Field) and node.keys == ("tags",):
            self._expect("]")  # Sentry: tags[env], which are metadata here
            return Field(("metadata", token.text))
        key = token.value if token.kind in ("string", "number") else None
        if token.kind not in ("string", "number") and token.text not in ("*", "#", "_"):
            raise Unclear("a key that is not constant")
        self._expect("]")
        return deeper(node, key)

    def _filter(self, node: Node) -> Node:
        """Jinja's and jq's functions after a bar."""
        token = self._next()
        args: list[Node] = []
        if token.text in ("any", "all") and self._take("("):
            context, self._context = self._context, (".",)
            body = truth(self._condition())
            self._context = context
            self._expect(")")
            return Among("any" if token.text == "any" else "all", node, ".", body)
        if self._is("("):
            self._next()
            args = self._arguments("")
        return method(node, token.text, args)

    def _label(self, node: Field) -> Node:
        """Lucene, Datadog, Sentry: ``status:error``."""
        start = self._next().end
        self._labelled = True
        made, end = label_value(node, self._text, start)
        while self._now.kind != "end" and self._now.start < end:
            self._next()
        return made
