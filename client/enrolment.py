"""A site and its coordinator: taking in a welcome, and knowing the coordinator by its key from then on."""

from __future__ import annotations

from pathlib import Path

from client.site import Site
from protos import enrolment, files
from protos.enrolment import Welcome, check_fingerprint
from protos.errors import ConfigurationError, SignatureError


def take(site: Site, path: Path, fingerprint: str = "") -> Welcome:
    """Check a welcome and keep it: the coordinator's keys, its certificate, its addresses.

    Args:
        site: The site.
        path: The file.
        fingerprint: The coordinator's, as its operator read it out. Not needed again once it is known.

    Raises:
        ConfigurationError: The file is no welcome, is for another site or for other keys, or is older than the one
            that is kept; or the fingerprint is missing.
        SignatureError: It was changed after it was signed, or by its fingerprint is not the coordinator's.

    """
    content = enrolment.read_file(path, "welcome")
    welcome = Welcome.parse(content, str(path))
    message = welcome.message
    if message.site != site.name or message.request_digest != site.request().digest:
        raise ConfigurationError(
            f"{path} answers the request of another site, or of other keys of site {site.name}",
            f"hand {site.request_path} to the coordinator: onebasin coordinator approve",
        )
    known = site.coordinator()
    if fingerprint:
        check_fingerprint(fingerprint, message.coordinator_key, "the coordinator")
    elif known is None:
        raise ConfigurationError(
            f"{path} says that its coordinator has the fingerprint {welcome.fingerprint}",
            "have the coordinator's operator read it out (onebasin coordinator fingerprint), then give it: "
            "--fingerprint …",
        )
    elif known.message.coordinator_key != message.coordinator_key:
        raise SignatureError(
            f"{path} is signed by {welcome.fingerprint}, but the coordinator of site {site.name} is "
            f"{known.fingerprint}",
            "if the coordinator really has a new key, have it read out and give --fingerprint",
        )
    if known is not None and message.coordinator_key == known.message.coordinator_key:
        _check_newer(welcome, known, path)
    files.write(site.keys / "ca.crt", message.ca_certificates)
    files.write(site.welcome_path, content)
    return welcome


def _check_newer(welcome: Welcome, known: Welcome, path: Path) -> None:
    # An old welcome is a true one, but it may bring back a certificate authority that was given up.
    if welcome.message.issued_unix < known.message.issued_unix:
        raise ConfigurationError(f"{path} is older than the welcome that is here already", "take the newest one")
