"""The current rules, and their reload: a complete new set replaces the old one; on any error the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import operator
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from watchfiles import awatch

from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry, load_installed
from engine.config import Config, read_config
from engine.core.env_file import EnvFile, exposed
from engine.core.error_text import named_error
from engine.core.errors import ConfigError, Problem
from engine.core.fingerprint import Fingerprint, Fingerprinter, plugin_files
from engine.core.masking import Masker
from engine.core.offload import in_thread
from engine.core.process import no_full_collections
from engine.rules import load_limit
from engine.rules.compile import compile_router
from engine.rules.load_limit import blocked, run_bounded
from engine.rules.requirements import Check
from engine.rules.router import Router

T = TypeVar("T")

#: How often the files are compared with what was loaded, in milliseconds.
#: It finds changes that no watcher reports (network file systems, bind mounts).
_LOOK_MS = 1000
#: Changes within this time count as one, in milliseconds: editors save a file in several steps.
_DEBOUNCE_MS = 100
#: How long to wait after watching failed, in seconds. The files are still compared each time.
_PAUSE = 1.0
#: How many times the configuration is read to find out which files it consists of.
_READINGS = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """One loaded configuration with everything built from it. ``at``: Unix seconds.

    ``seen`` are the fingerprints of its files, taken before they were read.
    """

    config: Config
    registry: Registry
    router: Router
    masker: Masker
    seen: Fingerprint = field(repr=False)
    at: float = field(default_factory=time.time)

    @property
    def broken(self) -> tuple[Problem, ...]:
        """Plug-ins that cannot be used. No route uses one; otherwise loading would have failed."""
        return tuple(_masked(problem, self.masker) for problem in self.registry.broken.values())


@dataclass(frozen=True, slots=True)
class _Sources:
    """The files of a configuration."""

    path: Path
    plugins: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def all(self) -> list[Path]:
        """Every file."""
        return [self.path, *self.files, *(file for folder in self.plugins for file in plugin_files(folder))]

    def folders(self) -> frozenset[Path]:
        """The folders to watch: of each file, of the target if it is a link, and of the plug-ins."""
        beside = [folder for file in (self.path, *self.files) for folder in (file.parent, _real(file).parent)]
        return frozenset(folder for folder in (*beside, *self.plugins) if folder.is_dir())


def _real(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or an invalid name
        return file


class Loader:
    """Builds everything from a configuration file. Call it off the event loop, from one thread at a time.

    It keeps the objects of unchanged plug-ins and of installed actions, because they may hold state
    between deliveries.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        *,
        env_file: EnvFile | None = None,
        check: Check | None = None,
        secrets: Sequence[str] = (),
        stand_ins: bool = False,
    ) -> None:
        """``secrets`` are more secrets to mask, from outside the file.

        ``env_file`` has variables that are missing in ``environ``. With ``stand_ins`` an unset variable is no problem.
        """
        self.path = path
        #: The configuration of the latest load, valid or not; None if it cannot be read.
        self.config: Config | None = None
        self._env_file, self._stand_ins = env_file, stand_ins
        self._secrets = secrets
        #: The file fingerprints of the latest load, successful or not, taken before reading.
        self.seen: Fingerprint = ()
        #: Masks the secrets that the latest load found, successful or not.
        self.masker = Masker(secrets)
        self._environ = environ
        self._check = check
        self._plugins = PluginLoader()
        self._installed: Registry | None = None
        self._sources = _Sources(path, files=self._env_files())
        self._thread = 0
        self._fingerprinter = Fingerprinter()

    def load(self) -> Loaded:
        """Read, check and compile.

        Raises:
            ConfigError: with every problem and its position, secrets masked.
        """
        try:
            return self._load()
        except ConfigError as error:
            raise ConfigError([_masked(problem, self.masker) for problem in error.problems]) from None

    def _load(self) -> Loaded:
        config = self._read()
        self.masker = Masker((*self._secrets, *config.masked))
        if self._check is not None:
            self._check(config)
        if self._installed is None:
            self._installed = load_installed()
        registry = self._plugins.load(config.plugins, self._installed)
        router = compile_router(config, registry)
        self._plugins.adopt()
        return Loaded(config, registry, router, self.masker, self.seen)

    async def load_offloaded(self) -> Loaded:
        """Load in a thread, with a time limit.

        Raises:
            ConfigError: as ``load``, or because a plug-in blocks during import; with its position.
        """
        try:
            # Not inside the thread: if it never ends, full garbage collections would stay off.
            with no_full_collections():
                async with asyncio.timeout(load_limit.LONGEST_LOADING):
                    return await in_thread(self._load_with_libraries)
        except TimeoutError:
            raise ConfigError(
                [blocked(self.path, self._sources.plugins, self._thread, load_limit.LONGEST_LOADING)]
            ) from None

    def load_bounded(self) -> Loaded:
        """Load with a time limit, for commands: no event loop, and no import of the actions' libraries.

        Raises:
            ConfigError: as ``load_offloaded``.
        """
        return self.bounded(self.load)

    def bounded(self, work: Callable[[], T]) -> T:
        """Run work that calls plug-ins' code, with the time limit of ``load_limit``."""
        return run_bounded(work, self.path, lambda: self._sources.plugins)

    def _load_with_libraries(self) -> Loaded:
        self._thread = threading.get_ident()
        loaded = self.load()
        _import_libraries(loaded.router)
        return loaded

    def look(self) -> Fingerprint:
        """The current fingerprints of the latest load's files."""
        return self._fingerprinter.of(self._sources.all())

    def folders(self) -> frozenset[Path]:
        """The folders to watch for changes of those files."""
        return self._sources.folders()

    def _read(self) -> Config:
        """Read the configuration after taking the fingerprint of every file.

        A file written meanwhile then differs from its fingerprint and is loaded again. Which files there
        are is known only after reading, so reading is repeated.
        """
        for _ in range(_READINGS):
            sources, self.seen = self._sources, self.look()
            self.config = None
            config = read_config(self.path, environ=self._environ, env_file=self._env_file, stand_ins=self._stand_ins)
            self.config = config
            self._sources = _Sources(self.path, config.plugins, (*self._env_files(), *config.files))
            if self._sources == sources:
                break
        return config

    def _env_files(self) -> tuple[Path, ...]:
        """The file of variables, even if it does not exist yet."""
        return () if self._env_file is None else (self._env_file.path,)


