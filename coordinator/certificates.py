"""TLS: the coordinator's own certificate authority, and the SuperLink's certificate."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos import files, keyfiles, validity
from protos.errors import ConfigurationError

_YEAR = datetime.timedelta(days=365)


def make(folder: Path, hosts: Iterable[str], passphrase: bytes | None = None) -> None:
    """Make a CA and a server certificate for some host names or addresses.

    Writes ``ca.crt`` (which sites get), ``ca.key``, ``server.pem`` and ``server.key`` into `folder`.

    Args:
        folder: Where.
        hosts: Names or addresses under which sites reach the SuperLink.
        passphrase: Encrypts ``ca.key``.

    Raises:
        ConfigurationError: There is a CA already.
        StorageError: The folder can't be written to.

    """
    files.make_folder(folder, mode=0o700)
    _serve(folder, hosts, _write_authority(folder, "ca", passphrase))


def renew(folder: Path, hosts: Iterable[str]) -> None:
    """Make a new server key and certificate, vouched for by the CA that is there. Sites notice nothing.

    Raises:
        ConfigurationError: The CA's key or certificate can't be read, or the key's passphrase is not to be had.
        StorageError: The folder can't be written to.

    """
    _serve(folder, hosts, _key_of(folder / "ca.key"))


def _serve(folder: Path, hosts: Iterable[str], ca_key: ec.EllipticCurvePrivateKey) -> None:
    """Make the server's key and certificate."""
    # While a new authority is on its way to the sites, both are in this file; the one whose key this is counts.
    ca = next((c for c in validity.certificates(folder / "ca.crt") if c.public_key() == ca_key.public_key()), None)
    if ca is None:
        raise ConfigurationError(f"{folder / 'ca.crt'} has no certificate for {folder / 'ca.key'}", "restore both")
    key = ec.generate_private_key(ec.SECP256R1())
    server = (
        _builder(_called("onebasin SuperLink"), ca.subject, key, _YEAR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in dict.fromkeys(hosts)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files.write(folder / "server.key", _pem(key), mode=0o600)
    files.write(folder / "server.pem", server.public_bytes(Encoding.PEM))


def stage_authority(folder: Path) -> None:
    """Make the CA that will take over: from now on ``ca.crt`` holds both, and sites that get it trust both.

    Raises:
        ConfigurationError: One is on its way already, or the passphrase of the one that is there is not to be had.
        StorageError: The folder can't be written to.

    """
    if (folder / "next-ca.key").exists():
        raise ConfigurationError("a new authority is on its way already", "finish that first: --finish")
    now = folder / "ca.key"
    _key_of(now)  # a wrong passphrase must not be the next one's
    _write_authority(folder, "next-ca", keyfiles.passphrase(now) if keyfiles.is_locked(now) else None)
    both = (folder / "ca.crt").read_bytes() + (folder / "next-ca.crt").read_bytes()
    files.write(folder / "ca.crt", both)


def switch_authority(folder: Path, hosts: Iterable[str]) -> None:
    """Let the new CA take over: it signs a new server certificate, and the old one is trusted no more.

    Raises:
        ConfigurationError: None is on its way.
        StorageError: The folder can't be written to.

    """
    if not (folder / "next-ca.key").exists():
        raise ConfigurationError(
            "no new authority is on its way", "make one: onebasin coordinator renew-authority"
        )
    with suppress(FileNotFoundError):  # it was moved before, and a crash kept the key from following
        (folder / "next-ca.crt").replace(folder / "ca.crt")
    (folder / "next-ca.key").replace(folder / "ca.key")
    renew(folder, hosts)


def _write_authority(folder: Path, name: str, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities need two names, or a certificate's issuer would be looked for under the wrong one.
    subject = _called(f"onebasin coordinator CA {secrets.token_hex(4)}")
    authority = (
        _builder(subject, subject, key, 10 * _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    keyfiles.write(folder / f"{name}.key", key, passphrase)
    files.write(folder / f"{name}.crt", authority.public_bytes(Encoding.PEM))
    return key


def _key_of(path: Path) -> ec.EllipticCurvePrivateKey:
    return keyfiles.read(path, ec.EllipticCurvePrivateKey)  # type: ignore[type-abstract]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + lifetime)
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
