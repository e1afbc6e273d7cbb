"""Notify people through any service that Apprise supports."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import Field

from actions._default_message import plain_text, title
from engine import Action, ActionContext, Discard, LiteralHost, Retry
from engine import Params as BaseParams

#: The maximum number of service warnings in a reason.
_MOST_WARNINGS = 3
#: The maximum number of messages per notification and service. A longer text is cut, with a note.
_MOST_PARTS = 10
#: The share of an attempt's time for pauses between parts: Apprise waits 5.5 seconds for most services.
_SPENT = 0.7
#: Characters reserved for the note about a cut.
_ROOM_FOR_NOTE = 50

_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]{0,31})://")
_QUERY_KEY = re.compile(r"([?&])[^=&]*=")
_STATUS = re.compile(r"\d{1,3}")
#: Shorter pieces of an address may occur in ordinary words.
_SHORT = 5

_VERBS = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})

_INSTALL = "notify needs Apprise: pip install 'langsmith-rules-engine[notify]'"

Url = Annotated[str, Field(min_length=1)]


class Notify(Action):
    """Notify people through any of a hundred services, including mail."""

    class Params(BaseParams):
        """``urls`` are Apprise's (``mailto://…``, ``msteams://…``); they are secrets."""

        urls: Annotated[Url | Annotated[list[Url], Field(min_length=1)], LiteralHost()] = Field(
            description="Apprise's addresses of services", examples=["mailto://user:password@example.com"]
        )
        body: Annotated[
            str,
            Field(
                min_length=1,
                description="the message; if it is too long for a service it is sent in parts",
                examples=["{{ run.name }} failed"],
            ),
        ]
        title: str = Field("", description="its title, or subject")
        type: Literal["info", "success", "warning", "failure"] = Field("info", description="its colour or icon")

    main = "urls"
    libraries = ("apprise",)
    keeps_progress = True

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """A default message and title, if there is no body."""
        return {} if "body" in params else {"title": title(words), "body": plain_text(words)}

    def lacks(self) -> str:
        """Apprise is an optional dependency."""
        return "" if find_spec("apprise") else _INSTALL

    def destination(self, params: Params) -> str:
        """The kinds of services: the rest of a URL may contain a token."""
        schemes = sorted({_scheme(url) for url in _listed(params.urls)})
        return f"notify {', '.join(schemes)}"

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Send to every URL that no earlier attempt reached, concurrently and outside the event loop.

        Raises:
            Retry: a service could not be reached or refused, or Apprise is not installed.
            Discard: Apprise does not understand a URL, or all remaining services redirect.
        """
        urls = list(dict.fromkeys(_listed(params.urls)))
        # Apprise imports its services on first use, which takes a second or two and must not block the loop.
        senders = await asyncio.to_thread(_senders, urls)
        names = {url: f"{_scheme(url)} {context.fingerprint(url)[:8]}" for url in urls}
        waiting = [url for url in urls if names[url] not in context.progress.get("notified", ())]
        faults = await asyncio.gather(*(_notify(senders[url], params, context, names[url]) for url in waiting))
        if failed := [(url, fault) for url, fault in zip(waiting, faults, strict=True) if fault]:
            reason = "; ".join(f"{_scheme(url)}: {fault.reason}" for url, fault in failed)
            raise (Discard if all(fault.final for _, fault in failed) else Retry)(reason)
        cut = sum(_message(senders[url], params, context.timeout).cut for url in urls)
        context.logger.debug("notified", extra={"services": len(urls)})
        return {"services": len(urls), **({"cut": [f"{cut:,} characters of the body"]} if cut else {})}


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a service was not notified. ``final``: another attempt would fail in the same way."""

    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class _Message:
    """The message for one service. ``cut`` is the number of omitted characters of the body."""

    title: str
    body: str
    cut: int = 0


async def _notify(sender: Any, params: Notify.Params, context: ActionContext, name: str) -> _Fault | None:
    """Send to one URL, and record it in ``progress`` if that succeeded."""
    message = _message(sender, params, context.timeout)
    with _watched() as redirects:
        try:
            # Declared as text: otherwise services with HTML, such as mail, would interpret it as HTML.
            outcome = await sender.async_notify(
                body=message.body, title=message.title, notify_type=params.type, body_format="text"
            )
        except Exception as error:  # noqa: BLE001 - Apprise's services may raise anything, and its text may contain secrets
            return _Fault(f"Apprise raised {type(error).__name__}", final=False)
    if outcome:
        context.progress.setdefault("notified", []).append(name)
        return None
    if redirects:
        # The target is not shown: such addresses contain tokens, and a response may repeat them.
        return _Fault(f"HTTP {redirects[-1]}: redirects are not followed: configure the final address", final=True)
    return _Fault(_without_pieces(_reason(outcome), _listed(params.urls)), final=False)


def _message(sender: Any, params: Notify.Params, timeout: float) -> _Message:
    """The message in a form that Apprise splits without losing text.

    Apprise silently cuts long titles and omits lines and parts.
    """
    service = sender[0]
    title, body = params.title, params.body
    most_lines, lines = service.body_max_line_count, body.splitlines()
    if 0 < most_lines < len(lines):
        body = "\n".join([*lines[: most_lines - 1], " / ".join(lines[most_lines - 1 :])])
    if service.overflow_mode != "split":
        return _Message(title, body)
    if 0 < service.title_maxlen < len(title):
        body = f"{title}\n{body}"
        title = title[: service.title_maxlen - 1] + "…"
    whole = _capacity(service, title, timeout)
    if len(body) <= whole or whole <= 0:
        return _Message(title, body)
    cut = len(body) - whole
    return _Message(title, f"{body[:whole]}… ({cut:,} more characters were cut)", cut)


