"""The contract between the engine and an action, built-in or a plug-in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from engine.action.failures import Scope
from engine.clients.slack import SlackSettings, Threads, ThreadsInMemory
from engine.core.log_context import write_line
from engine.core.missing import Missing

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    import aiohttp

    from engine.clients.langsmith import LangSmith

#: What an action may declare in ``needs``: parts of a run that LangSmith does not always send along.
Need = Literal["inputs", "outputs", "feedback"]
#: What an action may say in ``requires``: services that need a key or token in the configuration.
Service = Literal["langsmith", "slack"]


class Params(BaseModel):
    """Base of an action's parameters, a pydantic model: one field each, with a type and perhaps a default.

    Unknown parameters are errors, and values are not converted: ``"3"`` is not an ``int``. What is wrong is an error
    with its place when the configuration is loaded, or, of what a template yields, the end of that delivery.
    ``pydantic.Field(description=…, examples=[…])`` is shown by ``engine actions NAME``. A validator raises
    ``ValueError``, with words for the author of the configuration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class EscapePayload:
    """Field marker: text that comes out of event data is escaped for Slack.

    In text ``& < >`` are escaped; at a link's target data is URL-encoded, and makes a link only with http, https or
    mailto; in a ``markdown`` block it is no Markdown. Use it as ``text: Annotated[str, EscapePayload()]``. What the
    author of the configuration wrote, and ``vars``, are left as they are.
    """


