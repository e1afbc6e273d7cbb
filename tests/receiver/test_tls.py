"""HTTPS: which files are taken, renewal without a restart, and handshakes that take their time."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time

import aiohttp
import pytest
from certificates import Pair, replace
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from receiving import FakeStore

from engine.core.serve_settings import Address, SettingsError, TlsFiles
from engine.receiver.receiver import WEBHOOK_PATH, Receiver
from engine.receiver.server import receiver_runner
from engine.receiver.tls import HANDSHAKE, Site, Tls


async def ready() -> str:
    return ""


class Served:
    """A receiver behind TLS on a free port."""

    def __init__(self, tls: Tls) -> None:
        self.tls = tls
        self.runner = receiver_runner(Receiver(append=FakeStore().append, secrets=lambda: ("good",), ready=ready))

    async def __aenter__(self) -> Served:
        await self.runner.setup()
        await Site(self.runner, Address("127.0.0.1", 0), self.tls).start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def post(self, trusted: Pair, host: str = "127.0.0.1", **how) -> int:
        context = ssl.create_default_context(cadata=trusted.cert_pem.decode())
        url = f"https://{host}:{self.port}{WEBHOOK_PATH}?secret=good"
        async with aiohttp.ClientSession() as http, http.post(url, data=b"{}", ssl=context, **how) as answer:
            return answer.status

    async def shown(self, **how) -> tuple[bytes, str]:
        """The certificate that is shown, and the version that is spoken."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for name, value in how.items():
            setattr(context, name, value)
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        connection = writer.get_extra_info("ssl_object")
        writer.close()
        return connection.getpeercert(binary_form=True), connection.version()


async def test_a_webhook_comes_in_by_https_whether_a_host_is_named_or_not(tmp_path):
    pair = Pair.made()
    async with Served(Tls(pair.write(tmp_path))) as served:
        assert await served.post(pair) == 202
        assert await served.post(pair, "localhost") == 202
        assert (await served.shown())[1] == "TLSv1.3"


async def test_old_protocols_are_refused(tmp_path):
    async with Served(Tls(Pair.made().write(tmp_path))) as served:
        old = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}
        with pytest.warns(DeprecationWarning, match="TLSv1"), pytest.raises((ssl.SSLError, ConnectionError)):
            await served.shown(**old)
        assert (await served.shown(maximum_version=ssl.TLSVersion.TLSv1_2))[1] == "TLSv1.2"


