"""What to write instead of a name, method or attribute that templates do not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jinja2 import nodes

from engine.core.payload_schema import ARRAY_FIELDS, TEXT_FIELDS
from engine.core.suggest import did_you_mean
from engine.core.vocabulary import Vocabulary, run_field
from engine.rules.dialects.words import FUNCTIONS, misspelt, operator_of, phrase_of
from engine.rules.templates.needs import Chain, chain_of
from engine.rules.templates.sandbox import DOCUMENT_NAMES, ENGINE_NAMES, METHOD_NAMES

#: Operators, as expressions write them for a value.
_WRITTEN: Final = {
    "contains": '"…" in {}',
    "starts_with": '{}.startswith("…")',
    "ends_with": '{}.endswith("…")',
    "matches": '{} | regex_search("…") is not none',
    "eq": '{} == "…"',
    "in": '{} in ["…"]',
    "empty": "{} | length == 0",
    "exists": "{} is not none",
    "null": "{} is none",
    "contains_any": '{} | select("in", ["…"]) | list | length > 0',
}
_METHODS: Final = {
    "lower": "{}.lower()", "upper": "{}.upper()", "trim": "{}.strip()", "length": "{} | length", "number": "{} | float",
    "string": "{} | string",
}  # fmt: skip
_SIZES: Final = frozenset({"length", "size", "len", "count"})


def wrong_methods(tree: nodes.Template, own: set[str]) -> Iterator[tuple[int, str, str, str]]:
    """Line, name, message and hint of every unknown method; ``own`` are names that the template assigns."""
    called = [node.node for node in tree.find_all(nodes.Call)]
    for callee in called:
        if isinstance(callee, nodes.Getattr) and callee.attr not in METHOD_NAMES and not _owned(callee, own):
            hint = _method_hint(callee.attr, _name(callee.node))
            yield callee.lineno, callee.attr, f"there is no method {callee.attr!r}", hint
        elif isinstance(callee, nodes.Name) and callee.name in DOCUMENT_NAMES - own:
            yield callee.lineno, callee.name, f"{callee.name!r} is a value, no function", f"write {callee.name}"
    for node in tree.find_all(nodes.Getattr):
        if not any(node is callee for callee in called) and (found := _wrong_attribute(chain_of(node))) is not None:
            yield node.lineno, node.attr, *found


def _owned(callee: nodes.Getattr, own: set[str]) -> bool:
    """Whether it is an attribute of a name that the template assigns, such as a macro in a namespace."""
    node: nodes.Node = callee
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        node = node.node
    return isinstance(node, nodes.Name) and node.name in own and node.name not in DOCUMENT_NAMES


def _name(node: nodes.Node) -> str:
    chain = chain_of(node)
    return "…" if chain is None else str(chain)


def _method_hint(name: str, owner: str) -> str:
    if (ours := FUNCTIONS.get(phrase_of(name))) in _METHODS:
        return f"write {_METHODS[ours].format(owner)}"
    if (word := operator_of(name)) is not None and not word.fold and word.name in _WRITTEN:
        written = _WRITTEN[word.name].format(owner)
        return f"write not ({written})" if word.negated else f"write {written}"
    near = misspelt(name, METHOD_NAMES)
    return f"did you mean {near!r}?" if near else "texts have Python's methods; for everything else there are filters"


def _wrong_attribute(chain: Chain | None) -> tuple[str, str] | None:
    """Message and hint if an attribute of a text or list of a run is read."""
    if chain is None or chain.root != "run" or len(chain.keys) != 2:
        return None
    field, name = chain.keys
    if name not in _SIZES and field not in ARRAY_FIELDS:  # an error may be an object after all
        return None
    if not isinstance(name, str) or field not in ARRAY_FIELDS | TEXT_FIELDS:
        return None
    kind, owner = "list" if field in ARRAY_FIELDS else "text", f"run.{field}"
    hint = f"write {owner} | length" if name in _SIZES else ""
    if not hint and kind == "list":
        hint = f'write "{name}" in {owner}, or {owner}[0] for its first'
    return f"{owner} is a {kind}, which has no {name!r}", hint or f"write {owner}"


_FOREIGN_NAMES = {
    "null": "none",
    "nil": "none",
    "undefined": "none",
    "len": "… | length",
    "str": "… | string",
    "int": "… | int",
    "float": "… | float",
    "json": "… | tojson",
    "now": "event.received_at",
    "feedback_stat": "feedback_stats",
    "trace": "run",
    "self": "run",
    "context": "payload",
}


def name_hint(name: str, known: frozenset[str], vocabulary: Vocabulary) -> str:
    """What to write instead of ``name``; ``known`` are all names that exist."""
    if name == "loop":
        return "`loop` exists within {% for %} only"
    if name == "env":
        return "a variable of the environment is written ${NAME}, without braces around it"
    if (field := run_field(name)) is not None:
        own = "" if vocabulary.of_rule else f"; a key of the webhook's body is payload.{name}"
        return f"write run.{field}{own}"
    near = did_you_mean(name, known, synonyms=_FOREIGN_NAMES)
    if near.startswith("did you mean"):
        return near if vocabulary.of_rule else f"{near} A key of the webhook's body is payload.{name}"
    names = ", ".join(sorted(ENGINE_NAMES))
    return (
        f"known are {names}; a key of the webhook's body is payload.{name}, a variable of the configuration vars.{name}"
    )
