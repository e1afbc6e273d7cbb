"""Owns the live rules: builds new ones whole, then one assignment; on any error the old ones stay."""

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

#: How often, at the latest, the files are compared with what was loaded, in milliseconds:
#: what no watcher reports (network file systems, bind mounts) counts within this time too.
_LOOK_MS = 1000
#: Saving a file takes editors several steps; they count as one change, in milliseconds.
_DEBOUNCE_MS = 100
#: How long to wait after watching failed, in seconds. The files are compared all the same, each time.
_PAUSE = 1.0
#: How often the configuration is read at most to learn which files it consists of.
_READINGS = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """One configuration at work, with everything made from it.

    ``seen`` are the files it was made from, as they were when they were read or before.
    """

    config: Config
    registry: Registry
    router: Router
    masker: Masker
    seen: Fingerprint = field(repr=False)
    at: float = field(default_factory=time.time)

    @property
    def broken(self) -> tuple[Problem, ...]:
        """Plug-ins that were found and cannot be used (no route uses one, or this would not have loaded)."""
        return tuple(_masked(problem, self.masker) for problem in self.registry.broken.values())


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a configuration is made from."""

    path: Path
    plugins: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def all(self) -> list[Path]:
        """Every file."""
        return [self.path, *self.files, *(file for folder in self.plugins for file in plugin_files(folder))]

    def folders(self) -> frozenset[Path]:
        """Where changes show: beside each file, beside what it is a link to, and the plug-in folders."""
        beside = [folder for file in (self.path, *self.files) for folder in (file.parent, _real(file).parent)]
        return frozenset(folder for folder in (*beside, *self.plugins) if folder.is_dir())


def _real(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle; a name that no file system takes
        return file


class Loader:
    """Builds everything a configuration file says. Call it off the event loop, from one thread at a time.

    It keeps unchanged plug-ins, and the installed actions, which are made once: they may keep
    something in mind from one delivery to the next.
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
        """``secrets`` are those the process was given beside the file: they are masked, too.

        ``env_file`` has variables that ``environ`` has not. With ``stand_ins`` one that is not set is no problem.
        """
        self.path = path
        #: The configuration of the latest loading, good or bad; None where it can't be read.
        self.config: Config | None = None
        self._env_file, self._stand_ins = env_file, stand_ins
        self._secrets = secrets
        #: The files of the latest loading, good or bad, as they were before they were read.
        self.seen: Fingerprint = ()
        #: The secrets that the latest loading found, good or bad.
        self.masker = Masker(secrets)
        self._environ = environ
        self._check = check
        self._plugins = PluginLoader()
        self._installed: Registry | None = None
        self._sources = _Sources(path, files=self._beside())
        self._thread = 0
        self._fingerprinter = Fingerprinter()

    def load(self) -> Loaded:
        """Read, check and compile.

        Raises:
            ConfigError: with every problem, each with its place, secrets masked.
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

    async def load_aside(self) -> Loaded:
        """The same off the event loop, and not for ever.

        Raises:
            ConfigError: as above, or because a plug-in blocks while it is imported; with its place.
        """
        try:
            # Not in the thread: one that never ends would leave Python without full collections.
            with no_full_collections():
                async with asyncio.timeout(load_limit.LONGEST_LOADING):
                    return await in_thread(self._load_for_work)
        except TimeoutError:
            raise ConfigError(
                [blocked(self.path, self._sources.plugins, self._thread, load_limit.LONGEST_LOADING)]
            ) from None

    def load_bounded(self) -> Loaded:
        """The same for commands, which have no event loop yet; and without what only attempts need.

        Raises:
            ConfigError: as above.
        """
        return self.bounded(self.load)

    def bounded(self, work: Callable[[], T]) -> T:
        """What work with the plug-ins' code returns, see ``load_limit``."""
        return run_bounded(work, self.path, lambda: self._sources.plugins)

    def _load_for_work(self) -> Loaded:
        self._thread = threading.get_ident()
        loaded = self.load()
        _import_libraries(loaded.router)
        return loaded

    def look(self) -> Fingerprint:
        """The files of the latest loading as they are now."""
        return self._fingerprinter.of(self._sources.all())

    def folders(self) -> frozenset[Path]:
        """The folders in which changes of those files show."""
        return self._sources.folders()

    def _read(self) -> Config:
        """Read the configuration, having looked at every file it is made from before.

        What is written meanwhile then differs from what was seen, and is loaded in its turn.
        Which files those are, it has to tell itself, hence the repetition.
        """
        for _ in range(_READINGS):
            sources, self.seen = self._sources, self.look()
            self.config = None
            config = read_config(self.path, environ=self._environ, env_file=self._env_file, stand_ins=self._stand_ins)
            self.config = config
            self._sources = _Sources(self.path, config.plugins, (*self._beside(), *config.files))
            if self._sources == sources:
                break
        return config

    def _beside(self) -> tuple[Path, ...]:
        """The file of variables, also where it does not exist yet."""
        return () if self._env_file is None else (self._env_file.path,)


