"""What was meant by a name that templates do not have."""

from __future__ import annotations

from engine.core.suggest import did_you_mean
from engine.core.vocabulary import Vocabulary, run_field
from engine.rules.templates.sandbox import ENGINE_NAMES

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
    """What to write instead; ``known`` are the names that there are."""
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
