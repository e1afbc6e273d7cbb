"""The store of an engine that does not run, asked as a running one is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from engine.admin.operations import OPERATIONS, Api, Call
from engine.admin.rules import Means
from engine.cli.support.access import Place
from engine.cli.support.admin_client import AccessError, Asked
from engine.cli.support.output import say
from engine.clients.session import Clients
from engine.config import Config, read_config
from engine.core.document import Fetched
from engine.core.errors import ConfigError, StoreError
from engine.core.event import Event
from engine.core.masking import Masker
from engine.rules.reload import Loaded
from engine.rules.requirements import needs_what_decides
from engine.store import open_store
from engine.store.encryption import VARIABLE
from engine.store.protocol import Store
from engine.store.records import Control
from engine.worker.hydrate import Hydrator


@asynccontextmanager
async def stopped(place: Place, absence: str, *, quiet: bool = False) -> AsyncIterator[Asked]:
    """The store of an engine that does not run; ``absence``, printed unless ``quiet``, says where none runs."""
    path = place.file
    if path is not None and not path.exists():
        hint = "start one with engine serve, or tell where: --admin URL, --data DIRECTORY or --store URL"
        raise AccessError(f"{absence}, and there is no store at {path}", hint)
    store = open_store(place.store_url, keys=os.environ.get(VARIABLE, ""))
    await _open(store)
    try:
        if not quiet:
            say(f"{absence}: using the store {path or place.store_url}")
        yield _StoppedEngine(store, place)
    finally:
        await store.close()


async def _open(store: Store) -> None:
    try:
        await store.open()
    except StoreError as error:
        hint = "give the address of its admin listener with --admin URL" if "in use" in str(error) else ""
        raise AccessError(str(error), hint) from error


class _StoppedEngine(Asked):
    """The same answers from the store itself, by the rules of the file."""

    def __init__(self, store: Store, place: Place) -> None:
        self._store, self._config = store, (config := _config_of(place))
        masker = Masker(config.masked if config else ())
        self._loader, self._loaded = place.loader(needs_what_decides), cast("Loaded | None", None)
        self._refused: ConfigError | None = None
        means = Means(self._load, self._muted, self._run, fetch)
        self._api = Api(store, lambda: masker, lambda: config, means)

    async def call(
        self, method: str, path: str, words: Mapping[str, Any] | None = None, *, id_: str = ""
    ) -> dict[str, Any]:
        """As ``Asked`` says it, in this process."""
        [operation] = [each for each in OPERATIONS if (each.method, each.path) == (method, path)]
        return await operation.run(self._api, Call(words or {}, id_))

    def _load(self) -> Loaded:
        """Once; what is wrong with the file is said once, too."""
        if self._refused is not None:
            raise self._refused
        try:
            self._loaded = self._loaded or self._loader.load_bounded()
        except ConfigError as error:
            self._refused = error
            say(f"{self._loader.path} cannot be loaded: {error.problems[0]}", "yellow")
            raise
        return self._loaded

    async def _muted(self) -> Mapping[str, Control]:
        return {each.subject: each for each in await self._store.controls() if each.kind == "mute"}

    async def _run(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return self._loader.bounded(work)

    async def routes(self) -> list[dict[str, Any]] | None:
        """The configuration's routes: their ids and their actions' names."""
        if self._config is None:
            return None
        return [
            {
                "id": route.id,
                "name": route.name or None,
                "actions": [{"name": action.name, "type": action.type} for action in route.actions],
                "on_dead": [{"name": action.name, "type": action.type} for action in route.on_dead],
            }
            for route in self._config.routes
        ]


def _config_of(place: Place) -> Config | None:
    """The configuration, for its secrets and names, if it can be read: a broken file must not hide the store."""
    if not place.config.exists():
        return None
    try:
        return read_config(place.config, env_file=place.env_file, stand_ins=True)
    except ConfigError:
        say(f"{place.config} cannot be read: rules go by their ids", "yellow")
        return None


async def fetch(loaded: Loaded, event: Event, needs: frozenset[str], known: Fetched) -> Fetched:
    """What is known of an event, and what LangSmith has of the rest."""
    clients = Clients(lambda: loaded.router)
    try:
        return await Hydrator(lambda: clients.langsmith, clients.http).fetch(event, needs, None, known)
    finally:
        await clients.close()
