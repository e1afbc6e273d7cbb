"""Notify people through any of the services that Apprise knows."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from engine import Action, ActionContext, Discard, LiteralHost, Retry
from engine import Params as BaseParams

#: Warnings of services that go into a reason.
_MOST_WORDS = 3

_VERBS = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})

_INSTALL = "notify needs Apprise: pip install 'langsmith-rules-engine[notify]'"

Url = Annotated[str, Field(min_length=1)]


class Notify(Action):
    """Notify people through any of a hundred services, mail among them."""

    class Params(BaseParams):
        """``urls`` are Apprise's (``mailto://…``, ``msteams://…``); they are secrets."""

        urls: Annotated[Url | Annotated[list[Url], Field(min_length=1)], LiteralHost()] = Field(
            description="Apprise's addresses of services", examples=["mailto://user:password@example.com"]
        )
        body: Annotated[str, Field(min_length=1, description="the message", examples=["{{ run.name }} failed"])]
        title: str = Field("", description="its title, or subject")
        type: Literal["info", "success", "warning", "failure"] = Field("info", description="its colour or icon")

    libraries = ("apprise",)

    def lacks(self) -> str:
        """Apprise is an extra."""
        return "" if find_spec("apprise") else _INSTALL

    def destination(self, params: Params) -> str:
        """The kinds of services: the rest of such a URL may be a token."""
        schemes = sorted({url.partition("://")[0].lower() for url in _listed(params.urls)})
        return f"notify {', '.join(schemes)}"

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Send to every URL, all at once and off the event loop.

        When one of several fails, a retry sends to all of them again; where that hurts, use an action each.

        Raises:
            Retry: a service could not be reached or refused, or Apprise is not installed (which installing it heals).
            Discard: Apprise does not understand a URL.
        """
        urls = _listed(params.urls)
        # Apprise imports its services when first asked for one: a second or two, which the loop must not wait for.
        sender = await asyncio.to_thread(_sender, urls)
        # Said to be text: else it goes out as it stands where a service speaks HTML, mail among them.
        outcome = await sender.async_notify(
            body=params.body, title=params.title, notify_type=params.type, body_format="text"
        )
        if not outcome:
            raise Retry(f"{', '.join(map(_scheme, urls))}: {_reason(outcome)}")
        context.logger.debug("notified", extra={"services": len(urls)})
        return {"services": len(urls)}


def _listed(urls: str | list[str]) -> list[str]:
    return [urls] if isinstance(urls, str) else urls


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else "?"


def _sender(urls: list[str]) -> Any:
    apprise = _apprise()
    sender = apprise.Apprise(asset=apprise.AppriseAsset(secure_logging=True))
    for number, url in enumerate(urls, 1):
        if not sender.add(url):
            raise Discard(f"Apprise does not understand url {number} of {len(urls)} ({_scheme(url)}://…)")
    _make_direct()
    return sender


class _Direct:
    """What Apprise's services know as ``requests``: it follows no redirect and reads no proxy or .netrc variable.

    Apprise can be told the former for most of its services and the latter for none; ``requests``
    itself takes both from the environment unless every call says otherwise.
    """

    def __init__(self, requests: Any) -> None:
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return self._verb(name) if name in _VERBS else getattr(self._requests, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        options["allow_redirects"] = False
        if options.get("verify", True) is True:  # whose certificates to trust is for the environment to say
            options["verify"] = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        with self._requests.Session() as session:
            session.trust_env = False
            return session.request(method, url, **options)

    def _verb(self, name: str) -> Callable[..., Any]:
        def call(url: str, *more: Any, **options: Any) -> Any:
            names = ("params",) if name == "get" else ("data", "json")
            return self.request(name.upper(), url, **dict(zip(names, more, strict=False)), **options)

        return call


def _make_direct() -> None:
    """Hand our ``requests`` to those of Apprise's modules that are loaded by now, and to no one else."""
    requests = sys.modules.get("requests")
    for name, module in list(sys.modules.items()):
        if requests is not None and name.startswith("apprise.") and vars(module).get("requests") is requests:
            vars(module)["requests"] = _Direct(requests)


def _reason(outcome: Any) -> str:
    """What Apprise (from 2.0 on) has to say of the services that failed: its warnings, which hold no addresses."""
    entries = (entry for result in getattr(outcome, "results", ()) for entry in result.logs())
    words = list(dict.fromkeys(entry.message for entry in entries))
    return " ".join(words[:_MOST_WORDS]) or "a service did not take the notification"


def _apprise() -> Any:
    """Apprise, its log kept to itself: below warnings it writes addresses, which are secrets.

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
