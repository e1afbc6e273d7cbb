"""HTTPS: loads a certificate and its key from files, checks them, and reloads them when they change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from engine.core.fingerprint import Fingerprinter
from engine.core.serve_settings import Address, SettingsError, TlsFiles

#: How long a TLS handshake may take, in seconds: as long as a request. LangSmith connects again after a failed
#: handshake.
HANDSHAKE = 2.5
#: How long a TLS shutdown may take, in seconds: a stop waits for it.
_TLS_SHUTDOWN = 1.0
#: Seconds between two checks of the files.
_CHECK_EVERY = 5.0
#: How many seconds before a certificate expires a warning is logged.
_WARN_BEFORE = 7 * 86400.0
#: For TLS 1.2: forward secrecy and authenticated encryption only (Mozilla's "intermediate"). TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_HOW_LISTED = "it must have the server's own certificate first, then the intermediate certificates"

_logger = logging.getLogger("engine")


class Tls:
    """The TLS setup of a listener. Every handshake uses the current certificate.

    ``clock`` returns Unix seconds.
    """

    def __init__(self, files: TlsFiles, *, clock: Callable[[], float] = time.time) -> None:
        """Load the files.

        Raises:
            SettingsError: a file cannot be used; says which one, why, and what to do.
        """
        self._files, self._clock = files, clock
        self._fingerprinter = Fingerprinter()
        self._seen = self._failed = self._fingerprinter.of(files.all())
        self._current, self._expires = _load(files, clock())
        self._check_now = asyncio.Event()
        #: The context for the listening socket. It passes every connection to the current context.
        self.context = self._current
        self.context.sni_callback = self._use_current

    def _use_current(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL calls this for every connection, with or without a server name."""
        connection.context = self._current

    async def refresh(self) -> None:
        """Reload the files if they changed. If they cannot be used, the old certificate stays.

        The two files are not replaced at the same moment. So an error is logged only if two checks find the same files.
        """
        found = await asyncio.to_thread(self._fingerprinter.of, self._files.all())
        if found == self._seen:
            return
        try:
            self._current, self._expires = await asyncio.to_thread(_load, self._files, self._clock())
        except SettingsError as error:
            if found == self._failed:
                self._seen = found
                _logger.error("the certificate was not reloaded, the old one stays in use: %s", error)
            self._failed = found
            return
        self._seen = self._failed = found
        _logger.info("certificate renewed", extra={"valid_until": _day(self._expires)})
        self.warn()

    def warn(self) -> None:
        """Log a warning if the certificate expires soon."""
        if self._expires - self._clock() < _WARN_BEFORE:
            _logger.warning("the certificate expires on %s: renew %s", _day(self._expires), self._files.cert)

    def check_soon(self) -> None:
        """Make ``watch`` check the files now."""
        self._check_now.set()

    async def watch(self) -> None:
        """Reload the files whenever they or links to them change, until cancelled."""
        self.warn()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY):
                    await self._check_now.wait()
            self._check_now.clear()
            await self.refresh()


class Site(web.BaseSite):
    """A listening address, with or without TLS. aiohttp's own class would wait a minute for a handshake."""

    __slots__ = ("_address",)

    def __init__(self, runner: web.BaseRunner, address: Address, tls: Tls | None = None) -> None:
        super().__init__(runner, ssl_context=tls.context if tls else None)
        self._address = address

    @property
    def name(self) -> str:
        """Its URL."""
        return f"{'https' if self._ssl_context else 'http'}://{self._address}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is not available.
        """
        await super().start()
        loop, server, tls = asyncio.get_running_loop(), self._runner.server, self._ssl_context
        assert server is not None  # the base class made sure
        self._server = await loop.create_server(
            server,
            self._address.host,
            self._address.port,
            ssl=tls,
            backlog=self._backlog,
            ssl_handshake_timeout=HANDSHAKE if tls else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN if tls else None,
        )


def _load(files: TlsFiles, now: float) -> tuple[ssl.SSLContext, float]:
    """A context with the certificate and key, after checking them; and when it expires, in Unix seconds.

    Raises:
        SettingsError: they cannot be used; says why.
    """
    try:
        chain, key = _certificates(files.cert), _private_key(files)
        _check_pair(chain, key, files)
        expires = _check_time(chain[0], files.cert, now)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        # Without this, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(files.cert, files.key, password=lambda: files.password or "")
    except SettingsError:
        raise
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{files.cert} cannot be used with {files.key}: {error}") from None
    except Exception as error:
        # The libraries have further exceptions for unsupported keys and broken files.
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{files.cert} cannot be used with {files.key}: {why}; use an RSA or ECDSA key") from error
    return context, expires


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, "--tls-cert"))
    except ValueError:
        hint = "convert it with: openssl x509 -inform der" if path.suffix in (".der", ".cer") else _HOW_LISTED
        raise SettingsError(f"{path} holds no certificate in PEM form; {hint}") from None


def _private_key(files: TlsFiles) -> Any:
    data = _read(files.key, "--tls-key")
    password = files.password.encode() if files.password else None
    if b"PRIVATE KEY" not in data:
        what = "and --tls-key is not given" if files.key == files.cert else "in PEM form"
        raise SettingsError(f"{files.key} holds no private key {what}; name the key's file with --tls-key")
    try:
        return serialization.load_pem_private_key(data, password if b"ENCRYPTED" in data else None)
    except TypeError:
        raise SettingsError(f"{files.key} is encrypted; set ENGINE_TLS_PASSWORD to its password") from None
    except ValueError:
        why = "ENGINE_TLS_PASSWORD is not its password, or it" if b"ENCRYPTED" in data else "the key"
        raise SettingsError(f"{files.key} cannot be read: {why} is damaged") from None


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror or error}; {flag} names it") from None


def _check_pair(chain: list[x509.Certificate], key: Any, files: TlsFiles) -> None:
    public = _form(key.public_key())
    if _form(chain[0].public_key()) == public:
        return
    if any(_form(one.public_key()) == public for one in chain[1:]):
        raise SettingsError(f"{files.cert} lists its certificates in the wrong order; {_HOW_LISTED}")
    raise SettingsError(
        f"{files.key} is not the key of the certificate in {files.cert}; use a certificate and key that belong together"
    )


def _form(public: Any) -> bytes:
    form: bytes = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return form


def _check_time(certificate: x509.Certificate, path: Path, now: float) -> float:
    begins, expires = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now >= expires:
        raise SettingsError(f"the certificate in {path} expired on {_day(expires)}; renew it")
    if now < begins:
        raise SettingsError(
            f"the certificate in {path} is not valid before {_day(begins)}; check the clock of this machine"
        )
    return expires


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
