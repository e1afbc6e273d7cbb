"""Settings that need a restart: addresses, store, data directory, log. Each has a flag and an ``ENGINE_*`` variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.core.env_file import EnvFile
from engine.core.errors import EngineError
from engine.core.json_text import MAX_VALUES


class SettingsError(EngineError):
    """The command's settings contradict each other."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is always this machine, without asking a name server."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``host:port``, ``[::1]:port`` or ``:port`` (every interface).

        Raises:
            ValueError: with a message for the author of the text.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address; write it like 127.0.0.1:8080")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - an omitted host means all interfaces

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def file_of(store_url: str) -> Path | None:
    """The SQLite file of a store's URL or path; None for other stores."""
    if "://" not in store_url:
        path = Path(store_url)
    elif store_url.startswith("sqlite:///"):
        path = Path(unquote(urlsplit(store_url).path[1:]))
    else:
        return None
    return path / "engine.db" if path.is_dir() else path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a certificate and its key, in PEM format; ``password`` is for an encrypted key."""

    cert: Path
    key: Path
    password: str | None = field(default=None, repr=False)

    def all(self) -> tuple[Path, Path]:
        """Both files; they may be the same."""
        return self.cert, self.key


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """All settings of ``engine serve`` outside the configuration file.

    ``grace``: how long a stop waits for running attempts, in seconds. ``body_limit``: the maximum decompressed body, in
    bytes. ``memory_limit``: the maximum memory of all parsed events together, in bytes. Events with more than
    ``max_values`` values are stored unparsed. ``env_file`` contains variables that are not in the environment.
    ``store_key`` encrypts payloads in the store (see ``engine.store.encryption``).
    """

    config: Path
    data: Path
    store: str | None = None
    listen: Address = Address("0.0.0.0", 8080)  # noqa: S104 - the public listener
    admin: Address = Address("127.0.0.1", 8081)
    admin_token: str | None = field(default=None, repr=False)
    store_key: str = field(default="", repr=False)
    tls: TlsFiles | None = None
    grace: float = 10.0
    body_limit: int = 64 * 1024 * 1024
    concurrency: int = 512
    traces: bool = False
    memory_limit: int = 256 * 1024 * 1024
    max_values: int = MAX_VALUES
    env_file: EnvFile | None = None

    @property
    def store_url(self) -> str:
        """The store's URL: as given, or SQLite in the data directory."""
        return self.store or f"sqlite:///{(self.data / 'engine.db').absolute()}"

    @property
    def admin_tls(self) -> TlsFiles | None:
        """The TLS files of the admin listener; None on loopback, where TLS is not needed."""
        return None if self.admin.is_loopback else self.tls

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret in these settings; logs and responses must not show them."""
        password = self.tls.password if self.tls else None
        keys = (part.strip() for part in self.store_key.split(","))
        return tuple(filter(None, (self.admin_token, password, *keys)))

    @property
    def store_folder(self) -> Path | None:
        """The folder of the store's file; None if the store is on another machine."""
        file = file_of(self.store_url)
        return file.parent if file else None

    def check(self) -> None:
        """Check that the admin listener is protected.

        Raises:
            SettingsError: it is reachable from other machines without a token.
        """
        if not self.admin.is_loopback and not self.admin_token:
            raise SettingsError(
                f"the admin listener on {self.admin} can be reached from other machines: "
                "set ENGINE_ADMIN_TOKEN, or use --admin 127.0.0.1:8081"
            )
