"""What needs a restart to change: addresses, store, data directory, log. Flags, each with an ``ENGINE_*`` variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.core.env_file import EnvFile
from engine.core.errors import EngineError
from engine.core.json_scan import MAX_VALUES


class SettingsError(EngineError):
    """The command's own settings do not go together."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, whatever a name server says."""
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
            ValueError: with words for the author of the text.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address; write it like 127.0.0.1:8080")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - asked for by leaving the host out

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def file_of(store_url: str) -> Path | None:
    """SQLite's file, from its URL or path; None for other stores."""
    if "://" not in store_url:
        path = Path(store_url)
    elif store_url.startswith("sqlite:///"):
        path = Path(unquote(urlsplit(store_url).path[1:]))
    else:
        return None
    return path / "engine.db" if path.is_dir() else path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a certificate and its key are, both in PEM form; ``password`` is the key's, if it is encrypted."""

    cert: Path
    key: Path
    password: str | None = field(default=None, repr=False)

    def all(self) -> tuple[Path, Path]:
        """Both files; they may be one."""
        return self.cert, self.key


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything ``engine serve`` is told outside the configuration file.

    ``grace`` is in seconds: how long a stop waits for what is under way. ``body_limit`` is in
    bytes, decompressed. ``memory_limit``, in bytes, is the most that events in hand take together, parsed.
    Events with more than ``max_values`` values are kept unparsed.
    ``env_file`` has variables of the configuration that the environment has not.
    ``store_key`` seals what the store holds of payloads (see ``store.vault``).
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
        """What the admin listener speaks TLS with. On loopback it does not: there nobody listens in."""
        return None if self.admin.is_loopback else self.tls

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret among them, which no log or answer may show."""
        password = self.tls.password if self.tls else None
        keys = (part.strip() for part in self.store_key.split(","))
        return tuple(filter(None, (self.admin_token, password, *keys)))

    @property
    def store_folder(self) -> Path | None:
        """Where the store's file is; None where it is on another machine."""
        file = file_of(self.store_url)
        return file.parent if file else None

    def check(self) -> None:
        """See that the admin listener is not open to strangers.

        Raises:
            SettingsError: it is bound beyond loopback without a token.
        """
        if not self.admin.is_loopback and not self.admin_token:
            raise SettingsError(
                f"the admin listener on {self.admin} can be reached from other machines: "
                "set ENGINE_ADMIN_TOKEN, or use --admin 127.0.0.1:8081"
            )
