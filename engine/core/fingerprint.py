"""What tells one state of some files from another, without reading again what has not changed."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What some files are called and what is in them, as digests: secrets are among them.
Fingerprint = tuple[tuple[str, bytes], ...]

#: A file that was written this short a time before it was read may be written again without its time showing it, in
#: seconds: as long as the coarsest clock of a file system (FAT's) ticks.
_SETTLED = 2.0
#: Of a file that is missing, or cannot be read.
_ABSENT = b""


@dataclass(frozen=True, slots=True)
class _Looked:
    """A file as it was: its signature, and the digest of its content. Without a signature it is read again."""

    signature: tuple[int, ...] | None
    digest: bytes


class Fingerprinter:
    """Takes fingerprints. Reads from disk, so call it off the event loop, from one thread at a time."""

    def __init__(self) -> None:
        self._looked: dict[str, _Looked] = {}

    def of(self, files: Iterable[Path]) -> Fingerprint:
        """The fingerprint of some files, in their order. Others, looked at before, are forgotten."""
        looked = {str(file): self._look(file) for file in files}
        self._looked = looked
        return tuple((name, one.digest) for name, one in looked.items())

    def _look(self, file: Path) -> _Looked:
        known = self._looked.get(str(file))
        signature = _signature(file)
        if known is not None and signature is not None and known.signature == signature:
            return known
        return _Looked(signature, digest_of(file))


def digest_of(file: Path) -> bytes:
    """What tells one content of a file from another; empty for what cannot be read, and is not a file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return _ABSENT
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()
    except (OSError, ValueError):  # a name that no file system takes is a ValueError
        return _ABSENT


def plugin_files(folder: Path) -> list[Path]:
    """The Python files of a plug-in folder, in order of their names; none of a folder that cannot be read."""
    try:
        return sorted(file for file in folder.glob("*.py") if not file.name.startswith(".") and file.is_file())
    except OSError:
        return []


def _signature(file: Path) -> tuple[int, ...] | None:
    """What changes with a file's content; None where it can't be relied upon."""
    try:
        found = file.stat()
    except (OSError, ValueError):  # a name that no file system takes is a ValueError
        return None
    if time.time() - found.st_mtime < _SETTLED:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
