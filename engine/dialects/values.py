"""The values of a condition: constants, fields, functions, lists, and what may stand behind each of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

from engine.dialects.build import call, method
from engine.dialects.labels import label_value
from engine.dialects.meaning import BOOLEAN, Among, Field, Literally, Node, Unclear, every
from engine.dialects.pieces import as_list, constant_name, deeper, label_matcher, truth
from engine.dialects.stream import Stream
from engine.dialects.tokens import Token
from engine.dialects.words import operator_of

_CONSTANTS: Final[dict[str, Any]] = {
    "true": True, "false": False, "null": None, "none": None, "nil": None, "undefined": None,
}  # fmt: skip
#: Words after which an operand follows without parentheses, as in Go's templates.
_PREFIX: Final = frozenset({
    "typeof",
    "eq", "ne", "lt", "le", "gt", "ge", "lte", "gte", "neq", "and", "or", "not", "contains", "hasPrefix", "hasSuffix",
    "has", "len", "index", "exists", "isset", "empty", "in", "match", "regexMatch", "lower", "upper",
})  # fmt: skip
#: Those of them that Go's libraries give their arguments the other way round.
_REVERSED: Final = frozenset({"contains", "hasPrefix", "hasSuffix", "regexMatch", "has"})


class Values(Stream):
    """Reads values; what they are joined by is read by whoever inherits it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
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

    def _primary(self) -> Node:
        token = self._next()
        if token.kind in ("string", "number"):
            return Literally(token.value)
        if token.kind == "regex":
            return Literally(token.value)
        if token.kind == "name":
            return self._name(token)
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
        return as_list(parts)

    def _set(self) -> Node:
        """``{status="error", name=~"chat.*"}`` of Prometheus, or a set of constants."""
        parts: list[Node] = []
        labels = self._at(1).kind == "sign" and self._now.kind == "name"
        while not self._take("}"):
            parts.append(self._label_pair() if labels else self._condition())
            if not self._take(",") and not self._is("}"):
                raise Unclear("a set that does not end")
        if not parts:
            raise Unclear("an empty set")
        return every(*parts) if labels else as_list(parts)

    def _label_pair(self) -> Node:
        field = Field((self._next().text,))
        sign = self._next().text
        return label_matcher(field, sign, self._sum())

    def _dotted(self) -> Node:
        """jq and Go: a look that begins with a dot."""
        base = self._context or ()
        if self._now.kind == "name" and self._tokens[self._place - 1].end == self._now.start:
            return Field((*base, self._next().text))
        if self._is("["):
            return Field(base or ("$",))
        return Field(base or (".",))

    def _name(self, token: Token) -> Node:
        lower = token.text.lower()
        if lower in _CONSTANTS and not self._is("."):
            return Literally(_CONSTANTS[lower])
        if self._is("=>", "->") and self._now.kind == "sign":
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
        swap = name in _REVERSED and len(args) == 2 and isinstance(args[0], Literally)
        return call(name, args[::-1] if swap else args)

    def _called(self, name: str) -> Node:
        args = self._arguments(name)
        if name in _PREFIX and len(args) == 1 and self._begins_operand():
            return self._prefixed(name, args)
        if name.lower() in ("any", "all", "some", "every") and len(args) == 1 and isinstance(args[0], Among):
            found = args[0]
            return Among("all" if name.lower() in ("all", "every") else "any", found.source, found.name, found.body)
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

    # --- what stands behind a value ---

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._is(".", "?.") and self._touches():
                self._next()
                node = self._attribute(node)
            elif self._is("[?"):
                self._next()
                node = self._filtered(node)
            elif self._is("{") and self._touches() and isinstance(node, Field) and len(node.keys) == 1:
                self._next()
                node = self._set()  # a metric's name, which is none of ours, and its labels
            elif self._is("[") and self._touches():
                self._next()
                node = self._index(node)
            elif self._is("|") and self._at(1).kind == "name" and not self._is("select", ahead=1):
                self._next()
                node = self._filter(node)
            elif self._is(":") and not self._no_colon and isinstance(node, Field):
                node = self._label(node)
            else:
                return node

    def _touches(self) -> bool:
        return self._tokens[self._place - 1].end == self._now.start

    def _attribute(self, node: Node) -> Node:
        if self._is("["):
            return node
        token = self._next()
        if token.kind == "number" and isinstance(node, Field):
            return Field((*node.keys, *map(int, token.text.split("."))))
        if token.text in ("*", "#", "$") and isinstance(node, Field):
            return Field((*node.keys, None))
        if token.kind != "name":
            raise Unclear(f"unexpected {token.text!r}")
        if self._is("(") and self._touches():
            self._next()
            return self._method(node, token.text)
        if isinstance(node, Field):
            return Field((*node.keys, token.text))
        if isinstance(node, BOOLEAN):
            return node
        return call(token.text, [node])

    def _method(self, node: Node, name: str) -> Node:
        if name.lower() in ("some", "any", "every", "all", "exists", "exists_one", "find", "filter") and self._lambda():
            return self._among(node, "all" if name.lower() in ("every", "all") else "any")
        if isinstance(node, Field) and len(node.keys) == 1 and node.keys[0] in ("re", "strings", "_", "Array", "Math"):
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
        self._take("=>", ",") or (self._take("-") and self._take(">"))
        body = truth(self._condition())
        self._expect(")")
        return Among("all" if quantifier == "all" else "any", node, name, body)

    def _filtered(self, node: Node) -> Node:
        """JMESPath and JSONPath: the elements of which a condition holds. Whether there are any is what is meant."""
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
        token = self._next()
        key = token.value if token.kind in ("string", "number") else None
        if token.kind not in ("string", "number") and token.text not in ("*", "#"):
            raise Unclear("a key that is not constant")
        self._expect("]")
        return deeper(node, key)

    def _filter(self, node: Node) -> Node:
        """Jinja's and jq's functions behind a bar."""
        token = self._next()
        args: list[Node] = []
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
