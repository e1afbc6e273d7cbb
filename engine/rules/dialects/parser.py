"""A condition written as text, in any of the usual expression languages → its meaning.

One grammar reads them all: their operators and functions differ in name but rarely in meaning. A wrong
reading does little harm: a suggestion is only made if it can be loaded.
"""

from __future__ import annotations

import re
from typing import Final

from engine.rules.dialects.build import compare
from engine.rules.dialects.labels import anchored
from engine.rules.dialects.meaning import (
    BOOLEAN,
    Among,
    Apply,
    Arithmetic,
    Constant,
    Default,
    Field,
    Items,
    Node,
    Unclear,
    every,
    opposite,
    some,
)
from engine.rules.dialects.pieces import chosen, constant_name, is_number, truth
from engine.rules.dialects.values import Values
from engine.rules.dialects.words import Word, operator_of, suffix

_MAX_DEPTH: Final = 60
_SIGNS: Final = {
    "==": "eq", "===": "eq", "=": "eq", ":=": "eq", "!=": "ne", "!==": "ne", "<>": "ne", "<": "lt", "<=": "lte",
    "=<": "lte", ">": "gt", ">=": "gte", "=>": "gte", "=~": "matches", "~": "matches", "==~": "matches",
    "!~": "not matches", "~*": "~*", "!~*": "!~*", "=~*": "~*",
}  # fmt: skip
_AND, _OR = frozenset({"and", "&&", "&"}), frozenset({"or", "||"})
_LONGEST_WORDS: Final = 7
_INTERVAL: Final = re.compile(
    r"(\d+)\s*(ms|[smhdw])(?:s|ec|ecs|econds?|ins?|inutes?|rs?|ours?|ays?|eeks?)?", re.IGNORECASE
)
#: The head of a function or SQL statement before the condition.
_AROUND: Final = re.compile(
    r"^\s*(?:lambda\s+\w+\s*:|(?:async\s+)?(?:\(\s*\w+\s*\)|\w+)\s*=>\s*(?![^=]*=>)(?=\S)|select\b.*?\bwhere\b)\s*",
    re.IGNORECASE | re.DOTALL,
)


def parse_text(text: str) -> Node:
    """The meaning of a condition; its fields are as written.

    Raises:
        Unclear: it is a condition in none of the languages.
    """
    return _Parser(_AROUND.sub("", text)).whole()


