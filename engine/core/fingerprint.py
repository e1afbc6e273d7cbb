"""Fingerprints of files, to detect changes without reading unchanged files again."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterable
from pathlib import Path

#: File names with the digests of their contents. Digests, because some files contain secrets.
Fingerprint = tuple[tuple[str, bytes], ...]

#: A file modified less than this many seconds ago may change again without a new modification time: the coarsest time
#: stamps of a file system (FAT) have this resolution.
_SETTLED = 2.0
#: The digest of a file that is missing or unreadable.
_ABSENT = b""


class Fingerprinter:
    """Computes fingerprints. It reads from disk: call it outside the event loop, from one thread at a time."""

    def __init__(self) -> None:
        #: The stat signature of each file, and its digest. Without a signature the file is read again.
        self._looked: dict[str, tuple[tuple[int, ...] | None, bytes]] = {}

    def of(self, files: Iterable[Path]) -> Fingerprint:
        """The fingerprint of these files, in order. Files of earlier calls are forgotten."""
        self._looked = {str(file): self._look(file) for file in files}
        return tuple((name, digest) for name, (_, digest) in self._looked.items())

    def _look(self, file: Path) -> tuple[tuple[int, ...] | None, bytes]:
        signature, known = _signature(file), self._looked.get(str(file))
        if known is not None and signature is not None and known[0] == signature:
            return known
        return signature, digest_of(file)


def digest_of(file: Path) -> bytes:
    """The digest of a file's content; empty if it cannot be read or is not a regular file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return _ABSENT
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()
    except (OSError, ValueError):  # ValueError: the name contains a zero byte
        return _ABSENT


def plugin_files(folder: Path) -> list[Path]:
    """The Python files of a plug-in folder, sorted by name; none if the folder cannot be read."""
    try:
        return sorted(file for file in folder.glob("*.py") if not file.name.startswith(".") and file.is_file())
    except OSError:
        return []


def _signature(file: Path) -> tuple[int, ...] | None:
    """The stat fields that change with a file's content; None if they are not reliable yet."""
    try:
        found = file.stat()
    except (OSError, ValueError):  # ValueError: the name contains a zero byte
        return None
    if time.time() - found.st_mtime < _SETTLED:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
