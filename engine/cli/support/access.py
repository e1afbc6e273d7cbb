"""Where answers about events and deliveries come from: a running engine, or the store of a stopped one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from engine.cli.support.admin_address import AdminAddress, folder_of, read, url_of
from engine.cli.support.admin_client import AccessError, AdminClient, Asked, NoEngine, Unreachable, client_at
from engine.cli.support.loaded_rules import RulesInUse
from engine.cli.support.options import config_option, data_of, env_file_of, store_options
from engine.cli.support.output import say
from engine.core.env_file import EnvFile
from engine.core.errors import ConfigError
from engine.core.serve_settings import Address, file_of

if TYPE_CHECKING:
    from engine.config import Config
    from engine.rules.reload import Loader
    from engine.rules.requirements import Check
from dataclasses import replace

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_ADMIN_URL = "http://127.0.0.1:8081"
#: How long an engine at the default address may take to tell what it serves, in seconds: often it is another's.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look for an engine and its store.

    ``admin`` is the one address to ask, ``usual`` is asked if an engine is there; None: not given.
    ``named_env_file`` has the configuration's variables; ``no_env_file``: no file has. ``config_named``: the
    configuration is not just the default.
    """

    config: Path
    admin: str | None = None
    usual: str | None = None
    data: Path | None = None
    store: str | None = None
    named_env_file: Path | None = None
    no_env_file: bool = False
    config_named: bool = False

    @property
    def env_file(self) -> EnvFile | None:
        """The file with the configuration's variables, if there may be one."""
        return env_file_of(self.config, self.named_env_file, without=self.no_env_file)

    def loader(self, check: Check | None = None) -> Loader:
        """Loads the configuration for a command: a variable that is not set is no problem."""
        from engine.rules.reload import Loader

        return Loader(self.config, os.environ, env_file=self.env_file, check=check, stand_ins=True)

    @property
    def folder(self) -> Path:
        """The data directory."""
        return data_of(self.config, self.data)

    @property
    def store_url(self) -> str:
        """The store's address, or its file's path."""
        return self.store or str(self.folder / "engine.db")

    @property
    def file(self) -> Path | None:
        """SQLite's file; None for other stores."""
        return file_of(self.store_url)

    def addresses(self, *, guess: bool = True) -> Iterator[AdminAddress]:
        """Where the engine may be, the likeliest first; the owner is empty where any will do.

        The default address is a guess. It comes last, and not at all where there is a store: an
        engine that works on it would have said where it is, so who answers there is another one. Nor where a data
        directory was named: an engine of another one is not meant.
        """
        if self.admin is not None:
            yield AdminAddress(self.admin.rstrip("/"), "")
            return
        if self.usual is not None:
            yield AdminAddress(self.usual.rstrip("/"), "")
        stored = read(folder_of(self.store, self.folder))
        if stored is not None:
            yield stored
        named = self.data is not None and self.store is None
        if guess and not named and (self.file is None or not self.file.exists()):
            yield AdminAddress(DEFAULT_ADMIN_URL, "", guessed=True)


def place_from(options: dict[str, Any]) -> Place:
    """Takes the options of ``access_options`` out of a command's."""
    admin, usual = options.pop("admin", None), None
    context = click.get_current_context(silent=True)
    if context is not None and context.get_parameter_source("admin") is not ParameterSource.COMMANDLINE:
        admin, usual = None, admin or _admin_of_serve()
    return Place(
        options.pop("config"),
        admin,
        usual,
        options.pop("data", None),
        options.pop("store", None),
        options.pop("env_file", None),
        no_env_file=options.pop("no_env_file", False),
        config_named=context is not None and context.get_parameter_source("config") is not ParameterSource.DEFAULT,
    )


def _admin_of_serve() -> str | None:
    """The address in ENGINE_ADMIN, which is where ``engine serve`` listens, as long as it names a port."""
    try:
        address = Address.parse(os.environ.get("ENGINE_ADMIN", ""))
    except ValueError:
        return None
    tls = bool(os.environ.get("ENGINE_TLS_CERT")) and not address.is_loopback
    return url_of(address, tls=tls) if address.port else None