def _masked(problem: Problem, masker: Masker) -> Problem:
    """The problem without secrets: it may quote a plug-in's exception, or a line of the file."""
    message, hint, source = map(masker.text, (problem.message, problem.hint, problem.source))
    return replace(problem, message=message, hint=hint, source=source)


def _import_libraries(router: Router) -> None:
    """Import the libraries that the actions declare. A missing one is reported by the attempts that need it."""
    actions = (action for route in router.routes.values() for action in (*route.actions, *route.on_dead))
    for name in dict.fromkeys(name for action in actions for name in action.registered.action.libraries):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _asked_by(by: str) -> dict[str, str]:
    """The log field for the person who asked, if any."""
    return {"by": by} if by else {}


@dataclass(frozen=True, slots=True)
class LastReload:
    """The result of the latest reload; ``problems`` is empty if it succeeded. ``at`` is in Unix seconds."""

    at: float
    problems: tuple[Problem, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it succeeded."""
        return not self.problems


class Reloader:
    """Holds the current configuration. A reload replaces ``current`` in one assignment, or not at all."""

    def __init__(self, loader: Loader, loaded: Loaded, logger: logging.Logger) -> None:
        self._loader, self._logger = loader, logger
        self._seen = loaded.seen
        self._lock = asyncio.Lock()
        self._reloading = False
        self._listeners: list[Callable[[LastReload], None]] = []
        #: Masks the current secrets and all earlier ones: running work may still mention those.
        self.masker = loaded.masker
        self.current = loaded
        self.last = LastReload(loaded.at)
        self._report_broken(loaded)

    def mask(self, text: str) -> str:
        """A text with those secrets masked."""
        return self.masker.text(text)

    def listen(self, listener: Callable[[LastReload], None]) -> None:
        """Call ``listener`` after every reload, successful or not."""
        self._listeners.append(listener)

    async def reload(self, by: str = "") -> LastReload:
        """Load the files as they are now. If that fails, the problems are logged and kept, and the old rules stay.

        ``by`` names the person who asked; empty: a file changed.
        """
        async with self._lock, self._under_way():
            try:
                loaded = await self._loader.load_offloaded()
            except ConfigError as error:
                await self._remember(self._loader.masker)
                self._failed(error.problems, by)
            except Exception as error:
                # A reload runs plug-ins' code; whatever it raises must not stop the server.
                await self._remember(self._loader.masker)
                self._logger.error("reload failed", exc_info=error)
                self._failed((Problem(str(self._loader.path), 0, 0, named_error(error)),), by)
            else:
                await self._remember(loaded.masker)
                self._succeeded(loaded, by)
            for listener in self._listeners:
                listener(self.last)
            return self.last

    async def file_is(self) -> Literal["in_use", "refused", "changed"]:
        """Whether the current rules come from the file as it is now, or it was refused, or is not loaded yet."""
        if self._reloading or await self.changed():
            return "changed"
        return "in_use" if self.last.good else "refused"

    @contextlib.asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        self._reloading = True
        try:
            yield
        finally:
            self._reloading = False

    async def _remember(self, masker: Masker) -> None:
        """Start masking new secrets before anything can mention them. Many of them take a while to compile."""
        self.masker = await asyncio.to_thread(operator.or_, self.masker, masker)

    def _succeeded(self, loaded: Loaded, by: str) -> None:
        self.current = loaded
        self.last = LastReload(time.time())
        self._seen = loaded.seen
        facts = {"config": str(self._loader.path), "hash": loaded.config.hash, "routes": len(loaded.router.routes)}
        self._logger.info("configuration reloaded", extra=facts | _asked_by(by))
        self._report_broken(loaded)

    def _failed(self, problems: tuple[Problem, ...], by: str) -> None:
        self.last = LastReload(time.time(), problems)
        self._seen = self._loader.seen
        listed = "\n".join(str(problem) for problem in problems)
        self._logger.error(
            "configuration not reloaded: the previous rules stay in use (%d problem%s)\n%s",
            len(problems),
            "" if len(problems) == 1 else "s",
            listed,
            extra=_asked_by(by),
        )

    def _report_broken(self, loaded: Loaded) -> None:
        if loaded.config.env_file is not None and (warning := exposed(loaded.config.env_file)):
            self._logger.warning("%s: %s; %s", loaded.config.env_file, *warning)
        for problem in loaded.broken:
            self._logger.error("a plug-in cannot be used\n%s", problem)

    async def watch(self) -> None:
        """Reload whenever a file of the configuration changes, until cancelled."""
        reported = ""
        while True:
            try:
                await self._reload_if_changed()
                await self._watch_folders(await asyncio.to_thread(self._loader.folders))
                reported = ""
            except Exception as error:
                # If the watcher fails (a folder was removed, no inotify watch is free), changes must still count.
                message = named_error(error)
                if message != reported:
                    text = "watching the configuration failed; its files are compared every %g s instead"
                    self._logger.error(text, _PAUSE, exc_info=error)
                reported = message
                await asyncio.sleep(_PAUSE)

    async def _watch_folders(self, folders: frozenset[Path]) -> None:
        """Watch until the set of folders changes. Folders, not files: editors and ConfigMaps replace files."""
        changes = awatch(
            *folders,
            watch_filter=None,
            debounce=_DEBOUNCE_MS * 4,
            step=_DEBOUNCE_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(changes):
            async for _ in changes:
                await self._reload_if_changed()
                if await asyncio.to_thread(self._loader.folders) != folders:
                    return

    async def _reload_if_changed(self) -> None:
        if await self.changed():
            await self.reload()

    async def changed(self) -> bool:
        """Whether the files differ from those of the latest load, successful or not."""
        async with self._lock:
            return await asyncio.to_thread(self._loader.look) != self._seen