@dataclass(frozen=True, slots=True)
class LiteralHost:
    """Field marker: an address, or a list of them, whose scheme and host no event may decide.

    For actions whose requests do not go through ``context.http``, and so past the engine's
    address guard. Use it as ``urls: Annotated[list[str], LiteralHost()]``. Behind the host, event
    data may stand if it goes through ``| urlencode``. ``vars`` are the author's, and free.
    """


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What an action may know and use while it runs one attempt.

    It belongs to one attempt. Its values may be read in every thread; ``http``, ``langsmith``, ``threads`` and
    ``log_line`` are for the event loop that ``run`` is called on. Nothing but ``progress`` is to be changed.

    Attributes:
        delivery_id: The delivery's id, 32 hexadecimal digits: the idempotency key, the same for every attempt,
            restart and replay.
        attempt: The number of this attempt, from 1; a replay begins again with 1.
        timeout: How many seconds this attempt may take. After them it is cancelled, and retried.
        replayed: Whether a person asked for this delivery again.
        event_id: The id of the webhook's event, as ``engine events`` shows it.
        event_kind: What sort of webhook it was: ``rule``, ``alert``, ``prompt``, ``issue``, ``context_hub``,
            ``unknown`` or ``unparsed``.
        rule_id: The id of the automation rule that sent it; None where the webhook has none.
        received_at: When the webhook was received, in UTC.
        route: The route's id, as in the log and in ``engine deliveries``.
        action: The action's name in its route.
        document: What filters and templates see: the payload's keys with ``runs`` narrowed to this run, and
            ``run``, ``feedback``, ``feedbacks``, ``event``, ``route``, ``vars``. A copy: changing it reaches no
            other delivery.
        run: The run it is about, with ``url``, ``latency`` (seconds) and ``cost``; None where the event has no run.
            Of a digest it is the first item's. ``inputs``, ``outputs`` and ``feedback`` are certain to be there
            only if the action's ``needs`` names them: LangSmith does not send them always, and reading one that was
            not fetched raises, which the engine takes for data wanting and retries.
        http: An HTTP session, for the attempt's event loop only. It connects to public addresses, to hosts that are
            written in the action's parameters in the file, and to those under ``network: {allow: […]}``; it follows
            no redirects, uses no proxies and has no total timeout of its own (docs/security.md).
        langsmith: LangSmith, with the configuration's key: ``create_feedback``, ``add_example``, ``add_to_queue``,
            ``query_runs`` and more (``help(engine.LangSmith)``). For the attempt's event loop only.
        slack: Slack's ``token`` (None where there is none) and ``endpoint``, as configured.
        logger: A logger whose lines have the delivery's fields. Safe in every thread. It never waits, and drops
            lines where what reads the log does not keep up.
        digest: Whether this delivery is for many runs: ``document`` then has ``items`` and ``digest``, and is
            otherwise the first one's.
        progress: What earlier attempts of this delivery noted, for an action with ``keeps_progress``; else empty.
            What an attempt adds is kept when it fails or times out, and is there for the next one, after a restart
            and in a replay of a dead delivery, too. JSON of up to 16 KiB, without secrets; texts that are secrets
            go through ``fingerprint``.
        fingerprint: A text's digest by a key that only this store has: equal texts have equal ones, which reveal
            nothing of them.
        exact: The payloads of the documents that it is about, where one has whole numbers that ``document`` has as
            floats; else empty. ``payload`` and ``payloads`` are easier to use.
        threads: Which Slack message a thread began with: ``first(channel, key)`` and ``keep(channel, key, ts)``.
        payload: The webhook's body, with ``runs`` narrowed to this run. What LangSmith did not send along, and no
            parameter made the engine fetch, is null. Whole numbers are exact, also those beyond 64 bits, which
            ``document`` has as floats.
        payloads: Of a digest the payloads of all its items, each narrowed to its run; None for a delivery that is
            none.
    """

    delivery_id: str
    """The delivery's id, 32 hexadecimal digits: the idempotency key, the same for every attempt, restart and replay."""
    attempt: int
    """The number of this attempt, from 1; a replay begins again with 1."""
    timeout: float
    """How many seconds this attempt may take. After them it is cancelled, and retried."""
    replayed: bool
    """Whether a person asked for this delivery again."""
    event_id: str
    """The id of the webhook's event, as ``engine events`` shows it."""
    event_kind: str
    """What sort of webhook it was: ``rule``, ``alert``, ``prompt``, ``issue``, ``context_hub``, ``unknown`` or
    ``unparsed``."""
    rule_id: str | None
    """The id of the automation rule that sent it; None where the webhook has none."""
    received_at: datetime
    """When the webhook was received, in UTC."""
    route: str
    """The route's id, as in the log and in ``engine deliveries``."""
    action: str
    """The action's name in its route."""
    document: Mapping[str, Any]
    """What filters and templates see: the payload's keys with ``runs`` narrowed to this run, and ``run``,
    ``feedback``, ``feedbacks``, ``event``, ``route``, ``vars``. A copy: changing it reaches no other delivery."""
    run: Mapping[str, Any] | None
    """The run it is about, with ``url``, ``latency`` (seconds) and ``cost``; None where the event has no run.
    Of a digest it is the first item's. ``inputs``, ``outputs`` and ``feedback`` are certain to be there only if
    the action's ``needs`` names them: LangSmith does not send them always, and reading one that was not fetched
    raises, which the engine takes for data wanting and retries."""
    http: aiohttp.ClientSession
    """An HTTP session, for the attempt's event loop only. It connects to public addresses, to hosts that are
    written in the action's parameters in the file, and to those under ``network: {allow: […]}``; it follows no
    redirects, uses no proxies and has no total timeout of its own (docs/security.md)."""
    langsmith: LangSmith
    """LangSmith, with the configuration's key: ``create_feedback``, ``add_example``, ``add_to_queue``,
    ``query_runs`` and more (``help(engine.LangSmith)``). For the attempt's event loop only."""
    slack: SlackSettings
    """Slack's ``token`` (None where there is none) and ``endpoint``, as configured."""
    logger: logging.Logger
    """A logger whose lines have the delivery's fields. Safe in every thread. It never waits, and drops lines
    where what reads the log does not keep up."""
    digest: bool = False
    """Whether this delivery is for many runs: ``document`` then has ``items`` and ``digest``, and is otherwise
    the first one's."""
    progress: dict[str, Any] = field(default_factory=dict)
    """What earlier attempts of this delivery noted, for an action with ``keeps_progress``; else empty. What an
    attempt adds is kept when it fails or times out, and is there for the next one, after a restart and in a
    replay of a dead delivery, too. JSON of up to 16 KiB, without secrets; texts that are secrets go through
    ``fingerprint``."""
    fingerprint: Callable[[str], str] = _digest
    """A text's digest by a key that only this store has: equal texts have equal ones, which reveal nothing of them."""
    exact: Sequence[Mapping[str, Any]] = ()
    """The payloads of the documents that it is about, where one has whole numbers that ``document`` has as
    floats; else empty. ``payload`` and ``payloads`` are easier to use."""
    threads: Threads = field(default_factory=ThreadsInMemory)
    """Which Slack message a thread began with: ``first(channel, key)`` and ``keep(channel, key, ts)``."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """The webhook's body, with ``runs`` narrowed to the one this delivery is about.

        What LangSmith did not send along, and no parameter made the engine fetch, is null. Whole numbers are exact,
        also those beyond 64 bits, which ``document`` has as floats.
        """
        return self.exact[0] if self.exact else payload_of(self.document)

    async def log_line(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        """Write a line to the engine's log and return when it is written, for lines that must not be lost.

        ``logger`` never waits, and drops lines where what reads the log does not keep up.

        Raises:
            Retry: the line could not be written, or the log takes none at the moment.
        """
        await write_line(self.logger, level, message, fields)

    @property
    def payloads(self) -> Sequence[Mapping[str, Any]] | None:
        """Of a digest the payloads of all its items, each narrowed to its run; None for a delivery that is none."""
        if not self.digest:
            return None
        return self.exact or [payload_of(item) for item in self.document["items"]]


def whole_payload(document: Mapping[str, Any], *, digest: bool) -> Mapping[str, Any]:
    """The payload as it came; of a digest all of them, with how many and since when."""
    if not digest:
        return payload_of(document)
    return {"items": [payload_of(item) for item in document["items"]], "digest": document["digest"]}


def payload_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload of a document; what was not sent along is null."""
    payload: Mapping[str, Any] = document["payload"]
    runs = payload.get("runs")
    return {**payload, "runs": [_without_missing(run) for run in runs]} if isinstance(runs, list) else payload