def access_options(function: F) -> F:
    """``--admin``, ``--config``, ``--data`` and ``--store``."""
    return admin_option(store_options(config_option(function)))


def admin_option(function: F) -> F:
    """``--admin``."""
    option = click.option(
        "--admin",
        envvar="ENGINE_ADMIN_URL",
        show_envvar=True,
        metavar="URL",
        help="A running engine's admin listener. Else the one is found that works on the store, or at "
        f"{DEFAULT_ADMIN_URL}; with none running, the store is opened.",
    )
    return option(function)


@asynccontextmanager
async def opened(place: Place, *, telling: bool = True, changes: bool = False) -> AsyncIterator[Asked]:
    """The running engine if one answers, else the store under its lock; says which on standard error.

    ``telling``: where the engine's rules are not those of the file, that is said, too. ``changes``: the command changes
    something.

    Raises:
        AccessError: neither is there, or the engine is another configuration's, and is not to be changed unnamed.
        StoreError: the store is locked, or not one.
    """
    async with AsyncExitStack() as stack:
        if (client := await _found(stack, place)) is not None:
            if changes:
                refuse_other(client, place)
            if telling:
                tell_whose(client, place)
            yield client
        elif place.admin is not None:
            raise Unreachable(f"no engine answers at {place.admin}", "start it with engine serve, or correct --admin")
        else:
            from engine.cli.support.stopped_store import stopped

            yield await stack.enter_async_context(stopped(place, _nobody(place)))


def ask(place: Place, question: Callable[[Asked], Awaitable[T]], *, telling: bool = True, changes: bool = False) -> T:
    """The answer to a question, of the engine or the store (see ``opened``)."""

    async def answer() -> T:
        async with opened(place, telling=telling, changes=changes) as asked:
            return await question(asked)

    return asyncio.run(answer())


@asynccontextmanager
async def connected(place: Place, *, changes: bool = False) -> AsyncIterator[AdminClient]:
    """The running engine. ``changes``: the command changes something.

    Raises:
        AccessError: none answers, or it is another configuration's, and is not to be changed unnamed.
    """
    async with AsyncExitStack() as stack:
        client = await _found(stack, place)
        if client is None:
            raise Unreachable(_nobody(place), "start it with engine serve, or give --admin URL")
        if changes:
            refuse_other(client, place)
        yield client


@asynccontextmanager
async def neighbour(place: Place) -> AsyncIterator[AdminClient | None]:
    """The running engine of this configuration, if there is one; none is guessed at.

    Raises:
        AccessError: it refuses.
    """
    async with AsyncExitStack() as stack:
        yield await _found(stack, place, guess=False)


@asynccontextmanager
async def recorded(place: Place) -> AsyncIterator[Asked | None]:
    """What has this configuration's events: the running engine, else its store; None where there is neither.

    A store of an older schema is left alone: to open it would change it.

    Raises:
        AccessError: the engine refuses, or the store is locked.
    """
    from engine.cli.support.stopped_store import stopped
    from engine.store.sqlite.connection import is_current

    async with AsyncExitStack() as stack:
        asked: Asked | None = await _found(stack, place, guess=False)
        if asked is None and place.admin is None and place.file is not None and is_current(place.file):
            asked = await stack.enter_async_context(stopped(place, _nobody(place), quiet=True))
        yield asked


async def _found(stack: AsyncExitStack, place: Place, *, guess: bool = True) -> AdminClient | None:
    """The first engine that answers. What was left by one that crashed may lead to another, which is passed over."""
    for address in place.addresses(guess=guess):
        client = await stack.enter_async_context(client_at(address.url))
        try:
            owner = await client.owner()
        except NoEngine:
            if not address.owner:
                raise
            continue
        if owner is not None and address.owner in ("", owner):
            client.guessed = address.guessed
            return client
    return None


