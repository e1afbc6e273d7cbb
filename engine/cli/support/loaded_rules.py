"""The rules in use in a running engine, and whether they are those of a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.support.output import age, at, plural, say

if TYPE_CHECKING:
    from engine.config import Config


@dataclass(frozen=True, slots=True)
class RulesInUse:
    """What a running engine has loaded, and what its file is by now. ``since`` is ISO 8601.

    ``file_is`` is in_use, refused (it has ``problems``) or changed (it will be loaded in a moment). ``refused_for``
    are the messages of the problems, as far as they were asked for.
    """

    path: Path
    hash: str
    since: str
    file_is: str = "in_use"
    problems: int = 0
    refused_for: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> RulesInUse | None:
        """From an engine's answer, unless it is of an earlier version, which does not say."""
        rules = answer.get("rules")
        if not isinstance(rules, Mapping):
            return None
        return cls(Path(rules["path"]), rules["hash"], rules["loaded_at"], rules["file_is"], rules["problems"])

    def are_of(self, config: Path) -> bool:
        """Whether they come from this file. An engine on another machine, or in a container, may know it by another
        path: then its name decides.
        """
        if self.path.exists():
            return self.path.resolve() == config.resolve()
        return self.path.name == config.name

    def same(self, config: Config | None) -> bool:
        """Whether they are those of a file as it was read here (None: it can't be used).

        Where variables are not set here, its hash tells nothing, and what the engine says of the file counts.
        """
        if config is None:
            return False
        return self.file_is == "in_use" if config.unset else self.hash == config.hash

    def to_json(self, config: Config | None) -> dict[str, Any]:
        """For programs, held against the file."""
        return {"hash": self.hash, "since": self.since, "same": self.same(config), "file_is": self.file_is}

    def tell(self, config: Config | None, problems: int = 0) -> None:
        """One line to people: the same, held against the file or the number of its problems."""
        words = f"in use: {self.hash} since {self._since}"
        if problems:
            say(f"{words}; the file has {plural(problems, 'problem')}", "yellow")
        elif self.file_is == "refused":
            say(f"{words}; the engine refused the file: {plural(self.problems, 'problem')}", "yellow")
        elif config is not None and not self.same(config):
            say(f"{words}; the file differs ({config.hash})", "yellow")
        else:
            say(words)

    def tell_if_others(self, config: Path) -> None:
        """One line to people who see what these rules do, where they are not those of the engine's file, or another."""
        words = f"these are the rules in use since {self._since}"
        if self.file_is == "refused":
            hint = f"engine check -c {shlex.quote(str(self.path))} says why"
            say(f"{words}: the engine refused {self.path.name} ({plural(self.problems, 'problem')}; {hint})", "yellow")
        elif self.file_is == "changed":
            say(f"{words}: {self.path.name} has changed since, and is not loaded yet", "yellow")
        elif not self.are_of(config) and config.exists():
            say(f"{words}, from {self.path}, not from {config}", "yellow")

    @property
    def _since(self) -> str:
        return f"{at(self.since)} ({age(self.since)} ago)"
