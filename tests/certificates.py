"""Certificates and keys for tests, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.core.serve_settings import TlsFiles


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def made(cls, *, days: float = 30, begins: float = -1) -> Pair:
        """Good from ``begins`` days on for ``days`` days, counted from now."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "engine")])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(names, critical=False)
        builder = builder.not_valid_before(now + timedelta(days=begins)).not_valid_after(now + timedelta(days=days))
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def cert_pem(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, password: str | None = None) -> bytes:
        how = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, how)

    @property
    def der(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.DER)

    def write(self, folder: Path, password: str | None = None, *, given: str | None = None) -> TlsFiles:
        """Both files; ``given`` is the password the engine is told, if it is another one."""
        files = TlsFiles(folder / "cert.pem", folder / "key.pem", password if given is None else given)
        replace(files.cert, self.cert_pem)
        replace(files.key, self.key_pem(password))
        return files


def replace(path: Path, data: bytes) -> None:
    """As renewals do: a new file in the old one's place."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
