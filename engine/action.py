"""The contract between the engine and an action, built-in or a plug-in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from engine.log_receipt import write_line
from engine.missing import Missing
from engine.retry import Scope
from engine.slack import SlackSettings, Threads, ThreadsInMemory

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    import aiohttp

    from engine.langsmith import LangSmith

#: What an action may declare in ``needs``: parts of a run that LangSmith does not always send along.
Need = Literal["inputs", "outputs", "feedback"]
#: What an action may say in ``requires``: services that need a key or token in the configuration.
Service = Literal["langsmith", "slack"]


class Params(BaseModel):
    """Base of an action's parameters: unknown ones are errors, values are not coerced from text."""

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

    ``delivery_id`` is the idempotency key: the same for every attempt, restart and replay.
    ``attempt`` counts from 1. ``timeout`` is in seconds. ``replayed`` is true when a person
    asked for this delivery again.
    """

    delivery_id: str
    attempt: int
    timeout: float
    replayed: bool
    event_id: str
    event_kind: str
    rule_id: str | None
    received_at: datetime
    route: str
    action: str
    #: The document this delivery was decided on, as filters and templates see it.
    document: Mapping[str, Any]
    #: The run it is about, with ``url``, ``latency`` and ``cost``; None where the event has none.
    run: Mapping[str, Any] | None
    #: Goes to public addresses, and to hosts that stand in the action's parameters in the file or under
    #: ``network: {allow: […]}``; follows no redirects, uses no proxies (docs/security.md).
    http: aiohttp.ClientSession
    langsmith: LangSmith
    slack: SlackSettings
    logger: logging.Logger
    #: Whether this delivery is for many runs; ``document`` then has ``items``, and is otherwise the first one's.
    digest: bool = False
    #: What earlier attempts of this delivery noted, for an action with ``keeps_progress``. What an attempt adds is kept
    #: when it fails or times out, and is there for the next one, after a restart and in a replay of a dead delivery,
    #: too. JSON of up to 16 KiB, without secrets; texts that are secrets go through ``fingerprint``.
    progress: dict[str, Any] = field(default_factory=dict)
    #: A text's digest by a key that only this store has: equal texts have equal ones, which reveal nothing of them.
    fingerprint: Callable[[str], str] = _digest
    #: The payloads of the documents that it is about, where one has whole numbers that ``document`` has as floats.
    exact: Sequence[Mapping[str, Any]] = ()
    #: Which message a thread of ``thread_by`` began with.
    threads: Threads = field(default_factory=ThreadsInMemory)

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
    """One thing the engine can do with a run that matched. Subclass, fill in, done.

    The class is found by its name: an entry point's name, or the file's name in a
    ``plugins:`` folder. One instance serves all deliveries, so keep no state of a
    delivery in it. The docstring's first line is what ``engine actions`` shows.
    """

    #: The parameters, one field each. Every one of them may be a template in YAML.
    Params: ClassVar[type[BaseModel]] = Params
    #: The parameter that a text or a list in place of the parameters stands for, as in ``- post_to_slack: "#quality"``.
    main: ClassVar[str] = ""
    #: Data the action reads from ``context.run`` beyond what its parameters name.
    needs: ClassVar[frozenset[Need]] = frozenset()
    #: Modules that take long to import and that only attempts use. They are imported off the event loop as soon as a
    #: configuration uses the action, rather than under its first delivery.
    libraries: ClassVar[tuple[str, ...]] = ()
    #: Whether attempts use ``context.progress``.
    keeps_progress: ClassVar[bool] = False

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
        """What limits and pauses are kept by: by default scheme, host and port of ``params.url``."""
        url = getattr(params, "url", None)
        return origin(url) if isinstance(url, str) else type(self).__name__

    def scope(self, params: Any) -> Scope:
        """What an answer is about: by default a 410 is about ``params.url``, and a 401 about the whole destination."""
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
        """Make one attempt. What it returns is kept with the attempt, for people to read.

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
