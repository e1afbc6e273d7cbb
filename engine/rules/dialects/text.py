"""A condition written as text, in any of the usual expression languages → its meaning.

One grammar reads them all: their operators and functions differ in name but rarely in meaning. A wrong
reading does little harm: a suggestion is only made if it can be loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from engine.core.vocabulary import run_field
from engine.rules.dialects.calls import STATES, anchored, chosen, compare
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Among,
    Call,
    Constant,
    Field,
    Node,
    Unclear,
    every,
    list_of,
    opposite,
    some,
    truth,
)
from engine.rules.dialects.values import AND, CHOICE, COMPARE, NOT, OR, PIPE, PRODUCT, SEQUENCE, SUM, VALUE, Values
from engine.rules.dialects.words import Word, operator_of

#: The signs of comparisons.
_SIGNS: Final = (
    "==", "===", "=", ":=", "!=", "!==", "<>", "<", "<=", "=<", ">", ">=", "=>", "=~", "~", "==~", "!~", "~*", "!~*",
    "=~*",
)  # fmt: skip
_LONGEST_OPERATOR: Final = 7  # words
#: Functions after a bar that ask how many conditions hold, or nothing.
_COUNTS: Final = ("length", "count", "any", "all", "json", "logfmt")


def parse_text(text: str) -> Node:
    """The meaning of a condition; its fields are as written.

    Raises:
        Unclear: it is a condition in none of the languages.
    """
    return _Parser(text).whole()


class _Parser(Values):
    def whole(self) -> Node:
        node = self._expression()
        if self._now.kind != "end":
            raise Unclear(f"unexpected {self._now.text!r}")
        return node

    def _infix(self, left: Node, power: int) -> Node | None:
        if self._is("{") and self._touches() and isinstance(left, Field):
            return self._metric(left)
        if power <= COMPARE and (word := self._operator()) is not None:
            return self._comparison(left, word)
        text = self._now.text.lower() if self._now.kind in ("sign", "name") else ""
        binds, read = _INFIX.get(text, (-1, None))
        if read is not None and binds >= power and not (text in ("+", "-") and (self._labelled or self._dashed())):
            self._next()
            return read(self, left, text)
        if power <= AND and self._begins_another() and text not in ("else", "or", "for", "if"):
            return every(truth(left), self._condition(NOT))
        return None

    def _begins_another(self) -> bool:
        """Whether another condition follows without an operator, which means "and"."""
        begins = self._now.kind in ("name", "string", "regex") or self._is("(", "!", "-", "+", "*")
        on_new_line = "\n" in self._text[self._at(-1).end : self._now.start]  # Rego
        return begins and (self._labelled or on_new_line or self._at(1).text in _SIGNS)

    def _dashed(self) -> bool:
        """Whether an operator of PowerShell or a shell is here: ``-eq``."""
        dashed = self._is("-") and self._touches(1) and self._at(1).kind == "name"
        return dashed and operator_of(self._at(1).text) is not None

    def _operator(self) -> Word | None:
        """Read the operator of a comparison, if there is one: a sign, or the longest sequence of words."""
        if self._is(*_SIGNS):
            return operator_of(self._next().text)
        negated, start = self._is("!"), int(self._is("!") or self._dashed())
        names = [self._at(start + ahead) for ahead in range(_LONGEST_OPERATOR)]
        count = next((place for place, token in enumerate(names) if token.kind != "name"), len(names))
        if not count or names[0].text.lower() in ("and", "or", "if", "else", "for"):
            return None
        for size in range(count, 0, -1):
            phrase = " ".join(token.text for token in names[:size])
            if phrase.lower() != "not" and (word := operator_of(f"!{phrase}" if negated else phrase)) is not None:
                self._place += start + size
                return replace(word, fold=word.fold or (self._touches() and self._take("~")))
        return None

    def _comparison(self, left: Node, word: Word | None) -> Node:
        """One comparison or a chain of them."""
        parts = []
        while word is not None:
            right = None if word.name in STATES else self._operand(word)
            parts.append(compare(word, left, right))
            left, word = right or left, self._operator()
        return every(*parts)

    def _operand(self, word: Word) -> Node:
        node = self._expression(SUM)
        if word.name == "between" and (self._take("and") or self._take(",")):
            return list_of([node, self._expression(SUM)])
        if word.name == "matches" and self._scope.anchored and isinstance(node, Constant):
            return Constant(anchored(str(node.value)))
        return node

    def sequence(self, left: Node, _sign: str) -> Node:
        return left if self._now.kind == "end" else every(truth(left), self._condition(SEQUENCE))

    def piped(self, left: Node, _sign: str) -> Node:
        """jq: the value before the bar is the input of what follows."""
        if self._take("not"):
            return opposite(truth(left))
        if not isinstance(left, BOOLEAN):
            return self._expression(CHOICE, context=left.keys if isinstance(left, Field) else ())
        if self._is("(", "~", "q"):  # Django: Q(…) | Q(…)
            return some(left, self._condition(OR))
        return left if self._take(*_COUNTS) else self._behind(left)

    def _behind(self, left: Node) -> Node:
        """Another filter, or a projection, which does not matter."""
        rest = self._tokens[self._place :]
        try:
            found = self._expression(CHOICE)
        except Unclear:
            if any(token.text in ("select", "==", "=", "!=", ">", "<", "=~") for token in rest):
                raise
            while self._now.kind != "end" and not self._is(")", ","):
                self._next()
            return left
        return every(left, found) if isinstance(found, BOOLEAN) else left

    def choice(self, left: Node, sign: str) -> Node:
        """``a ? b : c``, ``b if a else c``."""
        if sign == "if":
            condition, then, separator = self._condition(OR), left, "else"
        else:
            condition, then, separator = truth(left), self._expression(CHOICE, labels=False), ":"
        self._expect(separator)
        return chosen(condition, then, self._expression(CHOICE))

    def comprehension(self, body: Node, _word: str) -> Node:
        """``t == "a" for t in run.tags``, ``t for t in run.tags if t == "a"``."""
        name = self._next().text
        self._expect("in")
        source = self._expression(SUM)
        condition = self._condition(OR) if self._take("if") else None
        parts = [truth(each) for each in (body, condition) if each not in (None, Field((name,)))]
        return Among("any", source, name, every(*parts))

    def joined(self, left: Node, sign: str) -> Node:
        if sign in ("or", "||"):
            return some(truth(left), self._condition(AND))
        match self._expression(NOT):
            case Constant(list()) | Call("list") as right:  # Python: set(run.tags) & {"prod", "a"}
                return compare(Word("contains_any"), left, right)
            case right:
                return every(truth(left), truth(right))

    def arithmetic(self, left: Node, sign: str) -> Node:
        right = self._expression(PRODUCT if sign in ("+", "-", "??") else VALUE)
        default = sign == "??" or (sign == "//" and not (isinstance(right, Constant) and isinstance(right.value, int)))
        return Call("default" if default else sign, (left, right))

    def _metric(self, node: Field) -> Node:
        """A metric with labels: also its value if it is a field of a run; else the labels are meant."""
        labels = self._bracket(self._next().text)
        word = self._operator() if run_field(str(node.keys[0])) is not None else None
        return labels if word is None else every(labels, self._comparison(node, word))


_INFIX: Final[dict[str, tuple[int, Callable[[_Parser, Node, str], Node]]]] = {
    ";": (SEQUENCE, _Parser.sequence),
    "|": (PIPE, _Parser.piped),
    "for": (CHOICE, _Parser.comprehension),
    **dict.fromkeys(("?", "if"), (CHOICE, _Parser.choice)),
    **dict.fromkeys(("or", "||"), (OR, _Parser.joined)),
    **dict.fromkeys(("and", "&&", "&"), (AND, _Parser.joined)),
    **dict.fromkeys(("+", "-", "??"), (SUM, _Parser.arithmetic)),
    **dict.fromkeys(("*", "/", "%", "//"), (PRODUCT, _Parser.arithmetic)),
}
