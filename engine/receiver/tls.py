"""HTTPS: a certificate and its key out of files, checked with words, and taken anew when they are renewed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from engine.core.fingerprint import Fingerprinter
from engine.core.serve_settings import Address, SettingsError, TlsFiles

#: How long a client may take to agree on a key, in seconds: as long as a request may. Who is cut off for it connects
#: again, as LangSmith does where no connection can be made.
HANDSHAKE = 2.5
#: How long a client may take to say goodbye, in seconds: a stop waits for it.
_GOODBYE = 1.0
#: How often the files are looked at, in seconds.
_LOOK = 5.0
#: From how long before its end on a certificate is warned of, in seconds.
_SOON = 7 * 86400.0
#: For TLS 1.2: forward secrecy and authenticated encryption only (Mozilla's "intermediate"). TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_HOW_LISTED = "the server's own certificate comes first in it, then those that lead to a root"

_logger = logging.getLogger("engine")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A context for new connections, and when its certificate ends, in Unix seconds."""

    context: ssl.SSLContext = field(repr=False)
    ends: float


class Tls:
    """What a listener needs to speak HTTPS. Every handshake takes the certificate of now.

    ``clock`` is the time in Unix seconds.
    """

    def __init__(self, files: TlsFiles, *, clock: Callable[[], float] = time.time) -> None:
        """Read the files.

        Raises:
            SettingsError: they can't be used; says which, why, and what to do.
        """
        self._files, self._clock = files, clock
        self._fingerprinter = Fingerprinter()
        self._seen = self._failed = self._fingerprinter.of(files.all())
        self._now = _load(files, clock())
        self._looking, self._soon = asyncio.Lock(), asyncio.Event()
        #: To listen with. Whoever connects is handed on to the context of now.
        self.context = self._now.context
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL asks for every connection, whether its client named a host or not."""
        connection.context = self._now.context

    async def refresh(self) -> None:
        """Take the files as they are now, if they changed. The old certificate stays where they can't be used.

        Two files are not replaced as one. So what can't be used is told when it has stayed the same for two looks.
        """
        async with self._looking:
            looked = await asyncio.to_thread(self._fingerprinter.of, self._files.all())
            if looked == self._seen:
                return
            try:
                self._now = await asyncio.to_thread(_load, self._files, self._clock())
            except SettingsError as error:
                if looked == self._failed:
                    self._seen = looked
                    _logger.error("the certificate was not renewed, the one of before stays: %s", error)
                self._failed = looked
                return
            self._seen = self._failed = looked
            _logger.info("certificate renewed", extra={"valid_until": _day(self._now.ends)})
            self.warn()

    def warn(self) -> None:
        """Say in the log that the certificate ends soon, if it does."""
        if self._now.ends - self._clock() < _SOON:
            _logger.warning("the certificate is valid until %s only: renew %s", _day(self._now.ends), self._files.cert)

    def check_soon(self) -> None:
        """Have ``watch`` look now: somebody says that something changed."""
        self._soon.set()

    async def watch(self) -> None:
        """Refresh whenever the files change, until cancelled. Links count: renewals replace those."""
        self.warn()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._soon.wait()
            self._soon.clear()
            await self.refresh()


class Site(web.BaseSite):
    """Where a listener listens, with TLS or without. aiohttp's own would wait a minute for a handshake."""

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
            OSError: the address can't be had.
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
            ssl_shutdown_timeout=_GOODBYE if tls else None,
        )


def _load(files: TlsFiles, now: float) -> _Loaded:
    """Check the files, then have OpenSSL read them.

    Raises:
        SettingsError: they can't be used, for whatever reason; says which.
    """
    try:
        return _checked(files, now)
    except SettingsError:
        raise
    except Exception as error:
        # Kinds of keys and broken files that the libraries have an exception of their own for.
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{files.cert} cannot be used with {files.key}: {why}; use an RSA or ECDSA key") from error


def _checked(files: TlsFiles, now: float) -> _Loaded:
    chain = _certificates(files.cert)
    key = _private_key(files)
    _check_pair(chain, key, files)
    ends = _check_time(chain[0], files.cert, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a function OpenSSL would ask the terminal for a password.
        context.load_cert_chain(files.cert, files.key, password=lambda: files.password or "")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{files.cert} cannot be used with {files.key}: {error}") from None
    return _Loaded(context, ends)


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
    raise SettingsError(f"{files.key} is not the key of the certificate in {files.cert}; name two that belong together")


def _form(public: Any) -> bytes:
    form: bytes = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return form


def _check_time(certificate: x509.Certificate, path: Path, now: float) -> float:
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now >= ends:
        raise SettingsError(f"the certificate in {path} expired on {_day(ends)}; renew it")
    if now < begins:
        raise SettingsError(
            f"the certificate in {path} is not valid before {_day(begins)}; see that the clock is right"
        )
    return ends


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
