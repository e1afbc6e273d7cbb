"""A path's text → jsonpath-ng's syntax tree, by jsonpath-ng's grammar.

Parts of RFC 9535 that the grammar lacks are rewritten in the tokens first: selectors of different kinds in one bracket
become a union, a literal on the left of a comparison moves to the right, and functions and ``!(…)`` become nodes
(``engine.rules.jsonpath.functions``), which the grammar accepts in place of a word in backquotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from jsonpath_ng import jsonpath as core
from jsonpath_ng.ext import filter as query
from jsonpath_ng.ext import iterable
from jsonpath_ng.ext.parser import ExtendedJsonPathParser

from engine.core.errors import PathError
from engine.rules.jsonpath.functions import Count, Literal, Test, Value, found_pattern, whole_pattern
from engine.rules.jsonpath.tokens import Token, tokenize

Tokens = Sequence[Token]

#: Quotes as word processors write them.
_CURLY: Final = "\u2018\u2019\u201c\u201d"
_OPEN: Final = {"[": "]", "(": ")"}
_LITERALS: Final = frozenset({"NUMBER", "FLOAT", "BOOL", "NULL"})
_JOINTS: Final = frozenset({"AND", "OR", "&"})
_FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_FUNCTIONS: Final = {"length": 1, "count": 1, "value": 1, "match": 2, "search": 2}


class Grammar(ExtendedJsonPathParser):
    """jsonpath-ng's parser with the engine's lexer. Not thread-safe: it keeps its stacks."""

    def parse(self, string: str, lexer: Any = None) -> core.JSONPath:
        """The tree of a path.

        Raises:
            PathError: it is not well formed (found by this module).
            JSONPathError: it is not well formed (found by jsonpath-ng).
        """
        return self._tree(_Rewriting(string, self._tree).path(tokenize(string)))

    def p_jsonpath_named_operator(self, p: Any) -> None:
        """jsonpath : NAMED_OPERATOR"""
        if isinstance(p[1], core.JSONPath):
            p[0] = p[1]
        else:
            super().p_jsonpath_named_operator(p)

    def _tree(self, tokens: Tokens) -> core.JSONPath:
        return self.parse_token_stream(iter(tokens))  # type: ignore[arg-type]


class _Rewriting:
    """Rewrites the tokens of one path for the grammar."""

    def __init__(self, text: str, parse: Callable[[Tokens], core.JSONPath]) -> None:
        self._text = text
        self._parse = parse

    def path(self, tokens: Tokens) -> list[Token]:
        """Tokens outside filters."""
        done: list[Token] = []
        place = 0
        while place < len(tokens):
            if tokens[place].type == "[":
                end = _closing(tokens, place)
                done += self._bracket(tokens[place:end], bool(done) and done[-1].type == "DOUBLEDOT")
                place = end
            else:
                done.append(tokens[place])
                place += 1
        return done

    # --- brackets ---

    def _bracket(self, tokens: Tokens, below: bool) -> list[Token]:  # noqa: FBT001
        """``[…]`` with its brackets; ``below``: it follows ``..``."""
        first, last, inner = tokens[0], tokens[-1], tokens[1:-1]
        if last.type != "]" or (inner and inner[0].type == "SORT_DIRECTION"):
            return [first, *self.path(tokens[1:])]
        selectors = _split(inner, {","})
        if len(selectors) == 1 or _alike(selectors):
            for selector in selectors:
                self._check_name(selector)
            return [first, *_joined([self._selector(each) for each in selectors], Token(",", ",", first.lexpos)), last]
        return self._union(selectors, first, below=below)

    def _union(self, selectors: Sequence[Tokens], first: Token, *, below: bool) -> list[Token]:
        """Selectors of several kinds: ``.((@[…]) | (@[…]))``."""
        place = first.lexpos
        parts = []
        for selector in selectors:
            self._check_name(selector)
            within = self._selector(selector)
            kinds = (Token(kind, kind, place) for kind in ("(", "@", "["))
            parts.append([*kinds, *within, Token("]", "]", place), Token(")", ")", place)])
        inner = _joined(parts, Token("|", "|", place))
        dot = [] if below else [Token(".", ".", place)]
        return [*dot, Token("(", "(", place), *inner, Token(")", ")", place)]

    def _selector(self, tokens: Tokens) -> list[Token]:
        if tokens and tokens[0].type == "?":
            return [tokens[0], *self._tests(tokens[1:], tokens[0])]
        return self.path(tokens)

    def _check_name(self, tokens: Tokens) -> None:
        """Refuse a name in brackets without quotes, which jsonpath-ng would accept."""
        name = tokens[0] if len(tokens) == 1 else None
        if name is not None and name.type == "ID" and not name.quoted and not name.value.isascii():
            message = "a name in brackets needs quotes"
            raise PathError(message, column=name.lexpos + 1, hint=f"write ['{name.value}']")

    # --- filters ---

    def _tests(self, tokens: Tokens, before: Token) -> list[Token]:
        """Tests joined by ``&&`` and ``||``."""
        done: list[Token] = []
        for joint, part in _parts(tokens):
            done += [joint] if joint is not None else []
            done += self._test(part, joint or before)
        return done

    def _test(self, tokens: Tokens, before: Token) -> list[Token]:
        """One test: a comparison, a query, a function, a group, or the negation of one of the last three."""
        if not tokens:
            return []
        negations = next((i for i, token in enumerate(tokens) if token.type != "!"), len(tokens))
        negated, rest = list(tokens[:negations]), tokens[negations:]
        if len(negated) > 1:
            raise self._error("! can be written only once", negated[1], "two of them cancel each other: remove both")
        if rest and rest[0].type == "(" and _closing(rest, 0) == len(rest) and rest[-1].type == ")":
            return self._group(negated, rest)
        if (place := next((i for i, t in _outside(rest) if t.type == "FILTER_OP"), None)) is not None:
            if negated:
                inner = self._shown(rest)
                raise self._error("! must be followed by a group in parentheses", negated[0], f"write !({inner})")
            return self._comparison(rest[:place], rest[place], rest[place + 1 :])
        return [*negated, *self._alone(rest, before)]

    def _group(self, negated: list[Token], tokens: Tokens) -> list[Token]:
        inner = self._tests(tokens[1:-1], tokens[0])
        if not negated:
            return [tokens[0], *inner, tokens[-1]]
        tests = self._parsed_tests(inner, tokens[0].lexpos)
        return [*negated, _injected(Test(tests, f"({self._shown(tokens[1:-1])})"), tokens[0])]

    def _parsed_tests(self, tokens: Tokens, place: int) -> list[Any]:
        """Tests parsed by jsonpath-ng as in a filter."""
        around = [Token("@", "@", place), Token("[", "[", place), Token("?", "?", place)]
        tree: Any = self._parse([*around, *tokens, Token("]", "]", place)])
        return list(tree.right.expressions)

    def _alone(self, tokens: Tokens, before: Token) -> list[Token]:
        """A test without an operator."""
        if not tokens:
            return []
        if len(tokens) == 1 and _is_literal(tokens[0]):
            message = f"{self._shown(tokens)} alone is not a test"
            field = self._shown(tokens).strip("'\"")
            raise self._error(message, tokens[0], f"compare it, or write @.{field} for a field of that name")
        if not _is_call(tokens):
            return self.path(tokens)
        node = self._call(tokens)
        if not isinstance(node, Test):
            name = tokens[0].value
            raise self._error(f"{name}(…) gives a value, which is not a test", before, f"compare it: {name}(…) > 0")
        return [_injected(node, tokens[0])]

    def _comparison(self, left: Tokens, operator: Token, right: Tokens) -> list[Token]:
        if not left or not right:
            return [*left, operator, *right]
        if operator.value == "=~":
            return [*self._side(left), operator, *right]
        literal, other = (len(side) == 1 and _is_literal(side[0]) for side in (left, right))
        if literal and not other:
            flipped = Token("FILTER_OP", _FLIPPED.get(operator.value, operator.value), operator.lexpos)
            return [*self._side(right), flipped, *left]
        return [*self._side(left), operator, *(right if other else self._right(right))]

    def _side(self, tokens: Tokens) -> list[Token]:
        """The left side of an operator."""
        if len(tokens) == 1 and _is_literal(tokens[0]):
            return [_injected(Literal(_literal(tokens[0])), tokens[0])]
        if _is_call(tokens):
            return [_injected(self._compared(tokens), tokens[0])]
        return self.path(tokens)

    def _right(self, tokens: Tokens) -> list[Token]:
        """The right side of an operator, where jsonpath-ng accepts singular queries and literals."""
        if _is_call(tokens):
            # The grammar accepts a number as it is.
            return [Token("FLOAT", self._compared(tokens), tokens[0].lexpos)]
        if len(tokens) == 1 and tokens[0].type == "ID" and not tokens[0].value.isascii():
            raise self._error("a text needs quotes", tokens[0], f"write '{tokens[0].value.strip(_CURLY)}'")
        return self.path(tokens)

    # --- functions ---

    def _compared(self, tokens: Tokens) -> core.JSONPath:
        node = self._call(tokens)
        if isinstance(node, Test):
            shown = self._shown(tokens)
            raise self._error(f"{tokens[0].value}(…) is a test already", tokens[0], f"write {shown}, or !{shown}")
        return node

    def _call(self, tokens: Tokens) -> core.JSONPath:
        """A function with its arguments."""
        name, arguments = tokens[0].value, _split(tokens[2:-1], {","})
        if name not in _FUNCTIONS:
            known = ", ".join(f"{each}(…)" for each in _FUNCTIONS)
            raise self._error(f"there is no function {name!r} in a filter", tokens[0], f"there are {known}")
        if len(arguments) != _FUNCTIONS[name] or not all(arguments):
            shape = f"{name}(@.name, 'pattern')" if _FUNCTIONS[name] == 2 else f"{name}(@.name)"
            raise self._error(f"{name} does not take this", tokens[0], f"write {shape}")
        shown = self._shown(tokens)
        match name:
            case "length":
                return core.Child(self._value(arguments[0], name), iterable.Len())
            case "count":
                return Count(self._nodes(arguments[0], name), shown)
            case "value":
                return Value(self._nodes(arguments[0], name), shown)
        return self._matching(name, arguments, shown)

    def _matching(self, name: str, arguments: Sequence[Tokens], shown: str) -> Test:
        target, pattern = self._value(arguments[0], name), arguments[1]
        if len(pattern) != 1 or not pattern[0].quoted:
            message = f"the pattern of {name} must be a literal"
            raise self._error(message, pattern[0], f"write it in quotes: {name}({self._shown(arguments[0])}, '…')")
        made = (whole_pattern if name == "match" else found_pattern)(pattern[0].value)
        return Test([query.Expression(target, "=~", made)], shown)

    def _nodes(self, tokens: Tokens, name: str) -> core.JSONPath:
        if tokens[0].type not in ("@", "$"):
            raise self._error(f"{name} takes a query", tokens[0], f"write {name}(@.name)")
        return self._parse(self.path(tokens))

    def _value(self, tokens: Tokens, name: str) -> core.JSONPath:
        """An argument that is one value: a literal, a function's value, or a singular query."""
        if len(tokens) == 1 and _is_literal(tokens[0]):
            return Literal(_literal(tokens[0]))
        if _is_call(tokens):
            return self._compared(tokens)
        tree = self._nodes(tokens, name)
        if any(each.type in ("*", "DOUBLEDOT", ":", "?", ",") for each in tokens):
            shown = self._shown(tokens)
            hint = f"count({shown}) says how many it finds" if name == "length" else f"write {shown}[?{name}(@, '…')]"
            raise self._error(f"{name} takes one value, and {shown} can find several", tokens[0], hint)
        return tree

    # --- words ---

    def _shown(self, tokens: Tokens) -> str:
        """The text of tokens."""
        return self._text[tokens[0].lexpos : tokens[-1].end]

    def _error(self, message: str, token: Token, hint: str) -> PathError:
        return PathError(message, column=token.lexpos + 1, hint=hint)


