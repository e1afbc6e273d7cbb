"""One engine per data directory: an operating system lock, which is released when its process ends."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from engine.core.errors import StoreError

#: The locked byte on Windows: beyond the text, which other processes must be able to read.
_FAR = 1 << 30


class FileLock:
    """A lock file. It contains the process that holds the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquire the lock.

        Raises:
            StoreError: another process, or another store in this process, holds it; names the process.
            OSError: the file cannot be created or opened.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if not _try_lock(descriptor):
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise StoreError(
                f"{self._path.with_suffix('')} is in use by another engine ({holder or 'unknown process'}); "
                "stop that engine, or give this one its own data directory"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. The file stays, because removing it would race with a process that opens it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
