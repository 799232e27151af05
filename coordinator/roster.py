"""The roster: the sites that the coordinator approved, each in a folder of its own.

::

    sites/<name>/request.json     as it was approved
                 welcome.json     the answer, for the site
                 node.pub         the node key, as Flower wants it
                 node-id          Flower's number of the node, once it is registered
                 revoked          when it was revoked, if it was
    requests/*.json               requests that wait for somebody who compares fingerprints

What is done for one site touches no other site's files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.home import Home
from protos import enrolment, files
from protos.campaign import check_name
from protos.enrolment import Request, check_fingerprint, new_welcome
from protos.errors import ConfigurationError, OnebasinError


@dataclass(frozen=True)
class Waiting:
    """A file in the folder of requests. Its name and content are from outside, and nothing vouches for them yet.

    Attributes:
        path: The file.
        request: What it says; None if it is no request.
        problem: Why it is none.
        known: The fingerprint of the approved site that has the name already, with other keys; empty if none has.

    """

    path: Path
    request: Request | None
    problem: str = ""
    known: str = ""


def approve(home: Home, path: Path, fingerprint: str, *, renew: bool = False) -> Request:
    """Check a site's request and take the site in.

    Args:
        home: The coordinator.
        path: The request file.
        fingerprint: The site's, as its operator read it out.
        renew: Whether the request may replace the one of a site of the same name.

    Raises:
        ConfigurationError: The file is no request, or there is a site of that name with other keys.
        SignatureError: It was changed after it was signed, or by its fingerprint is another's.

    """
    content = enrolment.read_file(path, "request")
    request = Request.parse(content, str(path))
    check_fingerprint(fingerprint, request.signing_key, f"the request {path}")
    folder = folder_of(home, request.site)
    known = _known(home, request.site)
    if known is not None and known != request and not renew:
        raise ConfigurationError(
            f"there is a site {request.site} already, with the fingerprint {known.fingerprint}",
            "if it has new keys, give --renew; if it is another site, it needs another name",
        )
    home.audit.note("approved", site=request.site, fingerprint=request.fingerprint)
    files.make_folder(folder)
    (folder / "revoked").unlink(missing_ok=True)
    files.write(folder / "request.json", content)
    write_welcome(home, request)
    if path.parent.resolve() == requests_of(home).resolve():
        path.unlink(missing_ok=True)  # it waits no more
    return request


def requests_of(home: Home) -> Path:
    """Return the folder in which requests wait, whether it is there or not."""
    return home.folder / "requests"


def waiting(home: Home) -> Iterator[Waiting]:
    """List the files that wait in the folder of requests, by name, also those that are no requests."""
    for path in sorted(requests_of(home).glob("*.json")):
        try:
            path.name.encode()
        except UnicodeEncodeError:
            yield Waiting(path, None, "the file's name is no text: give it another one")
            continue
        if not path.is_file():  # to open a pipe would be to wait for who writes into it
            yield Waiting(path, None, "it is no file")
            continue
        try:
            request = Request.read(path)
            known = _known(home, request.site)
        except OnebasinError as error:
            yield Waiting(path, None, error.what)
        else:
            yield Waiting(path, request, known="" if known in (None, request) else known.fingerprint)


def revoked(home: Home) -> list[str]:
    """List the names of the sites that were revoked."""
    return sorted(path.parent.name for path in (home.folder / "sites").glob("*/revoked"))


def find(home: Home, name: str) -> Request:
    """Find an approved site.

    Raises:
        ConfigurationError: There is none of that name, or it was revoked.

    """
    known = _known(home, name)
    if known is None:
        raise ConfigurationError(
            f"no site {name} was approved", "take its request.json, and: onebasin coordinator approve"
        )
    if (folder_of(home, name) / "revoked").exists():
        raise ConfigurationError(f"site {name} was revoked", "approve it again: onebasin coordinator approve")
    return known


def approved(home: Home) -> Iterator[Request]:
    """List the approved sites by name, without those that were revoked."""
    for path in sorted((home.folder / "sites").glob("*/request.json")):
        if not (path.parent / "revoked").exists():
            yield Request.read(path)


def revoke(home: Home, name: str) -> Request:
    """Strike a site off; what it sent before stays where it is. Doing it twice is fine.

    Raises:
        ConfigurationError: There is none of that name.

    """
    folder = folder_of(home, name)
    request = _known(home, name)
    if request is None or (folder / "revoked").exists():
        return request or find(home, name)
    files.write(folder / "revoked", time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
    (folder / "welcome.json").unlink(missing_ok=True)
    return request


def write_welcome(home: Home, request: Request) -> Path:
    """Write a site's welcome anew: with today's certificates, and the campaigns that wait for it."""
    brings = [
        found.campaign
        for found in home.campaigns()
        if found.campaign.keys.get(request.site) == request.signing_key and not (found.outcome() or {}).get("ok")
    ]
    content = new_welcome(
        request,
        key=home.signing_key,
        agreement_key=home.agreement_key.public_key().public_bytes_raw(),
        ca_certificates=(home.keys / "ca.crt").read_bytes(),
        addresses=home.addresses,
        brings=brings,
    )
    path = folder_of(home, request.site) / "welcome.json"
    files.write(path, content)
    return path


def site_of(home: Home, node: int) -> str:
    """Name the site that a node was registered for; nothing if it is none's."""
    for path in (home.folder / "sites").glob("*/node-id"):
        if path.read_text().strip() == str(node):
            return path.parent.name
    return ""


def folder_of(home: Home, name: str) -> Path:
    """Return a site's folder, whether it is there or not."""
    return home.folder / "sites" / check_name(name, "site")


def _known(home: Home, name: str) -> Request | None:
    path = folder_of(home, name) / "request.json"
    return Request.read(path) if path.exists() else None
