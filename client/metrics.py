"""``onebasin site metrics``: what Prometheus sees of a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protos.options import AddressOption, OnceOption, TextfileOption

ADDRESS = "127.0.0.1:9110"


def metrics(
    folder: Annotated[Path, typer.Argument(help="The site's folder.", metavar="FOLDER")],
    address: AddressOption = ADDRESS,
    once: OnceOption = False,
    textfile: TextfileOption = None,
) -> None:
    """Show metrics to Prometheus, with health and readiness beside them; ends with Ctrl-C.

    `/metrics` is read from the site's folder at each scrape; none of it goes to the coordinator. `/healthz` and
    `/readyz` answer as the command `health`, with and without `--live`. Run it as the user whom the SuperNode runs
    as. There are no accounts and there is no encryption: to listen elsewhere than on loopback is for a management
    network.
    """
    from client.health import look
    from client.readings import Readings
    from client.site import Site
    from protos import logs
    from protos.metrics import Exporter
    from protos.scraping import Health, publish

    site = Site.open(folder)
    logs.about(site=site.name)
    health = Health(lambda: look(site), lambda: look(site, live=True), f"site {site.name}")
    exporter = Exporter(
        {**Readings(site).parts(), "health": health.samples},
        lambda said: logs.say(said, level="warning", event="metrics", err=True),
    )
    publish(exporter, health, address, once=once, textfile=textfile)