def _without_missing(run: Any) -> Any:
    if not isinstance(run, Mapping):
        return run
    return {name: None if isinstance(value, Missing) else value for name, value in run.items()}


class Action(ABC):
    """One thing the engine can do with a run that matched. Subclass it, with ``Params`` and ``run``.

    The class is found by the name that YAML uses: an entry point's name, or the file's name in a ``plugins:`` folder.
    One instance, made without arguments, serves all deliveries, so keep no state of a delivery in it. The docstring's
    first line is what ``engine actions`` shows. All methods but ``run`` must return at once: they are also called while
    the configuration is loaded.

    Attributes:
        Params: The parameters, a subclass of ``engine.Params`` with one field each. Every one of them may be a template
            in YAML; ``run`` gets them rendered and checked.
        main: The parameter that a text or a list in place of the parameters stands for, as in
            ``- post_to_slack: "#quality"``; empty for none.
        needs: Data the action reads from ``context.run`` beyond what its parameters name, of ``inputs``, ``outputs``
            and ``feedback``. The engine fetches it before ``run``.
        libraries: Modules that take long to import and that only attempts use. They are imported off the event loop as
            soon as a configuration uses the action, rather than under its first delivery.
        keeps_progress: Whether attempts use ``context.progress``.
    """

    Params: ClassVar[type[BaseModel]] = Params
    """The parameters, a subclass of ``engine.Params`` with one field each. Every one of them may be a template in YAML;
    ``run`` gets them rendered and checked."""
    main: ClassVar[str] = ""
    """The parameter that a text or a list in place of the parameters stands for, as in ``- post_to_slack: "#quality"``;
    empty for none."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """Data the action reads from ``context.run`` beyond what its parameters name, of ``inputs``, ``outputs`` and
    ``feedback``. The engine fetches it before ``run``."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules that take long to import and that only attempts use. They are imported off the event loop as soon as a
    configuration uses the action, rather than under its first delivery."""
    keeps_progress: ClassVar[bool] = False
    """Whether attempts use ``context.progress``."""

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """Parameters to add where they are not written, as they might stand in YAML: templates are rendered.

        ``params`` is as written. ``words`` are those of ``items digest throttle delivery`` that templates see here.
        """
        del params, words
        return {}

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """The services that a delivery cannot do without; without their key or token a configuration is refused.

        ``params`` is as written, templates and all.
        """
        del params
        return frozenset()

    def lacks(self) -> str:
        """What this installation lacks for the action to work, with the way to get it; empty when nothing does."""
        return ""

    def doubts(self, params: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
        """What is legal in parameters but hardly meant, for ``engine check``: parameter, message, what to write.

        ``params`` is as written, templates and all.
        """
        del params
        return ()

    def destination(self, params: Any) -> str:
        """The name that limits, pauses and ``engine destinations`` go by; deliveries of one name share them.

        By default scheme, host and port of ``params.url``, or the class's name where there is no such parameter.
        ``params`` are rendered. It must not hold a secret.
        """
        url = getattr(params, "url", None)
        return origin(url) if isinstance(url, str) else type(self).__name__

    def scope(self, params: Any) -> Scope:
        """What an answer is about: by default a 410 is about ``params.url``, and a 401 about the whole destination.

        ``params`` are rendered.
        """
        url = getattr(params, "url", None)
        return Scope(url) if isinstance(url, str) else Scope()

    def outline(self, params: Any, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """What people are shown of what would be sent: the parameters that are set, unless an action adds to them.

        ``payload`` is the webhook as it came, with this run; of a digest ``{items, digest}``, with the webhooks of all.
        """
        del payload
        shown: dict[str, Any] = params.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return shown

    @abstractmethod
    async def run(self, params: Any, context: ActionContext) -> Mapping[str, Any] | None:
        """Make one attempt. What it returns is kept with the attempt, and ``then:`` sees it as ``result``.

        A mapping of JSON values, of up to 16 KiB; anything else is kept under ``result``, as text where need be.
        ``params`` is an instance of ``Params``. The attempt is cancelled after ``context.timeout`` seconds. A plug-in
        that blocks delays other plug-ins: ``await asyncio.to_thread(…)`` runs such code elsewhere.

        Raises:
            Retry: try again, not before ``after`` seconds.
            Discard: no attempt can succeed.

        Any other exception is classified (HTTP statuses by the table in
        ``docs/delivery.md``, connection faults and timeouts) or retried.
        """


def origin(url: str) -> str:
    """``scheme://host:port`` of a URL, without credentials, path or query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"
