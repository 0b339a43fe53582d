"""The site's own certificate authority, and what it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS, SERVER_DAYS, RENEW_DAYS = 3650, 365, 30


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _builder(subject: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # Clocks of a site's devices are not exact.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )


def authority() -> Pair:
    """A new certificate authority. Devices that trust two of them tell them apart by name and key identifier."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"edgefleet site CA {datetime.now(UTC):%Y-%m-%d}"
    builder = _builder(name, _name(name), key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pem(builder.sign(key, hashes.SHA256()), key)


def _alternative(names: Iterable[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in sorted(set(names)):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def server(names: list[str], signer: Pair) -> Pair:
    """A server certificate with these names and addresses."""
    issuer = x509.load_pem_x509_certificate(signer.certificate.encode())
    issuer_key = serialization.load_pem_private_key(signer.key.encode(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the site's certificate authority has a key of another kind")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(names[0], issuer.subject, key.public_key(), SERVER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_alternative(names), critical=False)
    signed_with = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(signed_with, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return _pem(builder.sign(issuer_key, hashes.SHA256()), key)


def still_good(certificate: str, names: list[str], authority_certificate: str) -> bool:
    """Signed by this authority, for these names, and not about to end."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    issuer = x509.load_pem_x509_certificate(authority_certificate.encode())
    try:
        found.verify_directly_issued_by(issuer)
        present = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return present == _alternative(names) and found.not_valid_after_utc - datetime.now(UTC) > timedelta(days=RENEW_DAYS)
