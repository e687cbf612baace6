"""Certificates with which the parts of an embedded server recognise each other, and clients recognise the server."""

from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from audiotext.embedded.server import LOOPBACK
from audiotext.embedded.state import write_private

# Fixed, so that a machine with a wrong clock can start. Renewal would add nothing: the key is as secret as the data.
_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_VALID_UNTIL = datetime(2120, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. ca: the authority. cert, key: for servers and clients at the loopback address."""

    ca: Path
    cert: Path
    key: Path


def ensure(data_dir: Path) -> Certificates:
    """Returns the certificates of the data directory; the first call creates them. Only the owner can read them.

    The authority signs this one certificate, and its key is not kept. So nobody else has a certificate that it signed.
    """
    directory = data_dir / "tls"
    files = Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    if not (files.ca.exists() and files.cert.exists() and files.key.exists()):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(files)
    return files


def _create(files: Certificates) -> None:
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AudioText embedded servers")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "audiotext")])
    ca = (
        _builder(authority, authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    cert = (
        _builder(subject, authority, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(files.key, private.decode())
    write_private(files.cert, cert.public_bytes(serialization.Encoding.PEM).decode())
    write_private(files.ca, ca.public_bytes(serialization.Encoding.PEM).decode())


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
    )
