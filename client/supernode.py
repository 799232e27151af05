"""Flower's SuperNode, as a site starts it."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from client.client_app import SITE_FOLDER
from client.site import Site
from protos.errors import ConfigurationError


def environment(site: Site) -> dict[str, str]:
    """Return its environment: Flower's programs beside this Python, quiet, at home in the site's folder."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(site.folder / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


def supernode_command(site: Site) -> list[str]:
    """Return its command line: TLS by the coordinator's CA, authenticated by the site's key.

    Raises:
        ConfigurationError: The coordinator's certificate is missing.

    """
    certificate = site.folder / site.settings.superlink.root_certificates
    if not certificate.exists():
        raise ConfigurationError(
            f"site {site.name} has no certificate of its coordinator ({certificate})",
            "take ca.crt from the coordinator: onebasin site join --certificate",
        )
    return [
        "flower-supernode",
        *("--superlink", site.settings.superlink.address),
        *("--root-certificates", str(certificate)),
        *("--auth-supernode-private-key", str(site.node_key)),
        *("--port", str(_free_port())),  # between the SuperNode and its own apps, on loopback
        *("--node-config", f"{SITE_FOLDER}={json.dumps(str(site.folder))}"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
