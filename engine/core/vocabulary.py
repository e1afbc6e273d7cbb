"""The names that conditions and templates may use, to find misspelt ones when a configuration is loaded.

The engine's own names (``event``, ``route``) and the author's (``vars``) are known completely, so an unknown one is an
error. LangSmith may add fields to runs at any time, so an undocumented field is only a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.payload_schema import RUN_FIELDS, Step
from engine.core.suggest import did_you_mean

#: No route matched, and a condition was undecided. Conditions and templates see ``no_match``.
UNDECIDED: Final = "undecided"
EVENT_FIELDS: Final = frozenset({"id", "kind", "received_at", "unmatched_reason"})
ROUTE_WORDS: Final = frozenset({"name", "key"})
#: The keys of an item in a digest's ``items``.
ITEM_WORDS: Final = frozenset(
    {"run", "feedback", "feedbacks", "feedback_stats", "commit", "payload", "event", "route", "vars"}
)
THROTTLE_WORDS: Final = frozenset({"suppressed", "since"})
DIGEST_WORDS: Final = frozenset({"count", "since", "until"})
DELIVERY_FIELDS: Final = frozenset({"id", "action", "reason", "attempts", "destination", "died_at", "items"})
#: The prefix of actions under ``on_dead`` in the action name of a delivery.
ON_DEAD: Final = "on_dead."
#: The key of the routes for documents that no other route matched.
UNMATCHED: Final = "unmatched"
#: Names that exist only in some places, with what to write to get them.
PLACED: Final = {
    "items": "it exists in the parameters of an action that has digest: {every: 5m} beside it",
    "digest": "it exists in the parameters of an action that has digest: {every: 5m} beside it",
    "throttle": "it exists in the parameters of an action that has throttle: {every: 10m} beside it",
    "delivery": "it exists in the actions of a route's on_dead",
}
#: What exists instead in on_dead actions.
_OF_THE_DEAD: Final = "here a digest is represented by its first item, and delivery.items is the number of items"
#: The fields that the engine adds to ``run``.
COMPUTED: Final = frozenset({"url", "latency", "cost"})
#: Those that LangSmith's runs never have (LangSmith announced its own ``url``: changelog, June 2026).
_ONLY_COMPUTED: Final = frozenset({"latency", "cost"})
#: The documented fields of a Context Hub commit. There are others.
COMMIT_FIELDS: Final = frozenset({"repo_handle", "repo_type", "commit_hash", "files_changed"})
#: Names that exist only in webhooks with runs or threads.
_RUN_WORDS: Final = frozenset({"run", "runs", "threads", "feedback", "feedbacks", "feedback_stats"})
#: The kinds of webhooks without runs, by route key, with what to write instead.
_WITHOUT_RUNS: Final = {
    "alert": "write payload.alert_rule_name, payload.triggered_metric_value, payload.runs_url",
    "prompt": "write payload.prompt_name, payload.commit_hash, payload.event",
    "issue": "write payload.type, payload.data.object",
    "context_hub": "write commit.repo_handle, commit.commit_hash, commit.files_changed",
}
#: Route keys of webhooks without runs.
KINDS_WITHOUT_RUNS: Final = frozenset(_WITHOUT_RUNS)
#: Top-level keys of a rule's webhook, or added by the engine, that have the name of a run's field.
_RULE_KEYS: Final = frozenset({"start_time", "end_time", "feedback_stats", "id", "type", "messages"})
#: Names that are methods of a mapping in a template, not keys.
_METHODS: Final = frozenset({"get", "items", "keys", "values"})
FIELD_SYNONYMS: Final = {
    "metadata": "extra.metadata",
    "model": "extra.metadata",
    "type": "run_type",
    "project_id": "session_id",
    "project": "session_id",
    "duration": "latency",
    "latency_ms": "latency",
    "tokens": "total_tokens",
    "output": "outputs",
    "input": "inputs",
    "tag": "tags",
    "state": "status",
}


@dataclass(frozen=True, slots=True)
class Slip:
    """An unknown name: its step in the path, a message, and a hint."""

    step: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names that a document will have. ``vars`` None: the author's names are not known.

    ``placed`` are the ``PLACED`` names that exist in the current place. ``of_rule``: all events here are webhooks of a
    LangSmith rule, whose runs are in ``runs``.
    """

    vars: Mapping[str, Any] | None = None
    placed: frozenset[str] = frozenset()
    of_rule: bool = False

    def slip(self, steps: Sequence[Step], *, path: bool) -> Slip | None:
        """The unknown name in a path into the document, if any. ``path``: it is written as a JSONPath."""
        first = steps[0] if steps else None  # `$` has no steps
        if isinstance(first, str) and first in PLACED:
            # A JSONPath may mean the webhook's own key of that name.
            return None if path else self._placed(first, steps)
        if path and self.of_rule and isinstance(first, str) and (slip := _bare_field(first, steps)) is not None:
            return slip
        if len(steps) < 2:
            return None
        match first:
            case "event":
                return _outside("event", steps[1], EVENT_FIELDS)
            case "route":
                return _outside("route", steps[1], ROUTE_WORDS)
            case "vars":
                return self._unknown_var(steps)
        return _computed(steps, path=path) or (None if path else _field_of_list(steps))

    def _placed(self, first: str, steps: Sequence[Step]) -> Slip | None:
        if first not in self.placed:
            return Slip(0, f"there is no {first!r} here", _OF_THE_DEAD if "delivery" in self.placed else PLACED[first])
        if first == "items":
            return self._of_items(steps)
        known = {"throttle": THROTTLE_WORDS, "digest": DIGEST_WORDS, "delivery": DELIVERY_FIELDS}[first]
        return _outside(first, steps[1], known) if len(steps) > 1 else None

    def _of_items(self, steps: Sequence[Step]) -> Slip | None:
        if len(steps) > 1 and isinstance(steps[1], str) and steps[1] not in ("index", "count"):
            hint = f"go through it: {{% for item in items %}}{{{{ item.{steps[1]} }}}}{{% endfor %}}"
            return Slip(1, f"items is a list, which has no {steps[1]!r}", hint)
        if len(steps) > 2:
            inner = self.slip(steps[2:], path=False)
            if isinstance(steps[2], str) and steps[2] not in ITEM_WORDS | _METHODS:
                return Slip(2, f"an item has no {steps[2]!r}", did_you_mean(steps[2], ITEM_WORDS))
            return None if inner is None else Slip(inner.step + 2, inner.message, inner.hint)
        return None

    def _unknown_var(self, steps: Sequence[Step]) -> Slip | None:
        value: Any = self.vars
        for place, step in enumerate(steps[1:], start=1):
            if not isinstance(value, Mapping) or not isinstance(step, str):
                return None
            if step not in value:
                owner = ".".join(map(str, steps[:place]))
                return None if step in _METHODS else Slip(place, f"{owner} has no {step!r}", _var_hint(step, value))
            value = value[step]
        return None


