"""Looking before the start: each look ends in a finding, which says what to do about it.

What both sides look at is here; what only one of them has is in its own room.
"""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from protos import validity
from protos.addresses import Address
from protos.errors import ConfigurationError, OnebasinError, PreflightError

if TYPE_CHECKING:
    from rich.table import Table

GOOD, WARNING, BAD, UNCHECKED = "ok", "warning", "bad", "not checked"
LITTLE = 2_000_000_000
"""Bytes of disk for logs and Flower's own files, beside models."""
_TIMEOUT = 5.0
_PACKAGES = ("onebasin", "flwr")
_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """What a look brought to light.

    Attributes:
        what: What was looked at.
        state: ``ok``, ``warning``, ``bad`` or ``not checked``.
        found: What is there.
        fix: What to do about it.

    """

    what: str
    state: str
    found: str
    fix: str = ""


Look = Callable[[], Iterable[Finding]]


def findings(looks: Iterable[tuple[str, Look]]) -> Iterator[Finding]:
    """Do one look after the other; an error of ours is a bad finding, and the next look follows."""
    for what, look in looks:
        try:
            yield from look()
        except OnebasinError as error:
            yield Finding(what, BAD, error.what, error.fix)


def as_json(found: Iterable[Finding]) -> dict[str, Any]:
    """Return findings for programs."""
    listed = [asdict(finding) for finding in found]
    return {"ready": all(finding["state"] != BAD for finding in listed), "findings": listed}


def table(found: Iterable[Finding]) -> Table:
    """Return findings for people."""
    from rich.table import Table

    colours = {GOOD: "green", WARNING: "yellow", BAD: "red", UNCHECKED: "dim"}
    shown = Table("check", "state", "found", "how to fix", box=None, header_style="bold")
    for finding in found:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        shown.add_row(finding.what, state, _plain(finding.found), _plain(finding.fix))
    return shown


def check(found: Iterable[Finding], whose: str) -> None:
    """End with an error if anything is bad.

    Raises:
        PreflightError: Something is.

    """
    bad = [finding.what for finding in found if finding.state == BAD]
    if bad:
        raise PreflightError(f"{whose} is not ready: {', '.join(dict.fromkeys(bad))}", "see how to fix it above")


# ------------------------------------------------------------------------ looks


def versions(*also: str) -> Iterator[Finding]:
    """Look at the versions of what runs here.

    Args:
        also: Packages that are needed beside those of both sides.

    """
    found = ", ".join(f"{name} {_version(name)}" for name in (*_PACKAGES, *also))
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    good = sys.version_info >= _PYTHON and _version("flwr").startswith("1.39.")
    fix = "" if good else "Python 3.11 or newer and flwr 1.39: install onebasin again"
    if "missing" in [_version(name) for name in also]:
        good, fix = False, "pip install 'onebasin[site]'"
    yield Finding("versions", GOOD if good else BAD, f"{here}, {found}", fix)


def disk(folder: Path, needed: int) -> Iterator[Finding]:
    """Look whether a folder's disk has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"
    if free < needed:
        yield Finding("disk", BAD, said, f"free some space in {folder}")
    elif free < 2 * needed:
        yield Finding("disk", WARNING, said, "keep an eye on it")
    else:
        yield Finding("disk", GOOD, said)


def keys(folder: Path, private: Iterable[str]) -> Iterator[Finding]:
    """Look whether private keys are there, and readable by their owner only."""
    names = list(private)
    missing = [name for name in names if not (folder / name).exists()]
    there = [(folder, "700"), *((folder / name, "600") for name in names)]
    wrong = [f"chmod {mode} {path}" for path, mode in there if path.exists() and path.stat().st_mode & 0o077]
    if missing:
        yield Finding("keys", BAD, f"missing: {', '.join(missing)}", "restore them from a backup, or enrol anew")
    if wrong:
        yield Finding("permissions", BAD, f"others can read what is in {folder}", "; ".join(wrong))
    if not missing and not wrong:
        yield Finding("keys", GOOD, f"{', '.join(names)}: there, and readable by their owner only")


def certificate(path: Path, what: str, fix: str) -> Iterator[Finding]:
    """Look how long the certificates in a file hold."""
    for found in validity.certificates(path):
        yield judged(found, what, fix)


def judged(found: x509.Certificate, what: str, fix: str) -> Finding:
    """Judge a certificate's time."""
    said = validity.problem(found)
    if not said:
        return Finding(what, GOOD, f"holds until {found.not_valid_after_utc:%Y-%m-%d}")
    return Finding(what, WARNING if said.startswith("expires") else BAD, said, fix)


def not_before(moment: datetime.datetime, what: str) -> Iterator[Finding]:
    """Look whether the clock is past a moment that is past for sure, because somebody signed it."""
    now = datetime.datetime.now(datetime.UTC)
    if now + datetime.timedelta(minutes=5) < moment:
        late = moment - now
        yield Finding(
            "clock", BAD, f"it is {now:%Y-%m-%d %H:%M} here, {late} before {what}", "set this machine's clock"
        )
    else:
        yield Finding("clock", GOOD, f"{now:%Y-%m-%d %H:%M} UTC, after {what}")


def reachable(address: str, authority: Path, fix: str, *, name: str = "") -> Iterator[Finding]:
    """Connect to a SuperLink and shake hands, trusting one authority only; judge the certificate that it shows.

    Args:
        address: Its host and port.
        authority: The file with the authority's certificate.
        fix: What to do about a certificate that is not right.
        name: What the certificate must be for, if not for the host.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(authority))
    try:
        place = Address.parse(address)
        with socket.create_connection(place, timeout=_TIMEOUT) as plain:
            yield Finding("reachable", GOOD, f"{address} accepts connections")
            with context.wrap_socket(plain, server_hostname=name or place.host) as secured:
                shown = secured.getpeercert(binary_form=True)
                assert shown is not None  # it was verified
                yield Finding("TLS", GOOD, f"{secured.version()}, vouched for by {authority.name}")
                yield judged(x509.load_der_x509_certificate(shown), "server certificate", fix)
    except ssl.SSLCertVerificationError as error:
        yield Finding("TLS", BAD, f"{address} shows another certificate: {error.verify_message}", fix)
    except ConfigurationError as error:
        yield Finding("reachable", BAD, error.what, error.fix)
    except OSError as error:
        said = error.strerror or str(error)
        yield Finding(
            "reachable", BAD, f"{address}: {said}", "is it running, and does a firewall let this machine out?"
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
