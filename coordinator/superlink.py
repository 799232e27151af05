"""Flower's programs, as the coordinator starts them: the SuperLink, and `flwr` to talk to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from coordinator import roster
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.server_app import CAMPAIGN_FOLDER
from protos import code, files
from protos.addresses import Address
from protos.enrolment import Request
from protos.errors import ConfigurationError, FederationError
from protos.programs import environment, listening

CONNECTION = "coordinator"
"""The name of the connection in Flower's configuration."""
HOME = "ONEBASIN_COORDINATOR"
"""The environment variable that tells the SuperLink's program the coordinator's folder."""
_UP = 60.0
"""Seconds that the SuperLink may take to come up."""


def superlink_command(home: Home) -> list[str]:
    """Return the command line of the SuperLink: TLS, node authentication, nothing installed at run time.

    Raises:
        FederationError: One of its ports is in use.

    """
    settings = home.settings
    _check_free(settings.fleet_address, "sites connect to (fleet_address)")
    _check_free(f"127.0.0.1:{settings.control_port}", "the Control API listens on (control_port)")
    return [
        *(sys.executable, "-m", "coordinator.flower_superlink"),
        *("--host", "127.0.0.1", "--port", str(settings.control_port)),
        *("--fleet-api-address", settings.fleet_address),
        *("--ssl-ca-certfile", str(home.keys / "ca.crt")),
        *("--ssl-certfile", str(home.keys / "server.pem")),
        *("--ssl-keyfile", str(home.keys / "server.key")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def write_connection(home: Home) -> None:
    """Tell `flwr` where the SuperLink is."""
    connection = {
        "address": f"127.0.0.1:{home.settings.control_port}",
        "root-certificates": str((home.keys / "ca.crt").resolve()),
    }
    content = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
    files.write(files.make_folder(home.flower) / "config.toml", tomli_w.dumps(content))


def register(home: Home, request: Request) -> None:
    """Register a site's SuperNode key; it is fine if it is registered already.

    Raises:
        FederationError: The SuperLink can't be reached or refuses the key.

    """
    folder = files.make_folder(roster.folder_of(home, request.site))
    files.write(folder / "node.pub", request.node_key + "\n")
    try:
        answer = flwr(home, "supernode", "register", str(folder / "node.pub"), CONNECTION)
    except FederationError as error:
        if "already" not in str(error).lower():
            raise
    else:
        files.write(folder / "node-id", str(answer.get("node-id", "")))


def unregister(home: Home, site: str) -> None:
    """Take back the registration of a site's SuperNode, if there is one: it is let in no more.

    Raises:
        FederationError: The SuperLink can't be reached or refuses.

    """
    path = roster.folder_of(home, site) / "node-id"
    if path.exists():
        flwr(home, "supernode", "unregister", path.read_text().strip(), CONNECTION)
        path.unlink()


def is_running(home: Home) -> bool:
    """Tell whether this coordinator's SuperLink is up."""
    return listening(home.settings.control_port)


def wait(home: Home, check: Callable[[], None], log: Path) -> None:
    """Wait until this coordinator's SuperLink is up, for a minute at most.

    Args:
        home: The coordinator.
        check: Called meanwhile; raises an error if waiting is in vain.
        log: Where its output goes; an error names it.

    Raises:
        FederationError: It did not come up.

    """
    until = time.monotonic() + _UP
    while not is_running(home):
        check()
        if time.monotonic() > until:
            raise FederationError(f"the SuperLink did not come up within {_UP:.0f} s", f"see {log}")
        time.sleep(0.1)


def submit(folder: CampaignFolder) -> str:
    """Start a campaign's run and return Flower's id of it.

    Raises:
        ConfigurationError: The campaign was laid down with another version of the bundle.
        FederationError: The SuperLink can't be reached or refuses it.

    """
    if folder.campaign.rules.code_digest != code.installed_digest():
        raise ConfigurationError(
            f"the bundle of this onebasin is not the one that campaign {folder.campaign.name} names",
            "run it with the version that it was created with, or lay it down anew",
        )
    configuration = f"{CAMPAIGN_FOLDER}={json.dumps(str(folder.path))}"
    return str(flwr(folder.home, "run", str(code.BUNDLE), CONNECTION, "--run-config", configuration)["run-id"])


def run_status(home: Home, run_id: str) -> str:
    """Return what Flower says of a run, e.g. ``running`` or ``finished:failed``.

    Raises:
        FederationError: The SuperLink can't be reached.

    """
    runs = flwr(home, "list", CONNECTION, "--run-id", run_id)["runs"]
    return str(runs[0]["status"]) if runs else "unknown"


def stop_run(home: Home, run_id: str) -> None:
    """Stop a run.

    Raises:
        FederationError: The SuperLink can't be reached.

    """
    flwr(home, "stop", run_id, CONNECTION)


def flwr(home: Home, *arguments: str) -> dict[str, Any]:
    """Run `flwr` against this coordinator's SuperLink and return its JSON answer.

    Raises:
        FederationError: It failed, or did not answer.

    """
    write_connection(home)
    command = ["flwr", *arguments, "--format", "json"]
    try:
        done = subprocess.run(
            command,
            env=environment(home.flower),
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise FederationError(f"flwr {arguments[0]} did not answer within 120 s", _START) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {}
    if done.returncode or not answer.get("success", False):
        said = str(answer.get("error-message") or done.stderr or done.stdout).strip()
        raise FederationError(f"flwr {' '.join(arguments[:2])} failed: {said}", _START)
    return answer


_START = "is the SuperLink running? start it: onebasin coordinator superlink"


def _check_free(address: str, use: str) -> None:
    place = Address.parse(address)
    with socket.socket(place.family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            raise FederationError(
                f"port {place.port} of {place.host}, which {use}, can't be used: {error.strerror}",
                "stop what uses it, or choose another in coordinator.toml",
            ) from error