def is_fallback(route_id: str) -> bool:
    """Whether a route id belongs to ``unmatched``."""
    return route_id.partition("/")[0] == UNMATCHED


def _var_hint(name: str, known: Mapping[str, Any]) -> str:
    near = did_you_mean(name, known)
    return near if near.startswith("did you mean") else f"add it to the configuration's vars; {near}".removesuffix("; ")


def _outside(owner: str, word: Step, known: frozenset[str]) -> Slip | None:
    if not isinstance(word, str) or word in known or word in _METHODS:
        return None
    return Slip(1, f"{owner} has no {word!r}", did_you_mean(word, known))


def run_field(name: str) -> str | None:
    """LangSmith's name of the run field that ``name`` means; None if it means none."""
    if name in RUN_FIELDS or name in COMPUTED:
        return name
    return FIELD_SYNONYMS.get(name)


def _bare_field(name: str, steps: Sequence[Step]) -> Slip | None:
    """A field of a run that is used at the top level, where a rule's webhook does not have it."""
    if name in _RULE_KEYS or (field := run_field(name)) is None:
        return None
    rest = "".join(
        f"[{step}]" if isinstance(step, int) else "[*]" if step is None else f".{step}" for step in steps[1:]
    )
    base = "$.run" if field.split(".")[0] in _ONLY_COMPUTED else "$.runs[*]"
    return Slip(0, f"a rule's webhook has no {name!r}: its runs have", f"write {base}.{field}{rest}")


