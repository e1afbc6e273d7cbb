"""Parameter trees with Jinja templates in them: compiled once, rendered for every delivery.

What a template may rely on:

- A text that is exactly one ``{{ expression }}`` keeps the expression's type; a newline after
  it, as YAML's block scalars have, does not count. Every other text stays text. What was
  rendered is never read again, neither as YAML nor as a template.
- Within text, values are written as JSON writes them: ``true``, ``null``, ``{"a":1}``; text itself
  without quotes.
- Keys of mappings may hold templates as well; they become text.
- A value that comes to ``omit`` is left out of its mapping or list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from jinja2.runtime import Undefined

from engine.core.errors import AbsentValue, DataMissing, TemplateError
from engine.core.positions import Source, Where
from engine.core.variables import identity, plain, source_of, written
from engine.core.vocabulary import Vocabulary
from engine.rules.jsonpath import Paths
from engine.rules.templates.budget import Budget
from engine.rules.templates.compiled import Code, Text, compile_expression, compile_text
from engine.rules.templates.errors import describe, of_condition, reads
from engine.rules.templates.inspector import Inspector
from engine.rules.templates.needs import Needs
from engine.rules.templates.rewriter import RAW_KEYS
from engine.rules.templates.sandbox import Sandbox
from engine.rules.templates.slack_escape import LITERAL_BLOCKS, Format, authors, finished
from engine.rules.templates.syntax import Mistake
from engine.rules.templates.three_valued import ConditionSandbox
from engine.rules.templates.values import OMIT, Absent, AbsentError, copy_json, fetched, kind_of, need, to_json

_NO_NEEDS: Needs = frozenset()
#: The deepest level of a template in a tree. Its value may be nested too, and orjson writes 254 levels.
_DEEPEST = 30


def is_template(text: str) -> bool:
    """Whether a text contains template syntax."""
    source = source_of(text)
    return "{{" in source or "{%" in source or "{#" in source


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    """A text with a template in it, or (``key``) a key. ``markup`` is the format for which data is escaped."""

    text: Text
    where: Where
    key: bool
    markup: Format

    def render(self, document: Mapping[str, Any], budget: Budget) -> Any:
        try:
            return self._value(document, budget)
        except DataMissing:
            raise
        except Exception as error:  # one text's evaluation ends here, whatever became of it
            raise self.text.code.explain(error, document, self.where) from error

    def _value(self, document: Mapping[str, Any], budget: Budget) -> Any:
        text, code = self.text, self.text.code
        escaping = code.sandbox.escaping
        if not text.native:
            written = code.write(document, budget)
            return finished(authors(written), self.markup) if escaping else written
        value = code.evaluate(document, budget)
        if text.data and not escaping:
            return copy_json(value, budget)
        clean = to_json(value, budget)
        return finished(clean, self.markup) if escaping else clean


def _render(node: Any, document: Mapping[str, Any], budget: Budget) -> Any:
    """Replace every leaf of a tree by its value."""
    if isinstance(node, _Leaf):
        return node.render(document, budget)
    if isinstance(node, list):
        return [value for item in node if (value := _render(item, document, budget)) is not OMIT]
    if not isinstance(node, dict):
        return node
    made: dict[Any, Any] = {}
    for key, item in node.items():
        name, value = _render(key, document, budget), _render(item, document, budget)
        if name in made:
            where = next(each.where[:-1] for each in node if isinstance(each, _Leaf))
            raise TemplateError(f"two keys come to {name!r}", where=where)
        if value is not OMIT:
            made[name] = value
    return made


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled parameter tree.

    ``tree`` is what the author wrote, ``templated`` the places within it that hold a template; of those, ``mixed``
    have text around them and so always make a text. ``reads`` is what places may touch of a run's data.
    """

    tree: Any
    templated: frozenset[Where]
    mixed: frozenset[Where]
    reads: Mapping[Where, Needs]
    _settled: Mapping[Where, _Leaf]
    _root: Any

    @property
    def needs(self) -> Needs:
        """The data that any template in the tree may read."""
        return _NO_NEEDS.union(*self.reads.values())

    @property
    def settled(self) -> frozenset[Where]:
        """The positions whose values are known without an event: they read nothing but ``vars``."""
        return frozenset(self._settled)

    def settle(self, where: Where, author: Mapping[str, Any]) -> Any:
        """The value at one of the settled places; ``author`` are the configuration's ``vars``.

        Raises:
            TemplateError: with ``where`` and ``line``.
        """
        return self._settled[where].render({"vars": author}, Budget())

    @property
    def literal(self) -> bool:
        """Whether there is no template anywhere in it."""
        return not self.templated

    def render(self, document: Mapping[str, Any]) -> Any:
        """The tree with every template replaced by its value. Nothing in it is shared with tree or document.

        Raises:
            TemplateError: with ``where``, the place in the tree, and ``line``, that of the text there.
            DataMissing: it reads data that was not sent along and not fetched.
        """
        value = _render(self._root, document, Budget())
        if value is OMIT:
            raise TemplateError("omit leaves nothing: it can only stand within a mapping or a list")
        return value


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression, as conditions use it."""

    source: str
    needs: Needs
    _code: Code

    def evaluate(self, document: Mapping[str, Any]) -> Any:
        """Its value, which belongs to the document: not to be changed. Nothing there is Jinja's ``Undefined``.

        Raises:
            TemplateError: it cannot be evaluated.
            DataMissing: it reads data that was not sent along and not fetched.
        """
        try:
            value = fetched(self._code.evaluate(document, Budget()))
        except DataMissing:
            raise
        except AbsentError as error:
            raise _NotThere(error, self._code, document) from error
        except Exception as error:  # one expression's evaluation ends here
            raise of_condition(self._code.explain(error, document, ())) from error
        if isinstance(value, Undefined) and not isinstance(value, Absent):
            need(value)
        if value is OMIT or (callable(value) and not isinstance(value, Undefined)):
            raise TemplateError(f"an expression cannot come to {kind_of(value)}")
        return value

    def reads(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The values that it looks at, by how they are written."""
        return reads(self._code.looks, document)

    def absence(self, value: Any, document: Mapping[str, Any]) -> AbsentValue:
        """Explain why its value is absent; ``value`` is the result of ``evaluate``."""
        found = describe(value, self._code.looks.chains, document)
        of_condition(found)
        return found


