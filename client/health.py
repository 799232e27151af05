"""``onebasin site health``: whether the SuperNode runs, and is connected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import psutil

    from client.site import Site
    from protos.preflight import Finding

_MODULE = "client.flower_supernode"


def health(
    folder: Annotated[Path, typer.Argument(help="The site's folder.", metavar="FOLDER")],
    live: Annotated[
        bool, typer.Option("--live", help="Only whether the program runs: what a restart would mend.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to go on looking while it is not well, as after a start.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether the SuperNode is well; cheap, for health checks. Run it as the user whom the SuperNode runs as.

    It runs, and it holds a connection to the coordinator. Ends with exit code 15 if not. What a campaign needs
    besides is looked at by `preflight`.
    """
    from client.site import Site
    from protos.health import ask

    site = Site.open(folder)
    ask(lambda: look(site, live=live), f"site {site.name}", wait, as_json=as_json)


def look(site: Site, *, live: bool = False) -> Iterator[Finding]:
    """Look at a site's SuperNode, from outside: its process, and the connections of that.

    Args:
        site: The site.
        live: Look only whether the program runs.

    """
    from protos.preflight import BAD, GOOD, Finding

    process = _process(site)
    if process is None:
        yield Finding("SuperNode", BAD, "it does not run here", f"start it: onebasin site supernode {site.folder}")
        return
    yield Finding("SuperNode", GOOD, f"runs as process {process.pid}")
    if not live:
        yield _connected(process, site.address)


def _process(site: Site) -> psutil.Process | None:
    """Find the process of a site's SuperNode by its command line; its own apps have others."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # None: it is somebody else's
        if _MODULE in words and words[words.index(_MODULE) + 1 :][:1] == [str(site.folder)]:
            return process
    return None


def _connected(process: psutil.Process, address: str) -> Finding:
    import psutil

    from protos.addresses import Address
    from protos.preflight import BAD, GOOD, UNCHECKED, Finding

    port = Address.parse(address).port
    try:
        found = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return Finding("connection", BAD, "the SuperNode ended just now", "it is started again; look again")
    except psutil.AccessDenied:
        said = "whether it is connected can be seen only by the user whom it runs as"
        return Finding("connection", UNCHECKED, said)
    if any(one.status == psutil.CONN_ESTABLISHED and one.raddr and one.raddr.port == port for one in found):
        return Finding("connection", GOOD, f"connected to {address}")
    fix = "is the coordinator up, and does a firewall let this machine out? onebasin site preflight says more"
    return Finding("connection", BAD, f"not connected to {address}", fix)
