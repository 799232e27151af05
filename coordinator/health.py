"""``onebasin coordinator health``: whether the SuperLink answers, and sites can get in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordinator.home import Home
    from protos.preflight import Finding

TIMEOUT = 5.0
"""Seconds for which the SuperLink may keep us waiting."""
_RESTART = "restart it: onebasin coordinator superlink; its output says more"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # listened on; connected to are the others


def health(
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")],
    live: Annotated[
        bool, typer.Option("--live", help="Only whether the program answers: what a restart would mend.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to go on looking while it is not well, as after a start.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether the SuperLink is well; cheap, for health checks.

    It answers a request, and it shakes hands where sites come in, with a certificate that they trust. Ends with
    exit code 15 if not. What a campaign needs besides is looked at by `preflight`.
    """
    from coordinator.home import Home
    from protos.health import ask

    home = Home.open(folder)
    ask(lambda: look(home, live=live), "the coordinator", wait, as_json=as_json)


def look(home: Home, *, live: bool = False) -> Iterator[Finding]:
    """Look at a coordinator's SuperLink.

    Args:
        home: The coordinator.
        live: Look only whether the program answers.

    """
    from protos import preflight
    from protos.addresses import Address

    yield _answers(home)
    if not live:
        host, port = Address.parse(home.settings.fleet_address)
        renew = "onebasin coordinator renew-certificate, then stop the SuperLink and start it again"
        yield from preflight.reachable(
            str(Address(_ANYWHERE.get(host, host), port)), home.keys / "ca.crt", renew, name="localhost"
        )


def _answers(home: Home) -> Finding:
    """Have the Control API answer anything at all: that takes a Python that still runs, an open port does not."""
    import http.client
    import ssl

    from protos.preflight import BAD, GOOD, Finding

    port = home.settings.control_port
    try:
        context = ssl.create_default_context(cafile=str(home.keys / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        return Finding("SuperLink", BAD, f"no answer on port {port} of 127.0.0.1: {said}", _RESTART)
    return Finding("SuperLink", GOOD, f"answers on port {port} of 127.0.0.1, with status {status}")
