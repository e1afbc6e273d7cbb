"""A condition written as text, in any of the usual expression languages → its meaning.

One grammar takes them all: their operators and functions differ in name, hardly in meaning. What it
reads wrongly is caught later: a suggestion is only made if it can be loaded.
"""

from __future__ import annotations

from typing import Final

from engine.dialects.build import compare
from engine.dialects.meaning import (
    BOOLEAN,
    Arithmetic,
    Default,
    Field,
    Items,
    Literally,
    Node,
    Unclear,
    every,
    opposite,
    some,
)
from engine.dialects.pieces import chosen, constant_name, is_number, truth
from engine.dialects.values import Values
from engine.dialects.words import Word, operator_of

_MAX_DEPTH: Final = 60
_SIGNS: Final = {
    "==": "eq", "===": "eq", "=": "eq", ":=": "eq", "!=": "ne", "!==": "ne", "<>": "ne", "<": "lt", "<=": "lte",
    "=<": "lte", ">": "gt", ">=": "gte", "=>": "gte", "=~": "matches", "~": "matches", "==~": "matches",
    "!~": "not matches", "~*": "~*", "!~*": "!~*", "=~*": "~*",
}  # fmt: skip
_AND, _OR, _NOT = frozenset({"and", "&&", "&"}), frozenset({"or", "||"}), frozenset({"not", "!", "-"})
_LONGEST_WORDS: Final = 7


def parse_text(text: str) -> Node:
    """The meaning of a condition; its fields are as written.

    Raises:
        Unclear: it is none in any of the languages.
    """
    return _Parser(text).whole()


class _Parser(Values):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    # --- the grammar, from the loosest to the tightest ---

    def whole(self) -> Node:
        if self._take("where", "if", "when", "filter"):
            return self.whole()
        node = self._condition()
        while self._now.kind != "end":
            if not (self._labelled and self._begins_value()):
                raise Unclear(f"unexpected {self._now.text!r}")
            node = every(truth(node), truth(self._condition()))
        return node

    def _condition(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unclear("nested too deeply")
        node = self._piped()
        self._depth -= 1
        return node

    def _piped(self) -> Node:
        """jq: what stands before the bar is what is looked at behind it."""
        node = self._choice()
        while self._is("|") and not self._is("|", ahead=1):
            self._next()
            if isinstance(node, BOOLEAN):  # `[?…] | [0]`, `select(…) | .id`
                self._skip_rest()
                return node
            before, self._context = self._context, node.keys if isinstance(node, Field) else None
            node = self._choice()
            self._context = before
        return node

    def _skip_rest(self) -> None:
        while self._now.kind != "end" and not self._is(")", ","):
            self._next()

    def _choice(self) -> Node:
        node = self._either()
        if self._take("??"):
            return self._after(Default(node, self._either()))
        if not self._is("?"):
            return self._python_choice(node)
        self._next()
        self._no_colon += 1
        then = self._condition()
        self._no_colon -= 1
        self._expect(":")
        return chosen(truth(node), then, self._condition())

    def _python_choice(self, node: Node) -> Node:
        if not self._take("if"):
            return node
        condition = self._either()
        self._expect("else")
        return chosen(truth(condition), node, self._choice())

    def _either(self) -> Node:
        node = self._both()
        while self._is(*_OR) and self._now.kind != "end":
            self._next()
            node = some(truth(node), truth(self._both()))
        return node

    def _both(self) -> Node:
        node = self._negated()
        while True:
            if self._is(*_AND):
                self._next()
                self._take("&")
                node = every(truth(node), truth(self._negated()))
            elif self._labelled and self._begins_value() and not self._is("if", "else", "or", "for", "not in"):
                node = every(truth(node), truth(self._negated()))
            else:
                return node

    def _begins_value(self) -> bool:
        return self._now.kind in ("name", "string", "regex") or self._is("(", "!", "-", "@", "*")

    def _negated(self) -> Node:
        if self._is("not") and not self._is("in", ahead=1):
            self._next()
            return opposite(truth(self._negated()))
        if self._is("!") or (self._is("-") and self._at(1).kind == "name"):
            self._next()
            return opposite(truth(self._negated()))
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        made: list[Node] = []
        while (word := self._infix()) is not None:
            right = self._right(word)
            made.append(compare(word, left, right))
            left = right if right is not None else left
        return self._after(every(*made)) if made else left

    def _after(self, node: Node) -> Node:
        """``(a ?? b) == c`` without its parentheses."""
        if isinstance(node, Default) and (word := self._infix()) is not None:
            return compare(word, node, self._right(word))
        return node

    def _infix(self) -> Word | None:
        """The operator that stands here, taken; None where there is none."""
        if self._now.kind == "sign":
            return self._sign()
        return self._words(negated=False) if self._now.kind == "name" else None

    def _sign(self) -> Word | None:
        if self._dashed():
            self._next()
            return self._words(negated=False)
        if self._is("!") and self._at(1).kind == "name":
            self._next()
            if (found := self._words(negated=True)) is not None:
                return found
            self._place -= 1
            return None
        if (name := _SIGNS.get(self._now.text)) is None:
            return None
        self._next()
        self._take("~") if name == "eq" else None
        return operator_of(name)

    def _words(self, *, negated: bool) -> Word | None:
        """``not in``, ``IS NOT NULL``, ``does not contain``: as many words as make one operator."""
        names: list[str] = []
        for ahead in range(_LONGEST_WORDS):
            token = self._at(ahead)
            if token.kind != "name" or (ahead and self._tokens[self._place + ahead - 1].end == token.start):
                break
            names.append(token.text)
        for count in range(len(names), 0, -1):
            phrase = " ".join(names[:count])
            if names[0].lower() in ("and", "or", "if", "else", "for") or (count == 1 and names[0].lower() == "not"):
                return None
            if (word := operator_of(f"!{phrase}" if negated else phrase)) is not None:
                self._place += count
                folded = self._is("~")
                self._take("~")
                return Word(word.name, word.negated, word.fold or folded)
        return None

    def _right(self, word: Word) -> Node | None:
        if word.name in ("exists", "null", "empty", "true", "false"):
            return None
        if word.name == "between" and not self._is("[", "("):
            low = self._sum()
            self._expect("and") if not self._is(",") else self._next()
            return Items((low, self._sum()))
        return constant_name(self._sum())

    def _sum(self) -> Node:
        node = self._product()
        while self._is("+", "-") and self._now.kind == "sign" and not self._labelled and not self._dashed():
            sign = self._next().text
            node = Arithmetic(sign, node, self._product())
        return node

    def _dashed(self) -> bool:
        """Whether an operator of PowerShell or a shell stands here: ``-eq``."""
        name = self._at(1)
        dashed = self._is("-") and name.kind == "name" and name.start == self._now.end
        return dashed and operator_of(name.text) is not None

    def _product(self) -> Node:
        node = self._unary()
        while self._is("*", "/", "%", "//") and self._now.kind == "sign":
            sign = self._next().text
            right = self._unary()
            if sign == "//" and isinstance(right, (Literally, Items)) and not is_number(right):
                node = Default(node, right)
            else:
                node = Arithmetic(sign, node, right)
        return node

    def _unary(self) -> Node:
        if self._is("-") and self._at(1).kind == "number":
            self._next()
            return Literally(-self._next().value)
        return self._postfix(self._primary())
