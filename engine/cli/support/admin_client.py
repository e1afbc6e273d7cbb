"""What commands ask: a running engine through its admin listener, or a stopped one's store."""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from engine.admin.audit_log import user_header
from engine.admin.query import BadQuery
from engine.cli.support.loaded_rules import RulesInUse
from engine.cli.support.output import who
from engine.core.error_text import network_message
from engine.core.errors import EngineError
from engine.core.serve_settings import is_loopback

#: How long the admin listener may take, in seconds; a replay of many thousands does.
_TIMEOUT = 120.0


class AccessError(EngineError):
    """Neither a running engine nor a store answers, or the engine refuses; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unreachable(AccessError):  # noqa: N818 - reads as what is the matter
    """Nothing listens there."""


class NoEngine(AccessError):  # noqa: N818 - what is there instead
    """Something answers that is no engine."""


class Absent(AccessError):  # noqa: N818 - reads as what is the matter
    """What was asked for is not there, or no longer."""


@asynccontextmanager
async def client_at(url: str) -> AsyncIterator[AdminClient]:
    """A client of the engine whose admin listener is at ``url``, with the token of ``ENGINE_ADMIN_TOKEN``.

    Its certificate is checked with this machine's authorities, or those in the file ``ENGINE_ADMIN_CA`` names. On
    loopback it is not: what is asked does not leave the machine, and no certificate is made out to 127.0.0.1.
    """
    import aiohttp

    token = os.environ.get("ENGINE_ADMIN_TOKEN", "").strip()
    headers = {"Content-Type": "application/json"} | user_header(who("the engine command"))
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    limit = aiohttp.ClientTimeout(total=_TIMEOUT, connect=5.0)
    connector = aiohttp.TCPConnector(ssl=_trust(url))
    async with aiohttp.ClientSession(headers=headers, timeout=limit, connector=connector, trust_env=False) as session:
        yield AdminClient(url, session)


def _trust(url: str) -> Any:
    """What aiohttp takes for ``ssl``."""
    if is_loopback(urlsplit(url).hostname or ""):
        return False
    file = os.environ.get("ENGINE_ADMIN_CA")
    return True if not file else trust_in(file)


def trust_in(file: str) -> ssl.SSLContext:
    """A context that trusts the certificates in a file and no others.

    Raises:
        AccessError: they can't be read.
    """
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        raise AccessError(f"cannot take the certificates in {file}: {error.strerror or error}") from None


class Asked(ABC):
    """What answers a command: a running engine, or the store of a stopped one. Answers are those of the admin API."""

    #: Whether an engine runs that attempts what is due.
    live = False
    #: The rules of that engine, as they were when it was found.
    rules: RulesInUse | None = None

    @abstractmethod
    async def call(
        self, method: str, path: str, words: Mapping[str, Any] | None = None, *, id_: str = ""
    ) -> dict[str, Any]:
        """An operation's answer. ``words`` are the fields of the query or the body, ``id_`` is the id in the path."""

    async def routes(self) -> list[dict[str, Any]] | None:
        """The configured routes, each with ``id``, ``name`` and ``actions``; None where they are not known."""
        routes: list[dict[str, Any]] = (await self.call("GET", "/api/v1/routes"))["routes"]
        return routes

    async def events(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of events."""
        return await self.call("GET", "/api/v1/events", words)

    async def event(self, event_id: str) -> dict[str, Any]:
        """One event."""
        return await self.call("GET", "/api/v1/events/{id}", id_=event_id)

    async def deliveries(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of deliveries."""
        return await self.call("GET", "/api/v1/deliveries", words)

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery."""
        return await self.call("GET", "/api/v1/deliveries/{id}", id_=delivery_id)

    async def destinations(self) -> dict[str, Any]:
        """Where deliveries go."""
        return await self.call("GET", "/api/v1/destinations")

    async def mutes(self) -> dict[str, Any]:
        """What is muted."""
        return await self.call("GET", "/api/v1/mutes")

    async def do(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """``replay``, ``discard``, ``explain``, ``preview``, ``mutes`` (mute a route) or ``destinations/resume``."""
        return await self.call("POST", f"/api/v1/{verb}", body)


class AdminClient(Asked):
    """One running engine."""

    live = True

    def __init__(self, url: str, session: Any) -> None:
        self.url, self._session = url, session
        #: Whether it was found at the default address, where nothing names it.
        self.guessed = False

    async def owner(self) -> str | None:
        """The name of the engine that answers; None where nothing listens.

        Raises:
            NoEngine: something listens that is no engine.
            AccessError: the engine refuses.
        """
        try:
            answer = await self.call("GET", "/api/v1/backlog")
        except Unreachable:
            return None
        if not isinstance(owner := answer.get("engine"), str):
            raise self._no_engine()
        self.rules = RulesInUse.of(answer)
        return owner

    async def reload(self) -> dict[str, Any]:
        """Have the file loaded as it is now; the answer has ``problems`` where it can't be."""
        status, answer = await self._ask("POST", "/-/reload", data=b"{}")
        return answer if "problems" in answer else self._good(status, answer)

    async def call(
        self, method: str, path: str, words: Mapping[str, Any] | None = None, *, id_: str = ""
    ) -> dict[str, Any]:
        """As ``Asked`` says it, over HTTP."""
        how: dict[str, Any] = {"data": orjson.dumps(words or {})}
        if method == "GET":
            how = {"params": {word: str(value) for word, value in (words or {}).items() if value is not None}}
        return self._good(*await self._ask(method, path.replace("{id}", quote(id_, safe="")), **how))

    async def _ask(self, method: str, path: str, **how: Any) -> tuple[int, dict[str, Any]]:
        import aiohttp

        try:
            async with self._session.request(method, self.url + path, allow_redirects=False, **how) as response:
                return response.status, self._read(await response.read())
        except aiohttp.ClientConnectorCertificateError as error:
            hint = "name the certificates to trust: ENGINE_ADMIN_CA=FILE"
            raise AccessError(f"{self.url}: {network_message(error.certificate_error)}", hint) from error
        except aiohttp.ClientConnectionError as error:
            raise Unreachable(f"no engine answers at {self.url}", "start it with engine serve") from error
        except aiohttp.ClientResponseError as error:
            raise self._no_engine() from error
        except (TimeoutError, aiohttp.ClientError) as error:
            raise AccessError(f"{self.url}: {error or 'no answer in time'}") from error

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise self._no_engine()
        return answer

    def _no_engine(self) -> NoEngine:
        return NoEngine(f"what answers at {self.url} is not an engine's admin listener", "say where it is: --admin URL")

    def _good(self, status: int, answer: dict[str, Any]) -> dict[str, Any]:
        if status == 401:
            hint = "set ENGINE_ADMIN_TOKEN to the value the engine was started with"
            raise AccessError(str(answer.get("error")), hint)
        if status >= 400:
            told = str(answer.get("error", f"HTTP {status}")), str(answer.get("hint", ""))
            if status == 400:
                raise BadQuery(*told, answer.get("candidates", ()))
            raise Absent(*told) if status == 404 else AccessError(*told)
        return answer
