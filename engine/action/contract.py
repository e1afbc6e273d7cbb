"""The contract between the engine and an action, built-in or a plug-in."""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn
from urllib.parse import urlsplit

from engine.action.failures import Scope
from engine.action.params import Params
from engine.clients.slack import SlackSettings, Threads, ThreadsInMemory
from engine.core.document import Missing
from engine.core.errors import check_response
from engine.core.log_context import write_line

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    import aiohttp
    from pydantic import BaseModel

    from engine.clients.langsmith import LangSmith

#: Values of ``needs``: parts of a run that webhooks do not always contain.
Need = Literal["inputs", "outputs", "feedback"]
#: Values of ``requires``: services that need a key or token in the configuration.
Service = Literal["langsmith", "slack"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ActionContext:
    """The data and services for one attempt of an action.

    Values may be read in every thread. ``http``, ``langsmith``, ``threads`` and ``log_line`` are only for the event
    loop that ``run`` is called on. Change nothing except ``progress``.

    Attributes:
        delivery_id: The delivery's id, 32 hexadecimal digits: the idempotency key, the same for every attempt,
            restart and replay.
        attempt: The number of this attempt, from 1; a replay starts again at 1.
        timeout: The time limit of this attempt in seconds. After that it is cancelled and retried.
        replayed: Whether this delivery is a replay.
        event_id: The id of the webhook's event, as ``engine events`` shows it.
        event_kind: The kind of webhook: ``rule``, ``alert``, ``prompt``, ``issue``, ``context_hub``,
            ``unknown`` or ``unparsed``.
        rule_id: The id of the automation rule that sent it; None if the webhook has none.
        received_at: When the webhook was received, in UTC.
        route: The route's id, as in the log and in ``engine deliveries``.
        action: The action's name in its route.
        document: The data of filters and templates: the payload's keys with ``runs`` narrowed to this run, and
            ``run``, ``feedback``, ``feedbacks``, ``event``, ``route``, ``vars``. It is a copy: changes do not affect
            other deliveries.
        run: The run of this delivery, with ``url``, ``latency`` (seconds) and ``cost``; None if the event has no run.
            In a digest, the run of the first item. ``inputs``, ``outputs`` and ``feedback`` are always present only if
            the action's ``needs`` names them: webhooks do not always contain them. Reading one that was not fetched
            raises an exception, and the engine retries the delivery.
        http: An HTTP session, for the attempt's event loop only. It connects to public addresses, to hosts that are
            written in the action's parameters in the file, and to those under ``network: {allow: […]}``; it follows
            no redirects, uses no proxies and has no total timeout of its own (docs/security.md).
        langsmith: LangSmith, with the configuration's key: ``create_feedback``, ``add_example``, ``add_to_queue``,
            ``query_runs`` and more (``help(engine.LangSmith)``). For the attempt's event loop only.
        slack: Slack's ``token`` (None if there is none) and ``endpoint``, as configured.
        logger: A logger whose lines have the delivery's fields. Safe in every thread. It never waits, and drops
            lines if the reader of the log is too slow.
        digest: Whether this delivery is a digest of many runs: ``document`` then has ``items`` and ``digest``, and is
            otherwise the document of the first item.
        progress: What earlier attempts of this delivery saved, for an action with ``keeps_progress``; else empty.
            Changes are kept when an attempt fails or times out. The next attempt sees them, also after a restart and
            in a replay of a dead delivery. JSON of up to 16 KiB, without secrets: store the ``fingerprint`` of a
            secret instead.
        fingerprint: The digest of a text with a key that only this store has. Equal texts have equal digests, which
            do not reveal the text.
        exact: The payloads of this delivery if they contain integers that ``document`` has as floats; else empty.
            ``payload`` and ``payloads`` are easier to use.
        threads: The first message of each Slack thread: ``first(channel, key)`` and ``keep(channel, key, ts)``.
        payload: The webhook's body, with ``runs`` narrowed to this run. Data that is not in the webhook and was not
            fetched is null. Integers are exact, also those beyond 64 bits, which ``document`` has as floats.
        payloads: The payloads of all items of a digest, each narrowed to its run; None if this is not a digest.
    """

    delivery_id: str
    """The delivery's id, 32 hexadecimal digits: the idempotency key, the same for every attempt, restart and replay."""
    attempt: int
    """The number of this attempt, from 1; a replay starts again at 1."""
    timeout: float
    """The time limit of this attempt in seconds. After that it is cancelled and retried."""
    replayed: bool
    """Whether this delivery is a replay."""
    event_id: str
    """The id of the webhook's event, as ``engine events`` shows it."""
    event_kind: str
    """The kind of webhook: ``rule``, ``alert``, ``prompt``, ``issue``, ``context_hub``, ``unknown`` or
    ``unparsed``."""
    rule_id: str | None
    """The id of the automation rule that sent it; None if the webhook has none."""
    received_at: datetime
    """When the webhook was received, in UTC."""
    route: str
    """The route's id, as in the log and in ``engine deliveries``."""
    action: str
    """The action's name in its route."""
    document: Mapping[str, Any]
    """The data of filters and templates: the payload's keys with ``runs`` narrowed to this run, and ``run``,
    ``feedback``, ``feedbacks``, ``event``, ``route``, ``vars``. It is a copy: changes do not affect other
    deliveries."""
    run: Mapping[str, Any] | None
    """The run of this delivery, with ``url``, ``latency`` (seconds) and ``cost``; None if the event has no run.
    In a digest, the run of the first item. ``inputs``, ``outputs`` and ``feedback`` are always present only if the
    action's ``needs`` names them: webhooks do not always contain them. Reading one that was not fetched raises an
    exception, and the engine retries the delivery."""
    http: aiohttp.ClientSession
    """An HTTP session, for the attempt's event loop only. It connects to public addresses, to hosts that are
    written in the action's parameters in the file, and to those under ``network: {allow: […]}``; it follows no
    redirects, uses no proxies and has no total timeout of its own (docs/security.md)."""
    langsmith: LangSmith
    """LangSmith, with the configuration's key: ``create_feedback``, ``add_example``, ``add_to_queue``,
    ``query_runs`` and more (``help(engine.LangSmith)``). For the attempt's event loop only."""
    slack: SlackSettings
    """Slack's ``token`` (None if there is none) and ``endpoint``, as configured."""
    logger: logging.Logger
    """A logger whose lines have the delivery's fields. Safe in every thread. It never waits, and drops lines
    if the reader of the log is too slow."""
    digest: bool = False
    """Whether this delivery is a digest of many runs: ``document`` then has ``items`` and ``digest``, and is
    otherwise the document of the first item."""
    progress: dict[str, Any] = field(default_factory=dict)
    """What earlier attempts of this delivery saved, for an action with ``keeps_progress``; else empty. Changes are
    kept when an attempt fails or times out. The next attempt sees them, also after a restart and in a replay of a
    dead delivery. JSON of up to 16 KiB, without secrets: store the ``fingerprint`` of a secret instead."""
    fingerprint: Callable[[str], str] = _digest
    """The digest of a text with a key that only this store has. Equal texts have equal digests, which do not reveal
    the text."""
    exact: Sequence[Mapping[str, Any]] = ()
    """The payloads of this delivery if they contain integers that ``document`` has as floats; else empty.
    ``payload`` and ``payloads`` are easier to use."""
    threads: Threads = field(default_factory=ThreadsInMemory)
    """The first message of each Slack thread: ``first(channel, key)`` and ``keep(channel, key, ts)``."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """The webhook's body, with ``runs`` narrowed to this run.

        Data that is not in the webhook and was not fetched is null. Integers are exact, also those beyond 64 bits,
        which ``document`` has as floats.
        """
        return self.exact[0] if self.exact else payload_of(self.document)

    async def log_line(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        """Write a line to the engine's log and return when it is written, for lines that must not be lost.

        ``logger`` never waits, and drops lines if the reader of the log is too slow.

        Raises:
            Retry: the line could not be written, or the log cannot take lines now.
        """
        await write_line(self.logger, level, message, fields)

    @property
    def payloads(self) -> Sequence[Mapping[str, Any]] | None:
        """The payloads of all items of a digest, each narrowed to its run; None if this is not a digest."""
        if not self.digest:
            return None
        return self.exact or [payload_of(item) for item in self.document["items"]]


def whole_payload(document: Mapping[str, Any], *, digest: bool) -> Mapping[str, Any]:
    """The payload as received; for a digest ``items`` with all payloads, and ``digest``."""
    if not digest:
        return payload_of(document)
    return {"items": [payload_of(item) for item in document["items"]], "digest": document["digest"]}


def payload_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload of a document; missing data is null."""
    payload: Mapping[str, Any] = document["payload"]
    runs = payload.get("runs")
    return {**payload, "runs": [_without_missing(run) for run in runs]} if isinstance(runs, list) else payload


def _without_missing(run: Any) -> Any:
    if not isinstance(run, Mapping):
        return run
    return {name: None if isinstance(value, Missing) else value for name, value in run.items()}


class Action(ABC):
    """One thing the engine can do with a matching run. Subclass it, with ``Params`` and ``run``.

    The name in YAML is the entry point's name, or the file's name in a ``plugins:`` folder. One instance, made without
    arguments, is used for all deliveries, so do not keep the state of a delivery in it. ``engine actions`` shows the
    docstring's first line. All methods except ``run`` must return quickly: they are also called while the configuration
    is loaded.

    Attributes:
        Params: The parameters, a subclass of ``engine.Params`` with one field each. Every parameter may be a template
            in YAML; ``run`` gets the rendered and validated values.
        main: The parameter that gets the value if YAML has a text or a list instead of parameters, as in
            ``- post_to_slack: "#quality"``; empty for none.
        needs: Data the action reads from ``context.run`` in addition to its parameters, of ``inputs``, ``outputs`` and
            ``feedback``. The engine fetches it before ``run``.
        libraries: Modules that take long to import and that only attempts use. They are imported in a thread when a
            configuration that uses the action is loaded, not during its first delivery.
        keeps_progress: Whether attempts use ``context.progress``.
    """

    Params: ClassVar[type[BaseModel]] = Params
    """The parameters, a subclass of ``engine.Params`` with one field each. Every parameter may be a template in YAML;
    ``run`` gets the rendered and validated values."""
    main: ClassVar[str] = ""
    """The parameter that gets the value if YAML has a text or a list instead of parameters, as in
    ``- post_to_slack: "#quality"``; empty for none."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """Data the action reads from ``context.run`` in addition to its parameters, of ``inputs``, ``outputs`` and
    ``feedback``. The engine fetches it before ``run``."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules that take long to import and that only attempts use. They are imported in a thread when a configuration
    that uses the action is loaded, not during its first delivery."""
    keeps_progress: ClassVar[bool] = False
    """Whether attempts use ``context.progress``."""

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """Default parameters, as they could be written in YAML: templates are rendered.

        ``params`` is as written. ``words`` are those of ``items digest throttle delivery`` that templates can use here.
        """
        del params, words
        return {}

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """The services that a delivery needs. A configuration without their key or token is refused.

        ``params`` is as written, templates and all.
        """
        del params
        return frozenset()

    def lacks(self) -> str:
        """What this installation lacks for the action, and how to install it; empty if nothing is missing."""
        return ""

    def warnings(self, params: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
        """Warnings of ``engine check`` about valid parameters that are probably mistakes: parameter, message, hint.

        ``params`` is as written, templates and all.
        """
        del params
        return ()

    def destination(self, params: Any) -> str:
        """The name of the destination. Deliveries to one destination share its limits and pauses.

        By default scheme, host and port of ``params.url``, or the class's name if there is no such parameter.
        ``params`` are rendered. The name must not contain a secret.
        """
        url = getattr(params, "url", None)
        return origin(url) if isinstance(url, str) else type(self).__name__

    def scope(self, params: Any) -> Scope:
        """What a 410 or 401 response stops: by default a 410 stops ``params.url``, and a 401 the whole destination.

        ``params`` are rendered.
        """
        url = getattr(params, "url", None)
        return Scope(url) if isinstance(url, str) else Scope()

    def outline(self, params: Any, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a preview shows of a delivery: by default the parameters that are set.

        ``payload`` is the webhook as received, with this run; for a digest ``{items, digest}`` with all webhooks.
        """
        del payload
        shown: dict[str, Any] = params.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return shown

    @abstractmethod
    async def run(self, params: Any, context: ActionContext) -> Mapping[str, Any] | None:
        """Make one attempt. The return value is stored with the attempt.

        It is a mapping of JSON values of up to 16 KiB. Other values are stored under ``result``, as text if necessary.
        ``params`` is an instance of ``Params``. The attempt is cancelled after ``context.timeout`` seconds. A plug-in
        that blocks delays its own deliveries: run such code with ``await asyncio.to_thread(…)``.

        Raises:
            Retry: try again, not before ``after`` seconds.
            Discard: no attempt can succeed.

        Any other exception is classified (HTTP statuses by the table in ``docs/delivery.md``, connection errors and
        timeouts) or retried.
        """


def origin(url: str) -> str:
    """``scheme://host:port`` of a URL, without credentials, path or query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"


#: The maximum bytes read of a response.
LONGEST_ANSWER = 1 << 20
#: The maximum bytes read of an error response, and the seconds to wait for them.
_EXCERPT, _PATIENCE = 2048, 1.0


async def read_response(response: aiohttp.ClientResponse) -> Any:
    """The content of a 2xx response: the JSON value of its body, else the body as text; None if it is empty.

    The content type is ignored: many services send JSON under a wrong one. A body of more than 1 MiB is returned as a
    text that is cut there and ends in "…".

    Raises:
        HttpFailure: the status is not 2xx. The engine retries or gives up by the table in docs/delivery.md.
        aiohttp.ClientError: the connection broke while the body was read. The engine retries.
    """
    if not 200 <= response.status < 300:
        excerpt = await read_text(response, longest=_EXCERPT, patience=_PATIENCE)
        check_response(response.status, response.headers, excerpt)
    text = await read_text(response)
    if not text.strip():
        return None
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return text


async def read_text(
    response: aiohttp.ClientResponse, *, longest: int = LONGEST_ANSWER, patience: float | None = None
) -> str:
    """The body of a response as text, whatever its status. An incomplete text ends in "…".

    Args:
        response: the response, within its ``async with``.
        longest: the maximum number of bytes to read.
        patience: seconds to wait for a body that is not essential: if it stalls or the connection breaks, the text is
            cut there. None waits for the whole body, as long as the attempt may take.

    Raises:
        aiohttp.ClientError: the connection broke, and no ``patience`` was given.
    """
    from aiohttp import ClientError

    read, whole = bytearray(), False
    try:
        async with asyncio.timeout(patience):
            while len(read) <= longest and not whole:
                chunk = await response.content.read(longest + 1 - len(read))
                read += chunk
                whole = not chunk
    except (TimeoutError, ClientError):
        if patience is None:
            raise
    if whole:
        return read.decode("utf-8-sig", "replace")
    # The "…" also makes the engine mask a secret that was cut at the end.
    return read[:longest].decode("utf-8-sig", "replace").rstrip("\ufffd") + "…"


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
