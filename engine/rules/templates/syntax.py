"""Parse a text into its syntax tree, and find all mistakes in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.parser import Parser

from engine.core.errors import TemplateError
from engine.core.payload_schema import Step
from engine.core.positions import Where
from engine.core.suggest import did_you_mean
from engine.core.variables import Filled, source_of
from engine.core.vocabulary import Vocabulary
from engine.rules.templates.filters import FOREIGN_FILTERS
from engine.rules.templates.hints import name_hint, wrong_methods
from engine.rules.templates.needs import DYNAMIC, Chain, chains, each_item
from engine.rules.templates.sandbox import DOCUMENT_NAMES, Sandbox
from engine.rules.templates.variables import NotAValue, put_in

_FOREIGN_TESTS = {
    "null": "none",
    "str": "string",
    "dict": "mapping",
    "list": "sequence",
    "bool": "boolean",
    "int": "integer",
}
_ALONE = ("every template stands alone", "write a macro, or use vars")
_UNAVAILABLE: Mapping[type[nodes.Node], tuple[str, str, str]] = {
    nodes.Import: ("import", *_ALONE),
    nodes.FromImport: ("import", *_ALONE),
    nodes.Include: ("include", *_ALONE),
    nodes.Extends: ("extends", *_ALONE),
    nodes.Block: ("block", *_ALONE),
    nodes.ScopedEvalContextModifier: (
        "autoescape",
        "the parameter decides what is escaped",
        "see `| e` and `| safe`",
    ),
}
_HINTS = (
    (r"unexpected char '&'", "write `and` for &&"),
    (r"unexpected char '!'", "write `not` for !"),
    (r"unexpected char '\?'", "write `A if CONDITION else B` for CONDITION ? A : B"),
    (r"unexpected '}'$|unexpected '}', expected", "close the expression with }}"),
    (r"got '\|'", "write `or` for ||; a filter's name stands after |"),
    (r"expected token 'name'", 'after | comes a filter\'s name, after . a key: write a.b or a["b"]'),
    (r"expected token 'end of print statement', got '='", "write == to compare"),
    (
        r"got 'for'",
        "a list is made with pick or map: runs | pick('id', title='name') for objects, runs | map(attribute='id')",
    ),
    (r"unknown tag 'else ?if'", "write `elif`"),
    (r"unknown tag 'end'", "close with the tag's own name: endif, endfor, endset"),
    (r"expected token 'end of print statement', got 'string'|got 'integer'", "is an operator or a comma missing?"),
    (r"expected 'end of print statement'|unexpected end of template", "close the expression with }}"),
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in one text; ``line`` and ``column`` count from 1 within it."""

    line: int
    column: int
    message: str
    hint: str = ""

    def error(self, where: Where = ()) -> TemplateError:
        """The mistake as an error of the text at ``where``."""
        return TemplateError(self.message, where=where, line=self.line, hint=self.hint)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text's syntax tree as written. ``native``: it is exactly one ``{{ expression }}``."""

    tree: nodes.Template
    native: bool

    @property
    def expression(self) -> nodes.Expr:
        """The one expression that it is."""
        output = self.tree.body[0]
        assert isinstance(output, nodes.Output)
        return output.nodes[0]


def parse(sandbox: Sandbox, text: str) -> Parsed | Mistake:
    """Parse a template, and put the values of its environment variables in. Return a mistake if it cannot be parsed."""
    return _filled(_parse(sandbox, source_of(text)), text)


def parse_expression(sandbox: Sandbox, text: str) -> Parsed | Mistake:
    """Parse a bare expression, as ``parse`` does a template."""
    return _filled(_parse_expression(sandbox, source_of(text)), text)


def _filled(parsed: Parsed | Mistake, text: str) -> Parsed | Mistake:
    if not isinstance(text, Filled):
        return parsed
    if isinstance(parsed, Mistake):
        return as_written(parsed, text)
    try:
        put_in(parsed.tree, text)
    except NotAValue as error:
        message, hint, line = error.args
        return Mistake(line, 1, message, hint)
    return parsed


def as_written(mistake: Mistake, text: str) -> Mistake:
    """A mistake with ``${NAME}`` in place of the words that replace environment variables."""
    if not isinstance(text, Filled):
        return mistake
    lines = text.source.splitlines()
    before = lines[mistake.line - 1][: mistake.column - 1] if mistake.line <= len(lines) else ""
    column = len(text.with_references(before)) + 1 if before else mistake.column
    return Mistake(mistake.line, column, text.with_references(mistake.message), text.with_references(mistake.hint))


