"""How long certificates still hold."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

from protos.errors import ConfigurationError

_AGAIN = "get it again: a site takes in its coordinator's welcome, a coordinator renews its certificate"
DAYS = 30
"""Days before its end from which on a certificate is warned of."""


def certificates(path: Path) -> list[x509.Certificate]:
    """Read the certificates in a PEM file.

    Raises:
        ConfigurationError: It is missing or holds none.

    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"can't read the certificate {path}: {error.strerror}", _AGAIN) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no certificate", _AGAIN) from error


def problem(certificate: x509.Certificate, now: datetime.datetime | None = None) -> str:
    """Say in words what is wrong with a certificate's time, or that it ends soon; nothing if all is well."""
    now = now or datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        return f"is not valid before {first:%Y-%m-%d %H:%M} UTC: is this machine's clock right?"
    if now > last:
        return f"expired on {last:%Y-%m-%d}"
    left = (last - now).days
    return f"expires in {left} days, on {last:%Y-%m-%d}" if left < DAYS else ""


def warning(path: Path, fix: str) -> str:
    """Warn of a file's certificates; nothing if all of them hold for another month.

    Raises:
        ConfigurationError: It is missing or holds none.

    """
    found = [said for certificate in certificates(path) if (said := problem(certificate))]
    # While one authority takes over from another both are in the file, and the old one may end.
    return f"the certificate {path} {found[0]}; {fix}" if found and len(found) == len(certificates(path)) else ""
