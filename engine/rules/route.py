"""Routes as they run: compiled from what the user wrote, with nothing in them that can still be invalid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel

from engine.action.param_errors import dotted
from engine.action.params import Leaves, Path, validate_rendered
from engine.action.registry import Registered
from engine.action.retry import RetryPolicy
from engine.clients.origin import Origin
from engine.core.errors import ParamsError, TemplateError
from engine.core.schedule import Active
from engine.rules.conditions import Filter
from engine.rules.templates import Template
from engine.store.records import Digest, Gate, Throttle

Needs = frozenset[str]

#: A key is kept whole up to so many characters; what is longer is told apart by its hash.
_LONGEST_KEY = 200
#: What templates see as ``throttle`` where nothing was held back.
NOTHING_THROTTLED: Final[Mapping[str, Any]] = {"suppressed": 0, "since": None}
#: The key of those whose own cannot be told: they are held back together, so that none is lost and none floods.
UNTOLD = "(cannot be told)"


@dataclass(frozen=True, slots=True)
class Gating:
    """A throttle or digest, compiled. ``by`` tells the key; None: one for the whole action."""

    kind: Literal["throttle", "digest"]
    every: float
    by: Template | None
    most: int = 0

    @property
    def needs(self) -> Needs:
        """What telling the key reads."""
        return frozenset() if self.by is None else self.by.needs

    def key(self, document: Mapping[str, Any]) -> str:
        """What a delivery is held back with.

        Raises:
            TemplateError: it cannot be told.
            WantOfData: it reads data that is not at hand.
        """
        if self.by is None:
            return ""
        return _key_text(self.by.render(document))

    def gate(self, key: str) -> Gate:
        """What stands before a delivery of a key."""
        if self.kind == "throttle":
            return Throttle(key, self.every)
        return Digest(key, self.every, self.most)


def _key_text(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()
    if len(text) <= _LONGEST_KEY:
        return text
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=10).hexdigest()
    return f"{text[:_LONGEST_KEY]}… {digest}"


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Feedback without which a route is not decided until ``up_to`` seconds after its event was received."""

    keys: tuple[str, ...]
    up_to: float

    def missing(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the keys that no feedback at hand has."""
        feedback = document.get("feedback")
        return tuple(key for key in self.keys if not isinstance(feedback, Mapping) or key not in feedback)


@dataclass(frozen=True, slots=True)
class RoutedAction:
    """One action of a route, compiled: nothing in it can be invalid any more. ``timeout`` is in seconds.

    ``origins`` are the author's own, which it may reach wherever they are. ``destination`` is where every delivery of
    it goes, None where only its parameters tell; ``target`` changes with its URL and credential.
    ``place`` tells where in the file a parameter stands, as ``config.yaml:14``: from its place among the
    parameters, and the line within it. ``active`` are the hours that must all hold, the route's among them.
    """

    name: str
    registered: Registered
    template: Template
    when: Filter | None
    needs: Needs
    retry: RetryPolicy
    timeout: float
    fixed: BaseModel | None = None
    origins: frozenset[Origin] = frozenset()
    destination: str | None = None
    target: str = field(default="", repr=False)
    place: Callable[[Path, int], str] = field(default=lambda _where, _line: "", repr=False, compare=False)
    gating: Gating | None = None
    active: tuple[Active, ...] = ()

    @property
    def digests(self) -> bool:
        """Whether its deliveries are made of many items."""
        return self.gating is not None and self.gating.kind == "digest"

    @property
    def decides_by(self) -> Needs:
        """What deciding on it can take: its conditions' reads, and its key's."""
        needs = self.when.needs if self.when else frozenset()
        return needs | self.gating.needs if self.gating else needs

    def worded(self, document: Mapping[str, Any], words: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """A document with the words that a delivery brings, and those that the action's templates may rely on."""
        throttles = self.gating is not None and self.gating.kind == "throttle"
        if not (words or throttles):
            return document
        return {**document, **({"throttle": NOTHING_THROTTLED} if throttles else {}), **(words or {})}

    def params(self, document: Mapping[str, Any]) -> BaseModel:
        """The parameters of one delivery, rendered and checked; ``fixed`` ones hold no template.

        Raises:
            ParamsError: a template failed, or came to something the action does not take; says where it stands.
            WantOfData: it reads data that is not at hand.
        """
        if self.fixed is not None:
            return self.fixed
        try:
            rendered = self.template.render(document)
            return validate_rendered(
                self.registered.params, rendered, Leaves(self.template.templated, self.template.mixed)
            )
        except TemplateError as error:
            raise self._located(error) from error

    def _located(self, error: TemplateError) -> ParamsError:
        """The error with the parameter it is about, and the line to look at."""
        name = f"parameter {dotted(error.where)}" if error.where else self.name
        place = self.place(error.where, error.line)
        subject = f"{name} ({place})" if place else name
        words = str(error).removeprefix(f"{self.registered.name} ")
        return ParamsError(f"{subject}: {words}", where=error.where, line=error.line, hint=error.hint)


@dataclass(frozen=True, slots=True)
class Route:
    """One route, compiled. ``word`` is what templates see as ``route``; ``on_dead`` follows a delivery that died."""

    id: str
    keys: tuple[str, ...]
    word: Mapping[str, str]
    per_run: bool
    filter: Filter
    actions: tuple[RoutedAction, ...]
    stop: bool = False
    sample: float | None = None
    wait_for: WaitFor | None = None
    on_dead: tuple[RoutedAction, ...] = ()

    @property
    def needs(self) -> Needs:
        """What deciding it can take: its filter's reads, and what its actions are decided by."""
        return self.filter.needs.union(*(action.decides_by for action in self.actions))

    @property
    def reads(self) -> Needs:
        """What deciding it can take, with the feedback that is waited for."""
        return self.needs | {"feedback"} if self.wait_for else self.needs

    def samples(self, event_id: str, document: Mapping[str, Any]) -> bool:
        """Whether a document is in the sample: by a hash of route and trace, so that all of a trace is in or out."""
        if self.sample is None:
            return True
        run = document.get("run")
        trace = (run.get("trace_id") or run.get("id")) if isinstance(run, Mapping) else None
        name = f"{self.id}\0{trace or event_id}".encode(errors="surrogatepass")
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) < self.sample * 2**64