async def test_renewed_files_are_used_and_open_connections_continue(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    old, new = Pair.made(), Pair.made()
    async with Served(Tls(old.write(tmp_path))) as served:
        context = ssl.create_default_context(cadata=old.cert_pem.decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
        await served.tls.refresh()
        assert (await served.shown())[0] == old.der
        new.write(tmp_path)
        await served.tls.refresh()
        assert (await served.shown())[0] == new.der
        assert (await served.shown(maximum_version=ssl.TLSVersion.TLSv1_2))[0] == new.der
        assert await served.post(new) == 202
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert [record.message for record in caplog.records if record.name == "engine"] == ["certificate renewed"]


async def test_a_renewal_in_two_steps_says_nothing_and_one_that_fails_keeps_the_old_certificate(tmp_path, caplog):
    old, new = Pair.made(), Pair.made()
    files = old.write(tmp_path)
    async with Served(Tls(files)) as served:
        replace(files.cert, new.cert_pem)
        await served.tls.refresh()
        assert (await served.shown())[0] == old.der
        assert caplog.records == []
        replace(files.key, new.key_pem())
        await served.tls.refresh()
        assert (await served.shown())[0] == new.der

        replace(files.key, b"nonsense")
        for _ in range(4):
            await served.tls.refresh()
        assert (await served.shown())[0] == new.der
        (record,) = caplog.records
        assert "was not reloaded, the old one stays in use" in record.message
        assert "holds no private key" in record.message


@pytest.mark.parametrize("error", [UnsupportedAlgorithm("no such curve"), OverflowError("a date")])
async def test_a_renewal_that_fails_unexpectedly_keeps_the_old_certificate(tmp_path, caplog, monkeypatch, error):
    def load(*_: object) -> None:
        raise error

    old, new = Pair.made(), Pair.made()
    files = old.write(tmp_path)
    async with Served(Tls(files)) as served:
        new.write(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(serialization, "load_pem_private_key", load)
            for _ in range(3):
                await served.tls.refresh()
            with pytest.raises(SettingsError, match=str(error)):
                Tls(files)
        (record,) = caplog.records
        assert str(error) in record.message
        assert (await served.shown())[0] == old.der
        newest = Pair.made()
        newest.write(tmp_path)
        await served.tls.refresh()
        assert (await served.shown())[0] == newest.der


async def test_a_certificate_that_ends_soon_is_warned_of(tmp_path, caplog):
    Tls(Pair.made(days=8).write(tmp_path)).warn()
    assert caplog.records == []
    Tls(Pair.made(days=2).write(tmp_path)).warn()
    assert "renew" in caplog.records[0].message


# What can't be used


def written(folder, cert: bytes, key: bytes, password: str | None = None) -> TlsFiles:
    replace(folder / "cert.pem", cert)
    replace(folder / "key.pem", key)
    return TlsFiles(folder / "cert.pem", folder / "key.pem", password)


ONE, OTHER = Pair.made(), Pair.made()


@pytest.mark.parametrize(
    ("cert", "key", "password", "words"),
    [
        (b"", ONE.key_pem(), None, "cert.pem holds no certificate in PEM form"),
        (ONE.der, ONE.key_pem(), None, "cert.pem holds no certificate in PEM form"),
        (ONE.cert_pem, b"", None, "key.pem holds no private key"),
        (ONE.cert_pem, ONE.key_pem()[:90], None, "the key is damaged"),
        (ONE.cert_pem, OTHER.key_pem(), None, "is not the key of the certificate in"),
        (OTHER.cert_pem + ONE.cert_pem, ONE.key_pem(), None, "in the wrong order"),
        (ONE.cert_pem, ONE.key_pem("hush"), None, "set ENGINE_TLS_PASSWORD"),
        (ONE.cert_pem, ONE.key_pem("hush"), "wrong", "ENGINE_TLS_PASSWORD is not its password"),
    ],
    ids=["empty", "der", "no-key", "cut", "other-key", "order", "encrypted", "wrong-password"],
)
def test_files_that_cannot_be_used_are_refused_with_words(tmp_path, cert, key, password, words):
    with pytest.raises(SettingsError) as caught:
        Tls(written(tmp_path, cert, key, password))
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "words"),
    [(Pair.made(days=-0.5), "expired on"), (Pair.made(begins=2), "is not valid before")],
    ids=["expired", "early"],
)
def test_a_certificate_out_of_its_time_is_refused(tmp_path, pair, words):
    with pytest.raises(SettingsError, match=words):
        Tls(pair.write(tmp_path))


def test_a_file_that_is_missing_is_named_with_its_flag(tmp_path):
    files = ONE.write(tmp_path)
    with pytest.raises(
        SettingsError, match=r"cannot read .*nothing.pem: No such file or directory; --tls-key names it"
    ):
        Tls(TlsFiles(files.cert, tmp_path / "nothing.pem"))


async def test_an_encrypted_key_and_one_in_the_same_file_are_taken(tmp_path):
    async with Served(Tls(ONE.write(tmp_path, "hush"))) as served:
        assert await served.post(ONE) == 202
    both = tmp_path / "both.pem"
    both.write_bytes(ONE.cert_pem + ONE.key_pem())
    async with Served(Tls(TlsFiles(both, both, "of no use"))) as served:
        assert await served.post(ONE) == 202


# Slow clients


async def test_a_handshake_that_does_not_end_is_cut_and_delays_no_one(tmp_path):
    async with Served(Tls(ONE.write(tmp_path))) as served:
        idlers = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(50)]
        for _, writer in idlers:
            writer.write(b"\x16\x03\x01")  # the beginning of a hello
        began = time.monotonic()
        assert await served.post(ONE) == 202
        assert time.monotonic() - began < 1.0
        async with asyncio.timeout(HANDSHAKE + 3):
            assert all([await reader.read() == b"" for reader, _ in idlers])
        assert time.monotonic() - began > HANDSHAKE - 0.5
        for _, writer in idlers:
            writer.close()


async def test_plain_http_gets_no_answer(tmp_path):
    async with Served(Tls(ONE.write(tmp_path))) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()
