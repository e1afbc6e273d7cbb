"""Compiled routes and actions. Nothing in them can be invalid any more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from engine.action.param_errors import dotted
from engine.action.params import Leaves, Path, validate_rendered
from engine.action.registry import Registered
from engine.action.retry import RetryPolicy
from engine.clients.network import Origin
from engine.core.errors import ParamsError, TemplateError
from engine.core.schedule import Active
from engine.rules.conditions import Filter
from engine.rules.templates import Template
from engine.store.records import Digest, Gate, Throttle

Needs = frozenset[str]

#: Characters of a key that are kept; a longer key is cut and gets a hash.
_LONGEST_KEY = 200
#: The shared key of deliveries whose own key cannot be computed: they are throttled together and none is lost.
UNKNOWN_KEY = "(cannot be told)"


@dataclass(frozen=True, slots=True)
class Gating:
    """A compiled throttle or digest. ``by`` renders the key; None: one key for the whole action. ``every``: seconds."""

    kind: Literal["throttle", "digest"]
    every: float
    by: Template | None
    most: int = 0

    @property
    def needs(self) -> Needs:
        """The data that the key's template reads."""
        return frozenset() if self.by is None else self.by.needs

    def key(self, document: Mapping[str, Any]) -> str:
        """The throttle or digest key of a document.

        Raises:
            TemplateError: the key cannot be rendered.
            DataMissing: the key reads data that was not fetched.
        """
        if self.by is None:
            return ""
        return _key_text(self.by.render(document))

    def gate(self, key: str) -> Gate:
        """The gate for a delivery with this key."""
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
    """Feedback keys that a route waits for, up to ``up_to`` seconds after its event was received."""

    keys: tuple[str, ...]
    up_to: float

    def missing(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys for which the document has no feedback."""
        feedback = document.get("feedback")
        return tuple(key for key in self.keys if not isinstance(feedback, Mapping) or key not in feedback)


@dataclass(frozen=True, slots=True)
class RoutedAction:
    """One compiled action of a route. ``timeout`` is in seconds.

    ``static_params`` are its checked parameters if they have no template. ``origins`` are the origins its author
    wrote; the address guard lets it reach them. ``destination`` is the one destination of all its deliveries; None if
    it depends on the rendered parameters. ``target`` is a fingerprint of its URL and credential. ``locate`` gives the
    position of a parameter in the file, as ``config.yaml:14``, from its path and the line within its text. All hours
    in ``active`` must hold; they include the route's. ``digests``: it has a digest, so a delivery has many items.
    """

    name: str
    registered: Registered
    template: Template
    when: Filter | None
    needs: Needs
    retry: RetryPolicy
    timeout: float
    static_params: BaseModel | None = None
    origins: frozenset[Origin] = frozenset()
    destination: str | None = None
    target: str = field(default="", repr=False)
    locate: Callable[[Path, int], str] = field(default=lambda _where, _line: "", repr=False, compare=False)
    gating: Gating | None = None
    digests: bool = False
    active: tuple[Active, ...] = ()

    @property
    def decides_by(self) -> Needs:
        """The data that deciding it may read: of its conditions and of its key."""
        needs = self.when.needs if self.when else frozenset()
        return needs | self.gating.needs if self.gating else needs

    def params(self, document: Mapping[str, Any]) -> BaseModel:
        """The parameters of one delivery, rendered and checked.

        Raises:
            ParamsError: a template failed, or its result is not valid for the action; has the position in the file.
            DataMissing: a template reads data that was not fetched.
        """
        if self.static_params is not None:
            return self.static_params
        try:
            rendered = self.template.render(document)
            return validate_rendered(
                self.registered.params, rendered, Leaves(self.template.templated, self.template.mixed)
            )
        except TemplateError as error:
            raise self._located(error) from error

    def _located(self, error: TemplateError) -> ParamsError:
        """The error with the parameter's name and position."""
        name = f"parameter {dotted(error.where)}" if error.where else self.name
        place = self.locate(error.where, error.line)
        subject = f"{name} ({place})" if place else name
        message = str(error).removeprefix(f"{self.registered.name} ")
        return ParamsError(f"{subject}: {message}", where=error.where, line=error.line, hint=error.hint)


@dataclass(frozen=True, slots=True)
class Route:
    """A route, compiled. ``word`` is the value of ``route`` in templates; ``on_dead`` runs for dead deliveries."""

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
        """The data that deciding it may read: of its filter and of its actions' conditions and keys."""
        return self.filter.needs.union(*(action.decides_by for action in self.actions))

    @property
    def reads(self) -> Needs:
        """``needs``, plus feedback if the route waits for it."""
        return self.needs | {"feedback"} if self.wait_for else self.needs

    def samples(self, event_id: str, document: Mapping[str, Any]) -> bool:
        """Whether a document is in the sample. The hash is of route and trace, so a whole trace is in or out."""
        if self.sample is None:
            return True
        run = document.get("run")
        trace = (run.get("trace_id") or run.get("id")) if isinstance(run, Mapping) else None
        name = f"{self.id}\0{trace or event_id}".encode(errors="surrogatepass")
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) < self.sample * 2**64
