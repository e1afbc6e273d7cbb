"""Small text files: secrets, and files of variables such as ``.env``."""

from __future__ import annotations

import io
import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.core.errors import Problem

if TYPE_CHECKING:
    from dotenv.parser import Binding

#: The name of such a file, in the configuration's folder.
NAME: Final = ".env"
#: Variables with this prefix are settings of the process. Most are read before any file.
_SETTINGS: Final = "ENGINE_"
_SETTING_HINT: Final = (
    "remove the line, and set the variable where the engine is started: export, Environment= of systemd, -e of docker"
)
_LINE_HINT: Final = "write NAME=value, and a value with line breaks in quotes"
#: A secret in a file is short; ``/dev/zero`` is endless.
MAX_FILE_BYTES: Final = 64 << 10
_WITHOUT: Final = "--env-file names another file, --no-env-file goes without one"


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file of variables. If ``needed``, it must exist."""

    path: Path
    needed: bool = True

    @classmethod
    def beside(cls, config: Path) -> EnvFile:
        """The ``.env`` beside a configuration, if there is one."""
        return cls(config.absolute().parent / NAME, needed=False)


@dataclass(frozen=True, slots=True)
class EnvValues:
    """The content of a file of variables. ``path`` is None if there is no file."""

    path: Path | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()


def read_env_file(file: EnvFile | None, config: str) -> EnvValues:
    """Read the variables. Values are literal: a ``${NAME}`` in a value is text.

    ``config`` is the configuration file. A problem without a line is reported there.
    """
    if file is None or not (file.needed or _is_meant(file.path)):
        return EnvValues()
    try:
        text = read_small(file.path)
    except OSError as error:
        return _unreadable(file, config, error.strerror or str(error))
    except ValueError as error:
        return _unreadable(file, config, str(error))
    from dotenv.parser import parse_stream

    bindings = [each for each in parse_stream(io.StringIO(text)) if each.error or each.key is not None]
    problems = [problem for each in bindings if (problem := _problem(file.path, each)) is not None]
    problems += _set_twice(file.path, bindings)
    values = {each.key: each.value for each in bindings if each.key is not None and each.value is not None}
    return EnvValues(file.path, values, tuple(problems))


def read_small(path: Path) -> str:
    """The text of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular, small file of UTF-8 text.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 10} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _is_meant(path: Path) -> bool:
    """Whether a ``.env`` should be read. A directory of that name is a virtual environment."""
    return os.path.lexists(path) and not path.is_dir()


def exposed(path: Path) -> tuple[str, str] | None:
    """Message and hint if other users can read a file of variables; None if its permissions are fine.

    If the file belongs to another user, its group may read it: the engine may need that.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    readable = found.st_mode & (stat.S_IROTH | (stat.S_IRGRP if own else 0))
    if os.name == "nt" or not stat.S_ISREG(found.st_mode) or not readable:
        return None
    mode = stat.S_IMODE(found.st_mode)
    return (
        f"others on this machine can read this file (mode {mode:04o})",
        f"run: chmod {'600' if own else 'o-rwx'} {shlex.quote(str(path))}",
    )


def _unreadable(file: EnvFile, config: str, why: str) -> EnvValues:
    return EnvValues(
        file.path, {}, (Problem(config, 0, 0, f"cannot read the variables in {file.path}: {why}", _WITHOUT),)
    )


def _problem(path: Path, binding: Binding) -> Problem | None:
    """The problem with a line, if any. The line is not quoted: it may contain part of a secret."""
    line = _line(binding)
    if binding.error or binding.value is None:
        return Problem(str(path), line, 1, "this line is not NAME=value", _LINE_HINT)
    if (binding.key or "").startswith(_SETTINGS):
        message = f"{binding.key} cannot be set here: {_SETTINGS}* variables are settings of the process"
        return Problem(str(path), line, 1, message, _SETTING_HINT)
    return None


def _set_twice(path: Path, bindings: Sequence[Binding]) -> Iterator[Problem]:
    """Names that are set to two values: one of them would be ignored."""
    first: dict[str, Binding] = {}
    for binding in bindings:
        before = first.setdefault(binding.key or "", binding)
        if binding.key is not None and before.value != binding.value:
            message = f"{binding.key} is set to another value in line {_line(before)}"
            yield Problem(str(path), _line(binding), 1, message, "remove one of the two lines")


def _line(binding: Binding) -> int:
    """The line of a binding. Its text also contains the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
