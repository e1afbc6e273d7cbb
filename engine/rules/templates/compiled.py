"""Compile one text or expression: check it, rewrite its syntax tree and let Jinja make code of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.environment import Template as JinjaTemplate

from engine.core.errors import AbsentValue, TemplateError
from engine.core.positions import Where
from engine.core.vocabulary import Vocabulary
from engine.rules.templates.budget import Budget
from engine.rules.templates.errors import Looks, line_of, translate
from engine.rules.templates.needs import Needs, chain_of, chains, each_item, needs_of, operands
from engine.rules.templates.rewriter import Rewriter
from engine.rules.templates.sandbox import EVENT_NAMES, Rendering, Sandbox
from engine.rules.templates.syntax import Mistake, Parsed, assigned, mistakes, parse, parse_expression
from engine.rules.templates.three_valued import ConditionRewriter, ConditionSandbox

_RESULT = "__result"


@dataclass(frozen=True, slots=True)
class Code:
    """One compiled text, with what is needed to run it and to explain why it failed."""

    sandbox: Sandbox
    template: JinjaTemplate
    size: int
    looks: Looks

    def evaluate(self, document: Mapping[str, Any], budget: Budget) -> Any:
        """Evaluate the text as one expression."""
        context = Rendering(self.sandbox, document, budget, self.size)
        for _ in self.template.root_render_func(context):
            pass
        return context.vars[_RESULT]

    def write(self, document: Mapping[str, Any], budget: Budget) -> str:
        """Render the text, and check its length meanwhile."""
        context = Rendering(self.sandbox, document, budget, self.size)
        parts, length = [], 0
        for part in self.template.root_render_func(context):
            parts.append(part)
            length += len(part)
            budget.fits(length)
        return "".join(parts)

    def explain(self, error: Exception, document: Mapping[str, Any], where: Where) -> TemplateError:
        """Turn an exception into a TemplateError with the position in the tree and the line in the text."""
        fault = translate(error, self.looks, document)
        line = line_of(error.__traceback__, self.template.get_corresponding_lineno)
        if isinstance(fault, AbsentValue):
            return AbsentValue(str(fault), fault.part, where=where, line=line, hint=fault.hint)
        return TemplateError(str(fault), where=where, line=line, hint=fault.hint)


@dataclass(frozen=True, slots=True)
class Text:
    """One compiled text. ``native``: it is exactly one expression, and not a key."""

    code: Code
    needs: Needs
    native: bool
    data: bool
    settled: bool


def compile_text(sandbox: Sandbox, text: str, vocabulary: Vocabulary, *, key: bool) -> Text | tuple[Mistake, ...]:
    """Compile a text of a parameter tree (``key``: a key of it), or return its mistakes."""
    parsed = parse(sandbox, text)
    if isinstance(parsed, Mistake):
        return (parsed,)
    if found := mistakes(sandbox, text, parsed.tree, vocabulary):
        return tuple(found)
    needs, native = needs_of(parsed.tree), parsed.native and not key
    chain = chain_of(parsed.expression) if native else None
    code = compile_code(sandbox, text, parsed, native=native)
    if isinstance(code, Mistake):
        return (code,)
    data = chain is not None and chain.root in EVENT_NAMES
    return Text(code, needs, native, data, all(chain.root == "vars" for chain in code.looks.chains))


def compile_expression(sandbox: ConditionSandbox, text: str, vocabulary: Vocabulary) -> tuple[Needs, Code]:
    """Compile a bare expression, and list the data that it needs.

    Raises:
        TemplateError: the first mistake in it.
    """
    parsed = parse_expression(sandbox, text)
    if isinstance(parsed, Mistake):
        raise parsed.error()
    for mistake in mistakes(sandbox, text, parsed.tree, vocabulary):
        raise mistake.error()
    needs = needs_of(parsed.tree)
    code = compile_code(sandbox, text, parsed, native=True, rewriter=ConditionRewriter)
    if isinstance(code, Mistake):
        raise code.error()
    return needs, code


def compile_code(
    sandbox: Sandbox, text: str, parsed: Parsed, *, native: bool, rewriter: type[Rewriter] = Rewriter
) -> Code | Mistake:
    """Compile a checked syntax tree. ``native``: as one expression."""
    tree = parsed.tree
    seen = Looks(tuple(dict.fromkeys(chain for _, chain in chains(tree))), tuple(dict.fromkeys(operands(tree))))
    changes = rewriter(escaping=sandbox.escaping, each=each_item(tree), hidden=frozenset(assigned(tree)))
    try:
        if native:
            value = changes.structure(parsed.expression)
            tree.body = [nodes.Assign(nodes.Name(_RESULT, "store", lineno=1), value, lineno=1)]
        else:
            changes.visit(tree)
        tree.set_environment(sandbox)
        compiled = sandbox.from_string(tree)
    except (JinjaError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) if isinstance(error, JinjaError) else 1
        words = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", None) or error
        return Mistake(line or 1, 1, f"the template cannot be compiled: {words}")
    return Code(sandbox, compiled, len(text), seen)