def _parse(sandbox: Sandbox, text: str) -> Parsed | Mistake:
    bare = text.rstrip("\n")
    whole = bare.startswith("{{") and bare.endswith("}}")
    try:
        tree = sandbox.parse(bare if whole else text)
        expression = _only_expression(tree) if whole else None
        if whole and expression is None:
            tree = sandbox.parse(text)
    except TemplateSyntaxError as error:
        return _syntax_mistake(text, error)
    except RecursionError:
        return Mistake(1, 1, "the template is nested too deeply")
    return Parsed(tree, expression is not None)


def _parse_expression(sandbox: Sandbox, text: str) -> Parsed | Mistake:
    try:
        parser = Parser(sandbox, text, state="variable")
        expression = parser.parse_expression()
        rest = parser.stream.current
    except TemplateSyntaxError as error:
        return _with_braces(text) if "{{" in text else _syntax_mistake(text, error)
    except RecursionError:
        return Mistake(1, 1, "the expression is nested too deeply")
    if not parser.stream.eos:
        if "{{" in text:
            return _with_braces(text)
        return _syntax_mistake(text, TemplateSyntaxError(f"unexpected {rest.value!r}", rest.lineno))
    if any(isinstance(const.value, str) and "{{" in const.value for const in _constants(expression)):
        return _with_braces(text)
    output = nodes.Output([expression], lineno=1)
    tree = nodes.Template([output], lineno=1)
    tree.set_environment(sandbox)
    return Parsed(tree, native=True)


def _constants(expression: nodes.Expr) -> Iterator[nodes.Const]:
    yield from [expression] if isinstance(expression, nodes.Const) else expression.find_all(nodes.Const)


def _with_braces(text: str) -> Mistake:
    """An expression written as if it were a template, whole or in part."""
    bare = re.sub(r"(['\"])\{\{(.*?)\}\}\1", r"\2", text)
    bare = " ".join(bare.replace("{{", " ").replace("}}", " ").split())
    return Mistake(1, 1, "expr takes the expression bare, without braces", f"write expr: {bare}")


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    if len(tree.body) == 1 and isinstance(output := tree.body[0], nodes.Output) and len(output.nodes) == 1:
        return None if isinstance(output.nodes[0], nodes.TemplateData) else output.nodes[0]
    return None


def _syntax_mistake(text: str, error: TemplateSyntaxError) -> Mistake:
    message = error.message or "the template cannot be read"
    waiting = (
        None if "unknown tag" in message else re.search(r"innermost block that needs to be closed is '(\w+)'", message)
    )
    if waiting:
        line = _line_of(text, rf"{{%[-+]?\s*{waiting[1]}\b") or error.lineno
        return Mistake(line, 1, f"{{% {waiting[1]} %}} is never closed", f"end it with {{% end{waiting[1]} %}}")
    hint = next((words for pattern, words in _HINTS if re.search(pattern, message)), "")
    place = re.search(r"unexpected char '(.)'", message)
    column = _column(text, error.lineno, re.escape(place[1])) if place else 1
    message = re.sub(r" at \d+$", "", message).rstrip(".")
    return Mistake(error.lineno, column, f"the template cannot be read: {message}", hint)


def _line_of(text: str, pattern: str) -> int:
    found = list(re.finditer(pattern, text))
    return text.count("\n", 0, found[-1].start()) + 1 if found else 0


def _column(text: str, line: int, pattern: str) -> int:
    lines = text.splitlines()
    found = re.search(pattern, lines[line - 1]) if 0 < line <= len(lines) else None
    return found.end() - len(found[0].lstrip()) + 1 if found else 1


def mistakes(sandbox: Sandbox, text: str, tree: nodes.Template, vocabulary: Vocabulary) -> list[Mistake]:
    """Every use of an unknown name, key, method, filter or test, and of another template."""
    source = source_of(text)
    found = [*_standing_alone(tree), *_filters(sandbox, source, tree), *_tests(sandbox, source, tree)]
    found = found or [
        *_names(sandbox, source, tree, vocabulary),
        *_words(source, tree, vocabulary),
        *_methods(source, tree),
        *_divisions(source, tree),
    ]
    return [as_written(mistake, text) for mistake in found]


def _methods(text: str, tree: nodes.Template) -> Iterator[Mistake]:
    for line, name, message, hint in wrong_methods(tree, assigned(tree)):
        word = re.escape(name)
        yield Mistake(line, _column(text, line, rf"(?<!\w){word}(?=\()|(?<=\.){word}\b"), message, hint)


