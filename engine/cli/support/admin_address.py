"""Where an engine's admin listener is, written into its data directory for the commands that look for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.core.serve_settings import Address, file_of

FILE_NAME = "admin-address"


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """An address, and the name of the engine that listened there: after a crash another one may.

    ``guessed``: nothing says that an engine is there.
    """

    url: str
    owner: str
    guessed: bool = False

    def __str__(self) -> str:
        return f"{self.url} {self.owner}\n"


def folder_of(store: str | None, data: Path) -> Path:
    """Where the address stands: beside the store's file, which is in the data directory unless it was put elsewhere."""
    file = file_of(store) if store else None
    return file.parent if file else data


def reachable(address: Address) -> Address:
    """An address that works on this machine, also where every interface is listened on."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    return Address(everywhere.get(address.host, address.host), address.port)


def url_of(address: Address, *, tls: bool = False) -> str:
    """How the listener at an address is reached from this machine."""
    return f"{'https' if tls else 'http'}://{reachable(address)}"


@contextlib.contextmanager
def announced(folder: Path, admin: AdminAddress, logger: logging.Logger) -> Iterator[None]:
    """The file stands in the folder meanwhile."""
    path = folder / FILE_NAME
    try:
        path.write_text(str(admin), encoding="utf-8")
    except OSError as error:
        logger.warning("commands will need --admin %s: %s", admin.url, error)
    try:
        yield
    finally:
        # Another engine may have started meanwhile, and written its own.
        if read(folder) == admin:
            path.unlink(missing_ok=True)


def read(folder: Path) -> AdminAddress | None:
    """What the file in a folder says, if there is one."""
    try:
        url, owner = (folder / FILE_NAME).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return AdminAddress(url, owner)