def _of_run(steps: Sequence[Step]) -> int | None:
    """The index of the step below a run in ``runs``, or below ``run``; None for other paths."""
    own = steps[1:] if steps and steps[0] == "payload" else steps
    ahead = len(steps) - len(own)
    if len(own) > 2 and own[0] == "runs" and not isinstance(own[1], str):
        return ahead + 2
    return 1 if len(steps) > 1 and steps[0] == "run" else None


def _computed(steps: Sequence[Step], *, path: bool) -> Slip | None:
    place = _of_run(steps)
    if place is None or steps[0] == "run" or steps[place] not in _ONLY_COMPUTED:
        return None
    word = steps[place]
    write = f"write $.run.{word}" if path else f"write run.{word}"
    return Slip(place, f"LangSmith's runs have no {word!r}: the engine computes it, for run", write)


def _field_of_list(steps: Sequence[Step]) -> Slip | None:
    if steps[0] != "runs" or not isinstance(steps[1], str) or steps[1] in ("index", "count"):
        return None
    return Slip(1, f"runs is a list, which has no {steps[1]!r}", f"write run.{steps[1]}, or runs[0].{steps[1]}")


def not_of_kind(keys: Collection[str], steps: Sequence[Step]) -> tuple[str, str] | None:
    """Message and hint if no event under these route keys has the first name of a path; else None."""
    first = steps[0] if steps else None
    if first in _RUN_WORDS and keys and _WITHOUT_RUNS.keys() >= set(keys):
        kind = min(keys)
        return f"webhooks of the kind {kind} have no {first!r}", _WITHOUT_RUNS[kind]
    if first == "commit" and keys and not {"context_hub", "*", "unmatched"} & set(keys):
        hint = _WITHOUT_RUNS.get(min(keys), "a route under context_hub: sees them")
        return "only webhooks of the kind context_hub have 'commit'", hint
    return None


def undocumented(steps: Sequence[Step]) -> tuple[str, str, str] | None:
    """Owner, name and hint of an undocumented field in a path; None if all are documented."""
    steps = steps[2:] if steps and steps[0] == "items" else steps
    return _of_commit(steps) or _undocumented_of_run(steps)


def _of_commit(steps: Sequence[Step]) -> tuple[str, str, str] | None:
    """As ``undocumented``, for commits. Only likely typos, because not all fields of a commit are documented."""
    own = steps[1:] if steps and steps[0] == "payload" else steps
    own = own[1:] if list(own[:2]) == ["data", "commit"] else own
    if len(own) < 2 or own[0] != "commit" or not isinstance(field := own[1], str) or field in COMMIT_FIELDS | _METHODS:
        return None
    near = did_you_mean(field, COMMIT_FIELDS)
    return ("commit", field, near) if near.startswith("did you mean") else None


def _undocumented_of_run(steps: Sequence[Step]) -> tuple[str, str, str] | None:
    place = _of_run(steps)
    if place is None or not isinstance(field := steps[place], str) or field in RUN_FIELDS or field in _METHODS:
        return None
    if steps[0] == "run" and field in COMPUTED:
        return None
    known = RUN_FIELDS | COMPUTED if steps[0] == "run" else RUN_FIELDS
    if field == "url":
        return "run", field, "the engine's own link is run.url"
    near = did_you_mean(field, known, synonyms=FIELD_SYNONYMS)
    return "run", field, near if near.startswith("did you mean") else "LangSmith documents none of that name"
