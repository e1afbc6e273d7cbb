"""Where answers about events and deliveries come from: a running engine, or the store of a stopped one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

import click
import orjson

from engine.admin.queries import Queries
from engine.cli.options import config_option, data_of, store_options
from engine.cli.output import say
from engine.errors import ConfigError, EngineError
from engine.secrets import Masker

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADMIN_URL = "http://127.0.0.1:8081"
#: How long the admin listener may take, in seconds; a replay of many thousands does.
_TIMEOUT = 120.0


class AccessError(EngineError):
    """Neither a running engine nor a store answers, or the engine refuses; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Asked(Protocol):
    """What both kinds of access answer, in the same JSON."""

    #: Whether an engine runs that takes up what falls due.
    live: bool

    async def events(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of events."""

    async def event(self, event_id: str) -> dict[str, Any]:
        """One event."""

    async def deliveries(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of deliveries."""

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery."""

    async def replay(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make work due again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: the admin listener's address (None: the usual one, if it answers) and the store."""

    admin: str | None
    config: Path
    data: Path | None
    store: str | None

    @property
    def url(self) -> str:
        """The admin listener's address."""
        return (self.admin or DEFAULT_ADMIN_URL).rstrip("/")

    @property
    def store_url(self) -> str:
        """The store's address, or its file's path."""
        return self.store or str(data_of(self.config, self.data) / "engine.db")


def place_from(options: dict[str, Any]) -> Place:
    """Takes the options of ``access_options`` out of a command's."""
    return Place(options.pop("admin"), options.pop("config"), options.pop("data"), options.pop("store"))


def access_options(function: F) -> F:
    """``--admin``, ``--config``, ``--data`` and ``--store``."""
    admin = click.option(
        "--admin",
        envvar="ENGINE_ADMIN_URL",
        show_envvar=True,
        metavar="URL",
        help=f"A running engine's admin listener; with none running, the store is opened.  [default: "
        f"{DEFAULT_ADMIN_URL}]",
    )
    return admin(store_options(config_option(function)))


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Asked]:
    """The running engine if one answers, else the store under its lock; says which on standard error.

    Raises:
        AccessError: neither is there.
        StoreError: the store is locked, or not one.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(place.url))
        if await client.answers():
            yield client
        elif place.admin is not None:
            raise AccessError(f"no engine answers at {place.url}", "start it with engine serve, or mend --admin")
        else:
            yield await stack.enter_async_context(_stopped(place))


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[AdminClient]:
    """The running engine.

    Raises:
        AccessError: none answers.
    """
    async with _client(place.url) as client:
        if not await client.answers():
            raise AccessError(f"no engine answers at {place.url}", "start it with engine serve, or give --admin URL")
        yield client


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[AdminClient]:
    import aiohttp

    token = os.environ.get("ENGINE_ADMIN_TOKEN")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    limit = aiohttp.ClientTimeout(total=_TIMEOUT, connect=5.0)
    async with aiohttp.ClientSession(headers=headers, timeout=limit, trust_env=False) as session:
        yield AdminClient(url, session)


class AdminClient:
    """Asks a running engine."""

    live = True

    def __init__(self, url: str, session: Any) -> None:
        self._url, self._session = url, session

    async def answers(self) -> bool:
        """Whether anything listens there.

        Raises:
            AccessError: something does that is no engine, or it refuses.
        """
        import aiohttp

        try:
            await self.get("/api/v1/backlog")
        except aiohttp.ClientConnectionError:
            return False
        return True

    async def events(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of events."""
        return await self.get("/api/v1/events", words)

    async def event(self, event_id: str) -> dict[str, Any]:
        """One event."""
        return await self.get(f"/api/v1/events/{quote(event_id, safe='')}")

    async def deliveries(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """A page of deliveries."""
        return await self.get("/api/v1/deliveries", words)

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery."""
        return await self.get(f"/api/v1/deliveries/{quote(delivery_id, safe='')}")

    async def replay(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make work due again."""
        return await self._ask("POST", "/api/v1/replay", data=orjson.dumps(body))

    async def get(self, path: str, words: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Anything that can be read."""
        given = {word: str(value) for word, value in (words or {}).items() if value is not None}
        return await self._ask("GET", path, params=given)

    async def _ask(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._session.request(method, self._url + path, allow_redirects=False, **how) as response:
                return self._read(response.status, await response.read())
        except (TimeoutError, aiohttp.InvalidURL) as error:
            raise AccessError(f"{self._url}: {error or 'no answer in time'}") from error

    def _read(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise AccessError(f"what answers at {self._url} is not an engine's admin listener", "mend --admin")
        if status == 401:
            raise AccessError(
                str(answer.get("error")), "set ENGINE_ADMIN_TOKEN to the value the engine was started with"
            )
        if status >= 400:
            raise AccessError(str(answer.get("error", f"HTTP {status}")), str(answer.get("hint", "")))
        return answer


@asynccontextmanager
async def _stopped(place: Place) -> AsyncIterator[Asked]:
    """The store of an engine that does not run."""
    from engine.store import open_store

    path = _file_of(place.store_url)
    if path is not None and not path.exists():
        hint = "start one with engine serve, or tell where: --admin URL, --data DIRECTORY or --store URL"
        raise AccessError(f"no engine answers at {place.url}, and there is no store at {path}", hint)
    store = open_store(place.store_url)
    masker, rules = _known_of(place.config)
    await store.open()
    try:
        say(f"no engine at {place.url}: using the store {path or place.store_url}")
        yield _StoppedEngine(store, lambda: masker, lambda: rules)
    finally:
        await store.close()


class _StoppedEngine(Queries):
    """The same answers from the store itself."""

    live = False


def _file_of(store_url: str) -> Path | None:
    """SQLite's file; None for other stores."""
    if "://" not in store_url:
        path = Path(store_url)
    elif store_url.startswith("sqlite:///"):
        path = Path(unquote(urlsplit(store_url).path[1:]))
    else:
        return None
    return path / "engine.db" if path.is_dir() else path


def _known_of(config: Path) -> tuple[Masker, Mapping[str, tuple[str, ...]]]:
    """The configuration's secrets and names, as far as it can be read: a broken file must not hide the store."""
    from engine.config import read_config

    if not config.exists():
        return Masker(), {}
    try:
        read = read_config(config)
    except ConfigError:
        say(f"{config} cannot be read: rules go by their ids", "yellow")
        return Masker(), {}
    return Masker(read.masked), read.rules