class _Parser(Values):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    # --- the grammar, from the lowest precedence to the highest ---

    def whole(self) -> Node:
        if self._is("filter", "search", "return", "where", "if", "when", "=", "@") and not self._is("(", ahead=1):
            self._next()
            return self.whole()
        if self._is("some") and self._is("in", ahead=2):
            return self._some()
        node = self._condition()
        while self._now.kind != "end":
            if self._take(";"):
                if self._now.kind == "end":
                    break
            elif not ((self._labelled and self._begins_value()) or self._on_a_new_line() or self._at(1).text in _SIGNS):
                raise Unclear(f"unexpected {self._now.text!r}")
            node = every(truth(node), truth(self._condition()))
        return node

    def _on_a_new_line(self) -> bool:
        """Rego: each line is a condition."""
        return "\n" in self._text[self._tokens[self._place - 1].end : self._now.start]

    def _some(self) -> Node:
        """Rego: ``some tag in input.tags; tag == "prod"``."""
        self._next()
        name = self._next().text
        self._expect("in")
        source = self._sum()
        self._take(";")
        return Among("any", source, name, truth(self.whole()))

    def _condition(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unclear("nested too deeply")
        node = self._piped()
        self._depth -= 1
        return node

    def _piped(self) -> Node:
        """jq: the value before the bar is the input of what follows."""
        node = self._choice()
        while self._is("|") and not self._is("|", ahead=1):
            self._next()
            if isinstance(node, BOOLEAN):
                node = self._behind(node)
                continue
            before, self._context = self._context, node.keys if isinstance(node, Field) else None
            node = self._choice()
            self._context = before
        return node

    def _behind(self, node: Node) -> Node:
        """What follows a bar: a filter, a count, or a field of the value before it."""
        if self._take("not"):
            return opposite(node)
        if self._take("length", "count", "any", "all", "json", "logfmt"):
            word = self._infix()
            return node if word is None else self._counted(node, word)
        self._take("where", "search", "filter")
        place = self._place
        try:
            found = self._choice()
        except Unclear:
            if any(token.text in ("select", "==", "=", "!=", ">", "<", "=~") for token in self._tokens[place:]):
                raise
            self._skip_rest()
            return node
        return every(node, found) if isinstance(found, BOOLEAN) else node

    def _counted(self, node: Node, word: Word) -> Node:
        """How many were found: more than none, or none."""
        right = self._right(word)
        asked = (word.name, word.negated, right.value if isinstance(right, Constant) else None)
        if asked in (("gt", False, 0), ("gte", False, 1), ("eq", True, 0)):
            return node
        if asked in (("eq", False, 0), ("lt", False, 1), ("lte", False, 0)):
            return opposite(node)
        raise Unclear("so many of them")

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
        while self._is(*_OR) or (isinstance(node, BOOLEAN) and self._is("|") and self._is("(", "~", "q", ahead=1)):
            self._next()
            node = some(truth(node), truth(self._both()))
        return node

    def _both(self) -> Node:
        node = self._negated()
        while True:
            if self._is(*_AND):
                self._next()
                self._take("&")
                right = self._negated()
                if isinstance(right, (Constant, Items)):  # Python: set(run.tags) & {"prod", "a"}
                    return compare(Word("contains_any"), node, right)
                node = every(truth(node), truth(right))
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
        if self._is("+") and self._at(1).kind == "name" and self._at(2).text == ":":
            self._next()  # Lucene: a required term
        if self._is("!", "~") or (self._is("-") and self._at(1).kind == "name"):
            self._next()
            return opposite(truth(self._negated()))
        return self._comparison()

    def _comparison(self) -> Node:
        outer, self._beside = self._beside, []
        left = self._sum()
        made, self._beside = self._beside, outer
        while (word := self._infix()) is not None:
            word, right = self._operand(word)
            made.append(compare(word, left, right))
            left = right if right is not None else left
        return self._after(every(*made)) if made else left

    def _operand(self, word: Word) -> tuple[Word, Node | None]:
        if word.name == "eq" and self._now.kind == "name" and self._is("*", ahead=1) and self._ends(2):  # Splunk
            text = self._next().text + self._next().text
            return Word("like", word.negated, word.fold), Constant(text)
        right = self._right(word)
        if self._anchored and word.name == "matches" and isinstance(right, Constant):
            right = Constant(anchored(str(right.value)))
        return word, right

    def _ends(self, ahead: int) -> bool:
        return self._at(ahead).kind == "end" or self._at(ahead).start > self._at(ahead - 1).end

    def _after(self, node: Node) -> Node:
        """``(a ?? b) == c`` without its parentheses."""
        if isinstance(node, Default) and (word := self._infix()) is not None:
            return compare(word, node, self._right(word))
        return node

    def _infix(self) -> Word | None:
        """Consume and return the operator here; None if there is none."""
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
        """``not in``, ``IS NOT NULL``, ``does not contain``: the longest sequence of words that is an operator."""
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
        """Whether an operator of PowerShell or a shell is here: ``-eq``."""
        name = self._at(1)
        dashed = self._is("-") and name.kind == "name" and name.start == self._now.end
        return dashed and operator_of(name.text) is not None

    def _product(self) -> Node:
        node = self._unary()
        while self._is("*", "/", "%", "//") and self._now.kind == "sign":
            sign = self._next().text
            right = self._unary()
            if sign == "//" and isinstance(right, (Constant, Items)) and not is_number(right):
                node = Default(node, right)
            else:
                node = Arithmetic(sign, node, right)
        return node

    def _unary(self) -> Node:
        if self._is("-") and self._at(1).kind == "number":
            self._next()
            return Constant(-self._next().value)
        return self._postfix(self._primary())

    # --- parts of single languages ---

    def _case(self) -> Node:
        """SQL: ``CASE WHEN … THEN true ELSE false END``."""
        condition = truth(self._condition())
        self._expect("then")
        then = self._condition()
        self._expect("else")
        otherwise = self._condition()
        self._expect("end")
        return chosen(condition, then, otherwise)

    def _ago(self) -> Node:
        """``now() - interval '2 hours'``, ``now() - 2h``."""
        if self._take("("):
            self._expect(")")
        self._expect("-")
        self._take("interval")
        token = self._next()
        unit = self._next().text if token.text.isdigit() and self._now.kind == "name" else ""
        text = f"{token.value if token.kind == 'string' else token.text} {unit}".strip()
        if (found := _INTERVAL.fullmatch(text)) is None:
            raise Unclear("a duration was expected")
        return Apply("ago", Constant(f"{found[1]}{found[2].lower()}"))

    def _keywords(self) -> Node:
        """Django: ``Q(status="error", latency__gt=10)``."""
        parts: list[Node] = []
        while not self._take(")"):
            name = self._next().text
            self._expect("=")
            found = suffix(name, "__")
            field, word = found if found is not None else (name, Word("eq"))
            parts.append(compare(word, Field(tuple(field.split("__"))), self._sum()))
            if not self._take(",") and not self._is(")"):
                raise Unclear("a call that does not end")
        return every(*parts)