def _capacity(service: Any, title: str, timeout: float) -> int:
    """The characters of a message that a service accepts, in as many parts as can be sent within the timeout."""
    # Without a title field, the title is a line of the message.
    one = int(service.body_maxlen) - (len(title) + 2 if service.title_maxlen <= 0 else 0)
    pause = float(service.request_rate_per_sec)
    parts = min(_MOST_PARTS, 1 + int(_SPENT * timeout / pause)) if pause > 0 else _MOST_PARTS
    # Parts end between words, and the note about the cut needs room.
    return max(one, int(0.9 * one * parts)) - _ROOM_FOR_NOTE


def _listed(urls: str | list[str]) -> list[str]:
    return [urls] if isinstance(urls, str) else urls


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else "?"


def _without_pieces(text: str, urls: list[str]) -> str:
    """Apprise's message without any piece of an address: Apprise may quote any part, which may be a secret.

    Short pieces are replaced only as whole words. Numbers of up to three digits are kept: they are statuses.
    """
    pieces = {piece for url in urls for piece in _pieces(url) if len(piece) > 1 and not _STATUS.fullmatch(piece)}
    if not pieces:
        return text
    patterns = (rf"(?<!\w){re.escape(one)}(?!\w)" if len(one) < _SHORT else re.escape(one) for one in pieces)
    return re.sub("|".join(sorted(patterns, key=len, reverse=True)), "***", text, flags=re.IGNORECASE)


def _pieces(url: str) -> Iterator[str]:
    rest = _QUERY_KEY.sub(r"\1", url.partition("://")[2] or url)
    for text in (rest, unquote(rest)):
        yield from re.split(r"[/:@?&=#%+,;\s\\]+", text)


def _senders(urls: list[str]) -> dict[str, Any]:
    """Apprise's service for each URL. Long messages are split, unless the URL says otherwise."""
    apprise = _apprise()
    senders: dict[str, Any] = {}
    for number, url in enumerate(urls, 1):
        sender = senders[url] = apprise.Apprise(asset=apprise.AppriseAsset(secure_logging=True))
        if not sender.add(url):
            raise Discard(f"Apprise does not understand url {number} of {len(urls)} ({_scheme(url)}://…)")
        for service in sender:
            if "overflow_mode" not in vars(service) and _has_limit(service):
                service.overflow_mode = apprise.OverflowMode.SPLIT
    _make_direct()
    return senders


def _has_limit(service: Any) -> bool:
    """Whether Apprise knows a service's limit: mail and webhooks have Apprise's default, which is not their limit."""
    owner = next(kind for kind in type(service).__mro__ if "body_maxlen" in vars(kind))
    return owner is not _apprise().NotifyBase


class _Direct:
    """Replacement for ``requests`` in Apprise's services: it follows no redirects and ignores proxies and .netrc.

    Apprise can disable redirects for most services, and proxies for none. ``requests`` reads proxies and .netrc
    from the environment unless every call disables it.
    """

    def __init__(self, requests: Any) -> None:
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return self._verb(name) if name in _VERBS else getattr(self._requests, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        options["allow_redirects"] = False
        if options.get("verify", True) is True:  # the environment may name the trusted certificates
            options["verify"] = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        with self._requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, url, **options)
        if (met := _redirects.get()) is not None and 300 <= answer.status_code < 400:
            met.append(answer.status_code)
        return answer

    def _verb(self, name: str) -> Callable[..., Any]:
        def call(url: str, *more: Any, **options: Any) -> Any:
            names = ("params",) if name == "get" else ("data", "json")
            return self.request(name.upper(), url, **dict(zip(names, more, strict=False)), **options)

        return call


def _make_direct() -> None:
    """Replace ``requests`` in Apprise's loaded modules only."""
    requests = sys.modules.get("requests")
    # With ?verify=no urllib3 writes the host to standard error.
    warnings.filterwarnings("ignore", "Unverified HTTPS request")
    for name, module in list(sys.modules.items()):
        if requests is not None and name.startswith("apprise.") and vars(module).get("requests") is requests:
            vars(module)["requests"] = _Direct(requests)


#: The redirect statuses while notifying one URL. Apprise's threads run in a copy of the context.
_redirects: ContextVar[list[int] | None] = ContextVar("redirects", default=None)


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Collect the statuses of redirects."""
    met: list[int] = []
    token = _redirects.set(met)
    try:
        yield met
    finally:
        _redirects.reset(token)


def _reason(outcome: Any) -> str:
    """The warnings of Apprise (from 2.0 on) about failed services. They contain no addresses."""
    entries = (entry for result in getattr(outcome, "results", ()) for entry in result.logs())
    messages = list(dict.fromkeys(entry.message for entry in entries))
    return " ".join(messages[:_MOST_WARNINGS]) or "a service did not take the notification"


def _apprise() -> Any:
    """Import Apprise and silence its log: below warnings it contains addresses, which are secrets.

    Raises:
        Retry: it is not installed.
    """
    try:
        import apprise
    except ImportError:
        raise Retry(_INSTALL) from None
    log = logging.getLogger("apprise")
    log.propagate = False
    log.setLevel(logging.WARNING)
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return apprise
