"""The demo's folder: its rules, a webhook to send, the store."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cli.demo.stage import encore, rules
from engine.cli.support.options import data_of


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in the demo's folder. ``reused``: it was the folder of an earlier demo."""

    rules: Path
    encore: Path
    data: Path
    reused: bool = False
    temporary: bool = False

    @property
    def own(self) -> bool:
        """Whether the rules are not the packaged ones."""
        return not self.rules.exists() or self.rules.read_bytes() != rules().encode()

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.data / "engine.log"


@contextlib.contextmanager
def workplace(folder: Path | None, ends: Callable[[Path | None], None]) -> Iterator[Files]:
    """The folder, with the packaged rules. A temporary one is removed, unless something in it was edited.

    ``ends`` is called with the folder if it is kept.
    """
    place = Path(tempfile.mkdtemp(prefix="engine-demo-")) if folder is None else folder.absolute()
    files = replace(lay_out(place), temporary=folder is None)
    try:
        yield files
    finally:
        kept = not files.temporary or edited(files)
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
        ends(place if kept else None)


def lay_out(folder: Path) -> Files:
    """The folder's files; those that it lacks are written."""
    data = data_of(folder / "config.yaml", None)
    files = Files(folder / "config.yaml", folder / "event.json", data, reused=data.exists())
    files.data.mkdir(parents=True, exist_ok=True)
    for path, text in _packaged(files).items():
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    return files


def _packaged(files: Files) -> dict[Path, str]:
    return {files.rules: rules(), files.encore: json.dumps(encore(), indent=2) + "\n"}


def edited(files: Files) -> bool:
    """Whether somebody wrote anything that is worth keeping."""
    packaged = _packaged(files)
    strange = set(files.rules.parent.iterdir()) - {*packaged, files.data}
    return bool(strange) or any(
        not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text
        for path, text in packaged.items()
    )