def _divisions(text: str, tree: nodes.Template) -> Iterator[Mistake]:
    """jq's ``//``, which is a division here."""
    for node in tree.find_all(nodes.FloorDiv):
        if isinstance(node.right, nodes.Const) and isinstance(node.right.value, (str, bool, type(None))):
            column = _column(text, node.lineno, "//")
            yield Mistake(node.lineno, column, "// divides, and a text is no number", "write … | default(…, true)")


def looks(tree: nodes.Template) -> Iterator[tuple[int, list[Step]]]:
    """Every lookup in the document as steps, with its line. Names that the template assigns are left out."""
    own, each = assigned(tree), each_item(tree)
    for node, chain in chains(tree):
        if chain.root in each:
            yield node.lineno, steps_of(Chain("items", (DYNAMIC, *chain.keys)))
        elif chain.root not in own:
            yield node.lineno, steps_of(chain)


def steps_of(chain: Chain) -> list[Step]:
    """A lookup as steps; None stands for a dynamic key."""
    keys = (key if isinstance(key, (str, int)) and key is not DYNAMIC else None for key in chain.keys)
    return [chain.root, *keys]


def _words(text: str, tree: nodes.Template, vocabulary: Vocabulary) -> Iterator[Mistake]:
    """Lookups of keys that are known not to exist, such as a variable that the configuration lacks."""
    for line, steps in looks(tree):
        if (slip := vocabulary.slip(steps, path=False)) is not None:
            column = _column(text, line, rf"\b{re.escape(str(steps[slip.step]))}\b")
            yield Mistake(line, column, slip.message, slip.hint)


def _standing_alone(tree: nodes.Template) -> Iterator[Mistake]:
    for node in tree.find_all(tuple(_UNAVAILABLE)):
        tag, why, hint = _UNAVAILABLE[type(node)]
        yield Mistake(node.lineno, 1, f"{{% {tag} %}} is not available: {why}", hint)


def _filters(sandbox: Sandbox, text: str, tree: nodes.Template) -> Iterator[Mistake]:
    known = sandbox.public_filters()
    for node in tree.find_all(nodes.Filter):
        for name in (node.name, *_named(node, {"map": 0})):
            if name not in known:
                hint = did_you_mean(name, known, synonyms=FOREIGN_FILTERS)
                column = _column(text, node.lineno, rf"(?<=\|)\s*\b{re.escape(name)}\b|\b{re.escape(name)}\b")
                yield Mistake(node.lineno, column, f"there is no filter {name!r}", hint)


def _tests(sandbox: Sandbox, text: str, tree: nodes.Template) -> Iterator[Mistake]:
    used = [(node.lineno, node.name) for node in tree.find_all(nodes.Test)]
    places = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
    used += [(node.lineno, name) for node in tree.find_all(nodes.Filter) for name in _named(node, places)]
    for line, name in used:
        if name not in sandbox.tests:
            hint = did_you_mean(name, (test for test in sandbox.tests if test.isidentifier()), synonyms=_FOREIGN_TESTS)
            yield Mistake(line, _column(text, line, rf"\b{re.escape(name)}\b"), f"there is no test {name!r}", hint)


def _named(node: nodes.Filter, places: dict[str, int]) -> list[str]:
    """The filter or test that an argument names, as in ``map("upper")``."""
    place = places.get(node.name, -1)
    named = node.args[place] if 0 <= place < len(node.args) else None
    return [named.value] if isinstance(named, nodes.Const) and isinstance(named.value, str) else []


def _names(sandbox: Sandbox, text: str, tree: nodes.Template, vocabulary: Vocabulary) -> Iterator[Mistake]:
    own = assigned(tree)
    known = DOCUMENT_NAMES | set(sandbox.globals)
    tracker = meta.TrackingCodeGenerator(sandbox)
    tracker.optimizer = None  # it would fold constants in the tree, and by Python's rules
    tracker.visit(tree)
    used = tracker.undeclared_identifiers | {node.name for node in tree.find_all(nodes.Name) if node.name == "self"}
    for name in sorted(used - own - known):
        line = next((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), 1)
        yield Mistake(
            line,
            _column(text, line, rf"\b{re.escape(name)}\b"),
            f"there is no {name!r} here",
            name_hint(name, known, vocabulary),
        )


def assigned(tree: nodes.Template) -> set[str]:
    """The names that a template assigns."""
    kinds: tuple[type[nodes.Name | nodes.Macro], ...] = (nodes.Name, nodes.Macro)
    named = tree.find_all(kinds)
    return {node.name for node in named if isinstance(node, nodes.Macro) or node.ctx in ("store", "param")}
