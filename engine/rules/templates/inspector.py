"""What templates and expressions read, for warnings about a configuration. Nothing is compiled for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from engine.core.payload_schema import Step
from engine.core.variables import identity
from engine.rules.templates.asked import Compared, Needed, comparisons, needed
from engine.rules.templates.former import Asked, Former, expression_of, former
from engine.rules.templates.needs import chain_of
from engine.rules.templates.sandbox import Sandbox
from engine.rules.templates.syntax import Mistake, Parsed, looks, parse, parse_expression, steps_of

#: How many syntax trees are kept, as one text is looked at for several warnings one after the other.
_TREES_KEPT: Final = 64


class Inspector:
    """Tells what sound texts read. A text with a mistake reads nothing."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._looks: dict[tuple[object, bool], list[tuple[int, list[Step]]]] = {}
        self._trees: dict[tuple[object, bool], Parsed | Mistake] = {}

    def looks(self, text: str, *, bare: bool) -> list[tuple[int, list[Step]]]:
        """The looks into the document that a sound template takes, or (``bare``) an expression, each with its line."""
        key = (identity(text), bare)
        if (found := self._looks.get(key)) is None:
            parsed = self._parsed(text, bare=bare)
            found = self._looks[key] = [] if parsed is None else list(looks(parsed.tree))
        return found

    def compared(self, text: str, *, bare: bool) -> list[Compared]:
        """The looks that a sound template, or (``bare``) an expression, compares with a constant."""
        parsed = self._parsed(text, bare=bare)
        return [] if parsed is None else list(comparisons(parsed.tree))

    def needed(self, text: str) -> list[Needed]:
        """The looks that a sound template cannot do without."""
        parsed = self._parsed(text, bare=False)
        return [] if parsed is None else list(needed(parsed.tree, native=parsed.native))

    def chain(self, expression: str) -> list[Step] | None:
        """The look into the document that a sound expression is; None if it is more than one look."""
        parsed = self._parsed(expression, bare=True)
        found = None if parsed is None else chain_of(expression_of(parsed.tree))
        return None if found is None else steps_of(found)

    def former(self, expression: str, asked: Asked, there: Callable[[Sequence[Step]], bool]) -> Former | None:
        """How a sound expression has to read to answer as it did before absence had one meaning; see ``former``."""
        parsed = parse_expression(self._sandbox, expression)  # anew: the tree is changed
        if isinstance(parsed, Mistake):
            return None
        return former(expression_of(parsed.tree), asked, lambda chain: there(steps_of(chain)))

    def _parsed(self, text: str, *, bare: bool) -> Parsed | None:
        """The syntax tree of a text that is looked at only; None if it is no sound one. The last ones are kept."""
        key = (identity(text), bare)
        if (found := self._trees.get(key)) is None:
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            found = parse_expression(self._sandbox, text) if bare else parse(self._sandbox, text)
            self._trees[key] = found
        return None if isinstance(found, Mistake) else found