@asynccontextmanager
async def ruling(place: Place) -> AsyncIterator[AdminClient | None]:
    """The running engine whose rules count: one that is named, the one of this file, or, without a file, any.

    Where its rules are not those of the file, this is said; where they are those of another one, so that the file's
    count, this is said, too.

    Raises:
        AccessError: it refuses.
    """
    async with AsyncExitStack() as stack:
        client = await _found(stack, place, guess=False) or await _at_default(stack, place)
        if client is None or client.rules is None:
            yield None
        elif place.admin is not None or client.rules.are_of(place.config) or not place.config.exists():
            tell_whose(client, place)
            yield client
        else:
            hint = f"the engine at {client.url} serves {client.rules.path} (--admin {client.url} asks it)"
            say(f"by {place.config}, which no engine serves; {hint}", "yellow")
            yield None


async def _at_default(stack: AsyncExitStack, place: Place) -> AdminClient | None:
    """The engine at the default address, as far as one answers there soon."""
    try:
        async with asyncio.timeout(_PATIENCE):
            client = await _found(stack, place)
    except (AccessError, TimeoutError):
        return None
    return client if client is not None and client.guessed else None


def refuse_other(client: AdminClient, place: Place) -> None:
    """Leave an engine alone that was only found at the default address, unless it serves the configuration here.

    Raises:
        AccessError: it serves another one, or there is none here.
    """
    if not client.guessed or _is_of(client.rules, place):
        return
    serves = "does not say what it serves" if client.rules is None else f"serves {client.rules.path}"
    here = f"no engine serves {place.config}"
    if not (place.config.exists() or place.config_named):
        here = f"there is no {place.config} here"
    raise AccessError(
        f"the engine at {client.url} {serves}, and {here}", f"to change that engine, add --admin {client.url}"
    )


def _is_of(rules: RulesInUse | None, place: Place) -> bool:
    """Whether an engine serves the file here. By its name alone, as in a container, this is not certain enough."""
    if rules is None or not rules.are_of(place.config):
        return False
    if rules.path.exists():
        return True
    from engine.config import read_config

    try:
        return rules.hash == read_config(place.config, env_file=place.env_file, stand_ins=True).hash
    except ConfigError:
        return False


def tell_whose(client: AdminClient, place: Place) -> None:
    """One line where the engine that answers is not this configuration's, or its rules are not those of its file."""
    if client.rules is None:
        return
    if client.guessed and not client.rules.are_of(place.config):
        other = f", not {place.config}" if place.config.exists() else ""
        say(f"asked the engine at {client.url}, which serves {client.rules.path}{other}", "yellow")
    else:
        client.rules.tell_if_others(place.config)


def _nobody(place: Place) -> str:
    asked = [address.url for address in place.addresses()]
    return f"no engine answers at {' or '.join(asked)}" if asked else f"no engine works on {place.folder}"


def tell_unset(config: Config) -> None:
    """Say which variables are not set here, so that their values are not what they are where the engine runs."""
    if config.unset:
        names = ", ".join(each.reference for each in config.unset)
        say(f"not set here: {names}; stand-ins take their place (engine check says where)", "yellow")


#: How long an engine may take to answer, in seconds.
_LONGEST_LOOK = 3.0
#: How often an engine is asked again, and how long between, in seconds, whose file was saved just now.
_LOOKS, _PAUSE = 6, 0.25


def in_use(place: Place) -> RulesInUse | None:
    """What an engine that works on this configuration's store, or was named, has loaded from it; None without one."""
    try:
        rules = asyncio.run(_ask(place))
    except (AccessError, TimeoutError) as error:
        say(f"what is in use is not known: {str(error) or 'the engine does not answer'}")
        return None
    return rules if rules is not None and rules.are_of(place.config) else None


async def _ask(place: Place) -> RulesInUse | None:
    async with asyncio.timeout(_LONGEST_LOOK), neighbour(place) as client:
        if client is None:
            return None
        for _ in range(_LOOKS):
            if client.rules is None or client.rules.file_is != "changed":
                break
            await asyncio.sleep(_PAUSE)
            await client.owner()
        if client.rules is None or client.rules.file_is != "refused":
            return client.rules
        problems = (await client.call("GET", "/api/v1/config"))["last_reload"]["problems"]
        return replace(client.rules, refused_for=tuple(problem["message"] for problem in problems))
