"""Loads the actions in ``plugins:`` folders: one action per file, named after it, reloaded without a restart."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import linecache
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from engine.action.contract import Action
from engine.action.error_place import place_in
from engine.action.registry import Registered, Registry, line_of, register
from engine.core.error_text import named_error
from engine.core.errors import Problem
from engine.core.fingerprint import Fingerprint, digest_of, plugin_files
from engine.core.log_context import PLUGIN_PACKAGE, log_like_engine


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One generation of a folder: its actions, and the package of its modules."""

    fingerprint: Fingerprint
    package: str
    found: tuple[tuple[str, Registered | Problem], ...]


class PluginLoader:
    """Loads plug-in folders under new module names each time, and only if a file changed.

    Files whose names start with ``_`` are helpers: a plug-in imports them with ``from . import _helper``. Importing
    runs the plug-ins' code, so call it outside the event loop.
    """

    def __init__(self) -> None:
        self._loaded: dict[Path, _Loaded] = {}
        self._active: dict[Path, tuple[str, ...]] = {}
        self._serial = itertools.count(1)

    def load(self, folders: Sequence[Path], installed: Registry) -> Registry:
        """The installed actions and those of the folders. A broken file is reported and does not affect others."""
        return installed.with_found(found for folder in folders for found in self._folder(folder))

    def _folder(self, folder: Path) -> tuple[tuple[str, Registered | Problem], ...]:
        fingerprint = tuple((str(file), digest_of(file)) for file in plugin_files(folder))
        loaded = self._loaded.get(folder)
        if loaded is None or loaded.fingerprint != fingerprint:
            if loaded is not None and loaded.package not in self._active.get(folder, ()):
                _forget(loaded.package)
            package = self._package(folder)
            loaded = _Loaded(fingerprint, package, tuple(_import_all(package, folder)))
            self._loaded[folder] = loaded
        return loaded.found

    def adopt(self) -> None:
        """Mark the generation that was loaded last as active.

        The previous generation of each folder is kept: its code may still run and import modules. Older ones are
        removed, otherwise every edit would leak memory.
        """
        for folder, loaded in self._loaded.items():
            before = self._active.get(folder, ())
            if loaded.package not in before:
                for package in before[:-1]:
                    _forget(package)
                self._active[folder] = (*before[-1:], loaded.package)

    def _package(self, folder: Path) -> str:
        """Create a new package for the folder, so that relative imports work and old modules are not reused."""
        name = f"{PLUGIN_PACKAGE}{next(self._serial)}"
        log_like_engine(name)
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
        importlib.invalidate_caches()
        return name


def _forget(package: str) -> None:
    """Remove a generation's modules from ``sys.modules``. Code that has imported them keeps them."""
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]


def _import_all(package: str, folder: Path) -> Iterator[tuple[str, Registered | Problem]]:
    for file in plugin_files(folder):
        if not file.name.startswith("_"):
            yield file.stem, _import_action(package, file)


def _import_action(package: str, file: Path) -> Registered | Problem:
    try:
        found = _action_of(_import(f"{package}.{file.stem}", file), file)
    except BaseException as error:  # noqa: BLE001 - the plug-in may raise anything; it is reported
        found = _broken(error, package, file)
    if isinstance(found, Registered):
        return replace(found, code=digest_of(file).hex())
    linecache.checkcache(found.file)
    return replace(found, source=linecache.getline(found.file, found.line))


def _broken(error: BaseException, package: str, file: Path) -> Problem:
    """Why a file cannot be imported. The position may be in a helper of its folder."""
    own = (str(one) for one in plugin_files(file.parent))
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and error.filename in own:
        return Problem(error.filename, error.lineno or 1, error.offset or 1, f"syntax error: {error.msg}")
    where, line = place_in(error, package) or (str(file), 1)
    return Problem(where, line, 1, f"import raised {named_error(error)}", _hint(error, file))


def _hint(error: BaseException, file: Path) -> str:
    """What to do about a missing module; empty for other exceptions."""
    if not isinstance(error, ImportError) or not isinstance(error.name, str):
        return ""
    if error.name.startswith(PLUGIN_PACKAGE):
        return f"a helper is a file in {file.parent} whose name begins with _"
    if (file.parent / f"{error.name}.py").exists():
        return f"it is a file of this folder, so write: from . import {error.name}"
    if not isinstance(error, ModuleNotFoundError):
        return ""
    return f"install the package that has it for {sys.executable}; then save this file again if the engine runs"


def _import(name: str, file: Path) -> ModuleType:
    """Import a file without the byte-code cache, which can miss an edit within the same second."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(file.read_bytes(), str(file), "exec"), vars(module))  # noqa: S102 - plug-ins are the user's own code
    return module


def _action_of(module: ModuleType, file: Path) -> Registered | Problem:
    classes = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Action)]
    own = [kind for kind in classes if kind.__module__ == module.__name__]
    if not own:
        hint = "write: class MyAction(engine.Action): …; the name of a file without an action begins with _"
        return Problem(str(file), 1, 1, "a plug-in file contains one action, this one none", hint)
    if len(own) > 1:
        names = ", ".join(kind.__name__ for kind in own)
        hint = f"move {own[1].__name__} to a file of its own; what both use, base classes too, to a file _NAME.py"
        line = line_of(own[1], str(file)) or 1
        return Problem(str(file), line, 1, f"a plug-in file contains one action, this one {names}", hint)
    return register(file.stem, own[0], str(file))
