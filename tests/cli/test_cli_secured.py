"""``engine serve`` with a certificate, signatures and a token, and the commands that talk to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Pair

from tests.cli.conftest import Command, Server

Serve = Callable[..., Server]
SIGNING = "a-signing-secret-of-some-length"
CONFIG = f"signing_secrets: [{SIGNING}]\nroutes: {{}}\n"


def test_https_from_the_first_banner_to_a_renewal(engine: Command, serve: Serve, tmp_path: Path) -> None:
    old, new = Pair.made(), Pair.made()
    files = old.write(tmp_path, "hush")
    engine.environ["ENGINE_TLS_PASSWORD"] = "hush"
    engine.write(CONFIG)
    server = serve("--tls-cert", str(files.cert), "--tls-key", str(files.key))
    assert server.url.startswith("https://127.0.0.1:")
    assert server.admin.startswith("http://127.0.0.1:")

    def send(*more: str, expect: int = 0) -> str:
        return engine(
            "send", "--kind", "issue", "--same", "--to", server.url, "--sign", SIGNING, *more, expect=expect
        ).output

    assert "accepted (202)" in send("--ca", str(files.cert))
    assert "duplicate" in send("--insecure")
    failed = send(expect=1)
    assert "its certificate is not trusted (self-signed certificate)" in failed
    assert failed.count("trust it with --ca FILE, or take any certificate with --insecure") == 1
    plain = ["send", "--kind", "issue", "--to", server.url.replace("https:", "http:")]
    assert engine(*plain, expect=1).output.count("if it speaks HTTPS, write https://") == 1
    assert engine(*plain, "--count", "2", expect=1).output.count("if it speaks HTTPS, write https://") == 1
    assert engine.json(*plain, expect=1)["hint"] == "if it speaks HTTPS, write https://"
    assert "hush" not in str(server.log)

    new.write(tmp_path, "hush")
    server.signal(signal.SIGHUP)
    server.until(lambda: any("certificate renewed" in line for line in server.log))
    assert "accepted (202)" in send("--ca", str(files.cert), "--fresh")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 8


def test_what_send_signs_is_taken_and_nothing_else(engine: Command, serve: Serve) -> None:
    engine.write(CONFIG)
    server = serve()
    assert server.url.endswith("/webhooks/langsmith")
    for form in ("standard", "langsmith", "github"):
        sent = ["send", "--kind", "alert", "--to", server.url, "--sign-as", form, "--sign"]
        assert "(202)" in engine(*sent, SIGNING).output
        wrong = engine(*sent, "another", expect=1).output
        assert "the signature is wrong" in wrong
        assert SIGNING not in wrong + str(server.log)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-key", "key.pem"], "--tls-key is of no use without --tls-cert"),
        (["--tls-cert", "nothing.pem"], "cannot read nothing.pem: No such file or directory"),
    ],
)
def test_a_certificate_that_is_not_there_is_reported_before_anything_starts(
    engine: Command, arguments: list[str], words: str
) -> None:
    assert words in engine("serve", *arguments, expect=2).output
    assert not (engine.folder / "engine-data").exists()


def test_beyond_loopback_the_admin_listener_speaks_https_too(engine: Command, serve: Serve, tmp_path: Path) -> None:
    files = Pair.made().write(tmp_path)
    engine.environ["ENGINE_ADMIN_TOKEN"] = "open sesame"
    server = serve("--tls-cert", str(files.cert), "--tls-key", str(files.key), "--admin", "0.0.0.0:0")
    assert server.admin.startswith("https://127.0.0.1:")
    assert engine.json("events", "list")["events"] == []
    named = server.admin.replace("127.0.0.1", "localhost.localdomain.invalid")
    assert "no engine answers" in engine("events", "--admin", named, expect=2).stderr
    engine.environ["ENGINE_ADMIN_CA"] = str(tmp_path / "nothing")
    assert "cannot take the certificates" in engine("events", "--admin", named, expect=2).stderr