class _NotThere(AbsentValue):
    """An expression needs a value that is absent. The message is expensive, so it is made when it is read."""

    def __init__(self, error: AbsentError, code: Code, document: Mapping[str, Any]) -> None:
        self._tell: Callable[[], TemplateError] = lambda: of_condition(code.explain(error, document, ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tell(), name)

    def __str__(self) -> str:
        return str(self._tell())


class Templates:
    """Compiles trees and expressions. One instance serves a whole configuration and may be shared between threads."""

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self._plain = Sandbox()
        self._escaping = Sandbox(escaping=True)
        self._deciding = ConditionSandbox()
        self.vocabulary = vocabulary or Vocabulary()
        self.paths = Paths()
        # Keyed by text and context, so that a text of many routes is compiled once.
        self._texts: dict[tuple[Any, ...], Text | tuple[Mistake, ...]] = {}
        self._expressions: dict[tuple[Any, ...], Expression] = {}
        #: Inspects texts without compiling them.
        self.inspector = Inspector(self._plain)

    def knowing(self, placed: frozenset[str]) -> Templates:
        """The same, for a position where these names of ``PLACED`` exist."""
        return self._with(replace(self.vocabulary, placed=placed))

    def of_rule(self, of_rule: bool) -> Templates:  # noqa: FBT001 - a property of the vocabulary
        """The same, for a route that gets webhooks of a LangSmith rule only, or (false) any webhook."""
        return self._with(replace(self.vocabulary, of_rule=of_rule))

    def _with(self, vocabulary: Vocabulary) -> Templates:
        other = copy(self)
        other.vocabulary = vocabulary
        return other

    def compile_into(
        self, tree: Any, where: Where, source: Source, *, escape: frozenset[str] = frozenset()
    ) -> Template:
        """Compile a parameter tree that stands at ``where`` in a file; every mistake is reported there.

        Below the top-level keys that ``escape`` names, event data is escaped for Slack. If
        anything was reported, the result is not to be rendered.
        """
        work = _Compilation(self._text, escape)
        template = work.template(tree)
        for path, mistake, at_key in work.mistakes:
            place = where + path
            source.report(place, mistake.message, mistake.hint, at_key=at_key, line=mistake.line, column=mistake.column)
        return template

    def compile(self, tree: Any, *, escape: frozenset[str] = frozenset()) -> Template:
        """Compile a parameter tree that stands in no file.

        Raises:
            TemplateError: the first mistake in it.
        """
        work = _Compilation(self._text, escape)
        template = work.template(tree)
        for path, mistake, _ in work.mistakes:
            raise mistake.error(path)
        return template

    def expression(self, text: str) -> Expression:
        """Compile a bare expression, such as ``run.latency > 10``.

        Raises:
            TemplateError: the first mistake in it.
        """
        key = (identity(text), self.vocabulary.placed)
        if (found := self._expressions.get(key)) is None:
            made = compile_expression(self._deciding, text, self.vocabulary)
            found = self._expressions[key] = Expression(written(text), *made)
        return found

    def _text(self, text: str, *, escape: bool, key: bool) -> Text | tuple[Mistake, ...]:
        """A text compiled, or its mistakes."""
        place = (identity(text), escape, key, self.vocabulary.placed, self.vocabulary.of_rule)
        if (found := self._texts.get(place)) is None:
            sandbox = self._escaping if escape else self._plain
            found = self._texts[place] = compile_text(sandbox, text, self.vocabulary, key=key)
        return found


class _Compilation:
    """Compiles one tree."""

    def __init__(self, compiled: Callable[..., Text | tuple[Mistake, ...]], escape: frozenset[str]) -> None:
        self._compiled = compiled
        self._escape = escape
        self._templated: set[Where] = set()
        self._leaves: list[_Leaf] = []
        self.mistakes: list[tuple[Where, Mistake, bool]] = []

    def template(self, tree: Any) -> Template:
        """The compiled tree; ``mistakes`` then holds what is wrong with it."""
        root = self._node(tree, (), "mrkdwn")
        values = [leaf for leaf in self._leaves if not leaf.key]
        mixed = frozenset(leaf.where for leaf in values if not leaf.text.native)
        reads: dict[Where, Needs] = {}
        for leaf in self._leaves:
            if leaf.text.needs:  # a key stands where its value does
                reads[leaf.where] = reads.get(leaf.where, _NO_NEEDS) | leaf.text.needs
        settled = {leaf.where: leaf for leaf in values if leaf.text.settled}
        return Template(plain(tree), frozenset(self._templated), mixed, reads, settled, root)

    def _node(self, tree: Any, where: Where, markup: Format, *, raw: bool = False, key: bool = False) -> Any:
        if isinstance(tree, dict):
            return self._mapping(tree, where, markup)
        if isinstance(tree, list):
            return [self._node(item, (*where, index), markup, raw=raw) for index, item in enumerate(tree)]
        if isinstance(tree, str) and is_template(tree):
            return self._leaf(tree, where, markup, raw=raw, key=key)
        return plain(tree)

    def _mapping(self, tree: dict[Any, Any], where: Where, markup: Format) -> dict[Any, Any]:
        if tree.get("type") in LITERAL_BLOCKS:
            markup = "literal"
        markdown = tree.get("type") == "markdown" and markup != "literal"
        made = {}
        for key, item in tree.items():
            name = self._node(key, (*where, key), "mrkdwn", key=True)
            inner: Format = "markdown" if markdown and key == "text" else markup
            made[name] = self._node(item, (*where, key), inner, raw=key in RAW_KEYS)
        return made

    def _leaf(self, text: str, where: Where, markup: Format, *, raw: bool, key: bool) -> _Leaf | None:
        self._templated.add(where)
        if len(where) > _DEEPEST:
            message = f"a template stands more than {_DEEPEST} levels deep in the parameters"
            self.mistakes.append((where, Mistake(1, 1, message), key))
            return None
        made = self._compiled(text, escape=bool(where) and where[0] in self._escape and not raw, key=key)
        if isinstance(made, tuple):
            self.mistakes += [(where, mistake, key) for mistake in made]
            return None
        self._leaves.append(_Leaf(made, where, key, markup))
        return self._leaves[-1]