def _is_literal(token: Token) -> bool:
    return token.type in _LITERALS or (token.type == "ID" and token.quoted)


def _literal(token: Token) -> Any:
    return None if token.type == "NULL" else token.value


def _is_call(tokens: Tokens) -> bool:
    """Whether tokens are one function with its parentheses."""
    if len(tokens) < 2 or tokens[0].type != "ID" or tokens[0].quoted or tokens[1].type != "(":
        return False
    return tokens[1].lexpos == tokens[0].lexpos + len(tokens[0].value) and _closing(tokens, 1) == len(tokens)


def _injected(node: core.JSONPath, token: Token) -> Token:
    return Token("NAMED_OPERATOR", node, token.lexpos)


def _closing(tokens: Tokens, place: int) -> int:
    """The position after the bracket that closes the one here; the end if none does."""
    open_ = []
    for index in range(place, len(tokens)):
        kind = tokens[index].type
        if kind in _OPEN:
            open_.append(_OPEN[kind])
        elif open_ and kind == open_[-1]:
            open_.pop()
            if not open_:
                return index + 1
    return len(tokens)


def _outside(tokens: Tokens) -> Iterator[tuple[int, Token]]:
    """The tokens outside all brackets and parentheses, with their positions."""
    place = 0
    while place < len(tokens):
        yield place, tokens[place]
        place = _closing(tokens, place) if tokens[place].type in _OPEN else place + 1


def _split(tokens: Tokens, marks: set[str]) -> list[Tokens]:
    """The tokens between separators outside brackets."""
    places = [place for place, token in _outside(tokens) if token.type in marks]
    return [tokens[start:end] for start, end in zip([0, *(p + 1 for p in places)], [*places, len(tokens)], strict=True)]


def _parts(tokens: Tokens) -> Iterator[tuple[Token | None, Tokens]]:
    """Tests with the operator before each."""
    places = [place for place, token in _outside(tokens) if token.type in _JOINTS]
    starts, ends = [0, *(place + 1 for place in places)], [*places, len(tokens)]
    joints = [None, *(tokens[place] for place in places)]
    for joint, start, end in zip(joints, starts, ends, strict=True):
        yield joint, tokens[start:end]


def _joined(parts: Sequence[list[Token]], mark: Token) -> list[Token]:
    return [token for index, part in enumerate(parts) for token in ([mark] if index else []) + part]


def _alike(selectors: Sequence[Tokens]) -> bool:
    """Whether jsonpath-ng accepts several selectors as they are: only names, or only indexes."""
    kinds = {tuple(token.type for token in selector) for selector in selectors}
    return kinds in ({("ID",)}, {("NUMBER",)})
