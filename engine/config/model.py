"""What a configuration file says, as data: checked, but not yet compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from engine.clients.langsmith import LangSmithSettings
from engine.clients.limits import LimitTable
from engine.clients.network import Network
from engine.clients.slack import SlackSettings
from engine.config.variables import Unset
from engine.core.positions import Source, Where
from engine.core.schedule import Active


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """How to retry, as written; None is what the level above says. Times are in seconds.

    ``attempts`` counts the first one too; ``shortest`` and ``longest`` bound the delay
    between two (``min`` and ``max`` in YAML). ``langsmith`` is LangSmith's own delivery policy.
    """

    attempts: int | None = None
    within: float | None = None
    shortest: float | None = None
    longest: float | None = None
    policy: Literal["engine", "langsmith"] = "engine"

    def over(self, base: RetrySpec) -> RetrySpec:
        """This spec, with what it leaves open taken from ``base``."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        filled = {name: getattr(base, name) if value is None else value for name, value in values.items()}
        return RetrySpec(**filled)


#: What `defaults: {retry: …}` starts from: 8 attempts within a day, 1 s to 1 h apart.
DEFAULT_RETRY = RetrySpec(attempts=8, within=86400.0, shortest=1.0, longest=3600.0)
#: Seconds an attempt may take.
DEFAULT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept, in seconds, and how large the store may become, in bytes; infinity is without end.

    Ages count from the last that happened to an event. ``bodies`` is for what was sent and
    fetched, ``events`` for the event with its whole history, ``unmatched`` for events that no route
    matched, ``dead`` for dead letters, from their death. Waiting and dead work keeps its event whole.
    """

    bodies: float = 7 * 86400.0
    events: float = 30 * 86400.0
    unmatched: float = 2 * 86400.0
    dead: float = 90 * 86400.0
    max_size: float = 10 * 2.0**30


#: What holds where the file says nothing.
DEFAULT_RETENTION = Retention()


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A ``throttle`` or ``digest``: its seconds, its key's template (None: one for all), a digest's most items."""

    every: float
    by: str | None
    where: Where
    most: int = 0


@dataclass(frozen=True, slots=True)
class WaitSpec:
    """A ``wait_for``: the feedback keys, and the seconds they are waited for at most."""

    feedback: tuple[str, ...]
    up_to: float


@dataclass(frozen=True, slots=True)
class ActionConfig:
    """One item of a route's ``actions`` or ``on_dead``. ``params`` is as written, templates and all.

    ``where`` is the item, ``params_where`` what its parameters' places begin with.
    """

    type: str
    name: str
    params: Any
    params_where: Where
    where: Where
    when: Any | None = None
    retry: RetrySpec | None = None
    timeout: float | None = None
    throttle: GateSpec | None = None
    digest: GateSpec | None = None
    active: Active | None = None


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One route. ``key`` is as written, ``keys`` what it stands for: ids, a kind, ``*`` or ``unmatched``.

    ``id`` is ``key/name``, or ``key`` where it has no name. ``sample`` is a share from 0 to 1.
    ``on_dead`` is done when a delivery of the route dies.
    """

    key: str
    keys: tuple[str, ...]
    name: str
    where: Where
    for_each: Literal["run", "event"] = "run"
    filters: Any = ()
    stop: bool = False
    sample: float | None = None
    enabled: bool = True
    actions: tuple[ActionConfig, ...] = ()
    active: Active | None = None
    wait_for: WaitSpec | None = None
    on_dead: tuple[ActionConfig, ...] = ()

    @property
    def id(self) -> str:
        """What names the route in events, deliveries and commands."""
        return f"{self.key}/{self.name}" if self.name else self.key


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration file.

    ``secrets`` None means ``secrets: none``; none of them and some ``signing_secrets`` means that
    bodies have to be signed. ``timeout`` is in seconds. ``rules`` are names
    with their ids. ``masked`` are the values that no log, page or dump may show; ``shown`` is
    the file's tree with them masked. ``hash`` is twelve digits that change with whatever takes effect, the plug-ins'
    files too, except secrets: it is shown, and nothing can be guessed from it. ``private_hash`` changes with secrets,
    too: it is neither shown nor stored. ``files`` are those that ``${file:…}`` names, and ``env_file`` the file with
    variables that was read. ``unset`` are the variables that are not set; a stand-in takes their place. ``source``
    takes further problems; while it has any, the configuration is not to be used.
    """

    file: str
    source: Source
    hash: str
    private_hash: str = field(repr=False)
    secrets: tuple[str, ...] | None = field(repr=False)
    signing_secrets: tuple[str, ...] = field(repr=False)
    langsmith: LangSmithSettings
    slack: SlackSettings
    network: Network
    timeout: float
    retry: RetrySpec
    limits: LimitTable
    plugins: tuple[Path, ...]
    vars: Mapping[str, Any]
    rules: Mapping[str, tuple[str, ...]]
    routes: tuple[RouteConfig, ...]
    masked: frozenset[str] = field(repr=False)
    shown: Mapping[str, Any] = field(repr=False)
    files: tuple[Path, ...] = ()
    retention: Retention = DEFAULT_RETENTION
    env_file: Path | None = None
    unset: tuple[Unset, ...] = ()
