"""Owns the live rules: builds new ones whole, then one assignment; on any error the old ones stay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles import awatch

from engine.compile import compile_router
from engine.config import Config, read_config
from engine.errors import ConfigError, Problem
from engine.plugins import Fingerprint, PluginLoader, fingerprint_of, plugin_files
from engine.registry import Registry, load_installed
from engine.router import Router
from engine.secrets import Masker

#: How often, at the latest, the files are compared with what was loaded, in milliseconds:
#: what no watcher reports (network file systems, bind mounts) counts within this time too.
_LOOK_MS = 1000
#: Saving a file takes editors several steps; they count as one change, in milliseconds.
_DEBOUNCE_MS = 100


@dataclass(frozen=True, slots=True)
class Loaded:
    """One configuration at work, with everything made from it. ``broken`` are plug-in files that can't be used."""

    config: Config
    registry: Registry
    router: Router
    masker: Masker
    at: float = field(default_factory=time.time)

    @property
    def broken(self) -> tuple[Problem, ...]:
        """Plug-ins that were found and cannot be used (no route uses one, or this would not have loaded)."""
        return tuple(self.registry.broken.values())


class Loader:
    """Builds everything a configuration file says. Keeps nothing but unchanged plug-ins. Call it off the event loop."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self._environ = environ
        self._plugins = PluginLoader()

    def load(self) -> Loaded:
        """Read, check and compile.

        Raises:
            ConfigError: with every problem, each with its place.
        """
        config = read_config(self.path, environ=self._environ)
        registry = self._plugins.load(config.plugins, load_installed())
        return Loaded(config, registry, compile_router(config, registry), Masker(config.masked))


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
        self._seen = _fingerprint(loader.path, loaded.config.plugins)
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[LastReload], None]] = []
        self._masker = loaded.masker
        self.current = loaded
        self.last = LastReload(loaded.at)
        self._report_broken(loaded)

    @property
    def masker(self) -> Masker:
        """Masks the secrets of now and of the configuration before: work that is under way may still speak of them."""
        return self._masker

    def listen(self, listener: Callable[[LastReload], None]) -> None:
        """Be told of every reload, good or bad."""
        self._listeners.append(listener)

    async def reload(self) -> LastReload:
        """Load the file as it is now. What is wrong with it is logged and kept, the old rules stay at work."""
        async with self._lock:
            self._seen = _fingerprint(self._loader.path, self.current.config.plugins)
            try:
                loaded = await asyncio.to_thread(self._loader.load)
            except ConfigError as error:
                self._failed(error.problems)
            except Exception as error:
                # A reload is where everything it runs ends, foreign code included: nothing may stop the server.
                self._logger.error("reload failed", exc_info=error)
                self._failed((Problem(str(self._loader.path), 0, 0, f"{type(error).__name__}: {error}"),))
            else:
                self._succeeded(loaded)
            for listener in self._listeners:
                listener(self.last)
            return self.last

    def _succeeded(self, loaded: Loaded) -> None:
        self._masker = self.current.masker | loaded.masker
        self.current = loaded
        self.last = LastReload(time.time())
        self._seen = _fingerprint(self._loader.path, loaded.config.plugins)
        facts = {"config": str(self._loader.path), "hash": loaded.config.hash, "routes": len(loaded.router.routes)}
        self._logger.info("configuration reloaded", extra=facts)
        self._report_broken(loaded)

    def _failed(self, problems: tuple[Problem, ...]) -> None:
        self.last = LastReload(time.time(), problems)
        words = "\n".join(str(problem) for problem in problems)
        self._logger.error(
            "configuration not reloaded: the rules of before stay at work (%d problem%s)\n%s",
            len(problems),
            "" if len(problems) == 1 else "s",
            words,
        )

    def _report_broken(self, loaded: Loaded) -> None:
        for problem in loaded.broken:
            self._logger.error("a plug-in cannot be used\n%s", problem)

    async def watch(self) -> None:
        """Reload whenever the file or a plug-in changes, until cancelled."""
        while True:
            folders = _folders(self._loader.path, self.current.config.plugins)
            await self._watch_folders(folders)

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
        async for _ in changes:
            if self.changed():
                await self.reload()
            if _folders(self._loader.path, self.current.config.plugins) != folders:
                return

    def changed(self) -> bool:
        """Whether the files say something else than when they were last loaded, well or badly."""
        return _fingerprint(self._loader.path, self.current.config.plugins) != self._seen


def _folders(path: Path, plugins: tuple[Path, ...]) -> frozenset[Path]:
    """Where changes show: beside the file, beside what it is a link to, and the plug-in folders."""
    return frozenset(folder for folder in (path.parent, path.resolve().parent, *plugins) if folder.is_dir())


def _fingerprint(path: Path, plugins: tuple[Path, ...]) -> Fingerprint:
    return fingerprint_of([path, *(file for folder in plugins for file in plugin_files(folder))])