def _masked(problem: Problem, masker: Masker) -> Problem:
    """The problem without secrets: it may quote the exception of a plug-in, or a line of the file that holds one."""
    message, hint, source = map(masker.text, (problem.message, problem.hint, problem.source))
    return replace(problem, message=message, hint=hint, source=source)


def _import_libraries(router: Router) -> None:
    """What the actions at work say they will import. Where that fails, so will their attempts, and say why."""
    actions = (action for route in router.routes.values() for action in (*route.actions, *route.on_dead))
    for name in dict.fromkeys(name for action in actions for name in action.registered.action.libraries):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _asked_by(by: str) -> dict[str, str]:
    """A fact of log lines, where a person asked."""
    return {"by": by} if by else {}


@dataclass(frozen=True, slots=True)
class LastReload:
    """How the latest reload went; ``problems`` is empty if it went well. ``at`` is Unix seconds."""

    at: float
    problems: tuple[Problem, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the file as it is now is at work."""
        return not self.problems


class Reloader:
    """The live configuration. ``current`` is replaced by one assignment, or not at all."""

    def __init__(self, loader: Loader, loaded: Loaded, logger: logging.Logger) -> None:
        self._loader, self._logger = loader, logger
        self._seen = loaded.seen
        self._lock = asyncio.Lock()
        self._reloading = False
        self._listeners: list[Callable[[LastReload], None]] = []
        self._masker = loaded.masker
        self.current = loaded
        self.last = LastReload(loaded.at)
        self._report_broken(loaded)

    @property
    def masker(self) -> Masker:
        """Masks the secrets of now and all that were in use before: work that is under way may still speak of them."""
        return self._masker

    def mask(self, text: str) -> str:
        """A text without any of them."""
        return self._masker.text(text)

    def listen(self, listener: Callable[[LastReload], None]) -> None:
        """Be told of every reload, good or bad."""
        self._listeners.append(listener)

    async def reload(self, by: str = "") -> LastReload:
        """Load the file as it is now. What is wrong with it is logged and kept, the old rules stay at work.

        ``by`` is who asked for it; empty: it was saved.
        """
        async with self._lock, self._under_way():
            try:
                loaded = await self._loader.load_aside()
            except ConfigError as error:
                await self._remember(self._loader.masker)
                self._failed(error.problems, by)
            except Exception as error:
                # A reload is where everything it runs ends, foreign code included: nothing may stop the server.
                await self._remember(self._loader.masker)
                self._logger.error("reload failed", exc_info=error)
                self._failed((Problem(str(self._loader.path), 0, 0, named_error(error)),), by)
            else:
                await self._remember(loaded.masker)
                self._succeeded(loaded, by)
            for listener in self._listeners:
                listener(self.last)
            return self.last

    async def file_is(self) -> Literal["at_work", "refused", "changed"]:
        """What the file is to the rules at work: their own, one that was refused, or one that is not loaded yet."""
        if self._reloading or await self.changed():
            return "changed"
        return "at_work" if self.last.good else "refused"

    @contextlib.asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        self._reloading = True
        try:
            yield
        finally:
            self._reloading = False

    async def _remember(self, masker: Masker) -> None:
        """Take up secrets before anything can speak of them. Many take a while to compile."""
        self._masker = await asyncio.to_thread(operator.or_, self._masker, masker)

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
        words = "\n".join(str(problem) for problem in problems)
        self._logger.error(
            "configuration not reloaded: the rules of before stay at work (%d problem%s)\n%s",
            len(problems),
            "" if len(problems) == 1 else "s",
            words,
            extra=_asked_by(by),
        )

    def _report_broken(self, loaded: Loaded) -> None:
        if loaded.config.env_file is not None and (words := exposed(loaded.config.env_file)):
            self._logger.warning("%s: %s; %s", loaded.config.env_file, *words)
        for problem in loaded.broken:
            self._logger.error("a plug-in cannot be used\n%s", problem)

    async def watch(self) -> None:
        """Reload whenever a file changes that the configuration is made from, until cancelled."""
        told = ""
        while True:
            try:
                await self._reload_if_changed()
                await self._watch_folders(await asyncio.to_thread(self._loader.folders))
                told = ""
            except Exception as error:
                # Whatever becomes of the watcher (a folder vanishes, the kernel has no watches left), changes count.
                words = named_error(error)
                if words != told:
                    text = "watching the configuration failed; its files are compared every %g s instead"
                    self._logger.error(text, _PAUSE, exc_info=error)
                told = words
                await asyncio.sleep(_PAUSE)

    async def _watch_folders(self, folders: frozenset[Path]) -> None:
        """Until other folders are to be watched. Folders, not files: editors and ConfigMaps replace files."""
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
        """Whether the files say something else than when they were last loaded, well or badly."""
        async with self._lock:
            return await asyncio.to_thread(self._loader.look) != self._seen
